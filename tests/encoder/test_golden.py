"""The encoder against numbers recorded from the reference; tolerances in the golden README."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.encoder.published import GOLDEN, LENS, TINY, direction, features, fill
from zipasr.encoder.zipformer.front_end import Conv2dSubsampling
from zipasr.encoder.zipformer.model import Zipformer2, dropout_rate
from zipasr.nn.balancer import Balancer
from zipasr.nn.masks import make_pad_mask
from zipasr.nn.schedule import Dropout2, PiecewiseLinear, ScheduledFloat, set_batch_count
from zipasr.nn.whiten import Whiten

Recorded = dict[str, np.ndarray]

#: Schedules that leave something out at random.
RANDOM_RATES = (
    "attention_skip_rate",
    "const_attention_rate",
    "conv_skip_rate",
    "dropout_p",
    "dropout.p",
    "ff2_skip_rate",
    "ff3_skip_rate",
    "layerdrop_rate",
    "pos_emb_skip_rate",
    "skip_rate",
)


class Tiny(nn.Module):
    """Front end and encoder under the names that they have in a model."""

    def __init__(self) -> None:
        super().__init__()
        dropout = dropout_rate(TINY)
        self.encoder_embed = Conv2dSubsampling(80, TINY.encoder_dim[0], dropout=dropout)
        self.encoder = Zipformer2(TINY)

    def forward(self, x: Tensor) -> Tensor:
        x, lens = self.encoder_embed(x, torch.tensor(LENS))
        mask = make_pad_mask(lens, x.size(1))
        return self.encoder(x.transpose(0, 1), lens, mask)[0].transpose(0, 1)


@pytest.fixture
def tiny() -> Tiny:
    model = Tiny().eval()
    fill(model)
    return model


@pytest.fixture(scope="module")
def forward() -> Recorded:
    return dict(np.load(GOLDEN / "encoder" / "forward.npz"))


def assert_close(actual: Tensor, expected: np.ndarray, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(actual.detach(), torch.from_numpy(expected), rtol=0, atol=tolerance)


@torch.no_grad()
def test_outputs(tiny: Tiny, forward: Recorded) -> None:
    embedded, lens = tiny.encoder_embed(features(), torch.tensor(LENS))
    assert lens.tolist() == forward["embed_lens"].tolist()
    assert_close(embedded, forward["embed_out"])
    time_first = embedded.transpose(0, 1)
    mask = make_pad_mask(lens, time_first.size(0))
    encoded, encoded_lens = tiny.encoder(time_first, lens, mask)
    assert encoded_lens.tolist() == forward["encoder_lens"].tolist()
    assert_close(encoded.transpose(0, 1), forward["encoder_out"])
    alone, _ = tiny.encoder(time_first[:, :1], lens[:1])
    assert_close(alone.transpose(0, 1), forward["encoder_out_nomask_utt0"])


@torch.no_grad()
def test_blocks_of_the_first_layer(tiny: Tiny, forward: Recorded) -> None:
    seen: dict[str, Tensor] = {}
    stack = tiny.encoder.encoders[0]
    for name, module in stack.layers[0].named_children():
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
    tiny(features())
    assert_close(stack.encoder_pos(torch.zeros(71, 1, 1)), forward["pos_emb"], 1e-6)
    assert_close(
        seen.pop("self_attn_weights").matrix.transpose(0, 1)[:, :, :4],
        forward["layer0.self_attn_weights"],
    )
    names = [key.removeprefix("layer0.") for key in forward if key.startswith("layer0.")]
    for name in set(names) & seen.keys():
        assert_close(seen[name][::6], forward[f"layer0.{name}"])
    assert len(set(names) & seen.keys()) >= 6


def loss_of(tiny: Tiny, x: Tensor) -> Tensor:
    out = tiny(x)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(11))
    weights[1, 23:] = 0.0
    return (out * weights).sum()


#: Allowed difference, relative to the norm of the gradient.
TOLERANCE = 5e-4


def check_gradients(tiny: Tiny, recorded: Recorded) -> None:
    grads = {key: p.grad for key, p in tiny.named_parameters() if p.grad is not None}
    keys = recorded["keys"].tolist()
    assert sorted(grads) == keys
    for key, (norm, product) in zip(keys, recorded["values"], strict=True):
        grad = grads[key]
        assert grad.norm().item() == pytest.approx(norm, rel=TOLERANCE), key
        actual = (grad * direction(key, grad.shape)).sum().item()
        assert actual == pytest.approx(product, abs=TOLERANCE * norm), key


def test_gradients_without_training_effects(tiny: Tiny) -> None:
    recorded = dict(np.load(GOLDEN / "encoder" / "gradients_eval.npz"))
    for module in tiny.modules():
        if isinstance(module, Balancer | Whiten):
            module.forward = lambda x: x  # type: ignore[method-assign]
    x = features().requires_grad_()
    loss = loss_of(tiny, x)
    loss.backward()
    assert loss.item() == pytest.approx(float(recorded["loss"]), abs=1e-2)
    assert x.grad is not None
    assert_close(x.grad[:, ::10], recorded["x_grad"])
    check_gradients(tiny, recorded)


def train_without_chance(model: nn.Module) -> None:
    """Switch to training at batch count 1000, with all rates of dropping something at 0."""
    model.train()
    set_batch_count(model, 1000.0)
    for name, module in model.named_modules():
        if isinstance(module, ScheduledFloat) and name.endswith(RANDOM_RATES):
            module.schedule = PiecewiseLinear((0.0, 0.0))
        if isinstance(module, Dropout2):
            module.p = 0.0


@pytest.mark.usefixtures("no_chance")
def test_gradients_in_training(tiny: Tiny) -> None:
    recorded = dict(np.load(GOLDEN / "encoder" / "gradients_train_1000.npz"))
    train_without_chance(tiny)
    loss = loss_of(tiny, features())
    loss.backward()
    assert loss.item() == pytest.approx(float(recorded["loss"]), abs=1e-2)
    check_gradients(tiny, recorded)
