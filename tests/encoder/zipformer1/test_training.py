"""What the first Zipformer does in training only, and which shapes it refuses."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from tests.encoder.zipformer1.published import LENS, TINY, TINY_CAUSAL, features
from zipasr.encoder.chunks import WHOLE
from zipasr.encoder.zipformer1.config import Zipformer1Config
from zipasr.encoder.zipformer1.layer import block_drop_rate
from zipasr.encoder.zipformer1.model import Zipformer
from zipasr.encoder.zipformer1.scaling import ActivationBalancer, EarlyWhiten
from zipasr.encoder.zipformer1.stack import WarmUp, ZipformerEncoder
from zipasr.nn.schedule import set_batch_count


@pytest.mark.parametrize("config", [TINY, TINY_CAUSAL])
def test_gradients_reach_every_parameter(config: Zipformer1Config) -> None:
    random.seed(1)
    torch.manual_seed(1)
    model = Zipformer(config)
    missing = {name for name, _ in model.named_parameters()}
    for _ in range(8):  # whatever one step leaves out, another one has
        encoded, lens = model(features(), torch.tensor(LENS))
        encoded.square().sum().backward()
        missing -= {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert lens.tolist() == [36, 23]
    assert not missing


@pytest.mark.parametrize(
    ("count", "rate"),
    [(0, 0.0), (1, 0.5), (999, 0.5), (1500, 0.5 - 0.45 * 500 / 2000), (2000.5, 0.05), (9e9, 0.05)],
)
def test_layers_are_dropped_as_published(count: float, rate: float) -> None:
    schedule = WarmUp(begin=1000.0, end=2000.0).drop_rate(0, 1)
    assert schedule.schedule(count) == pytest.approx(rate)


def test_span_of_a_stack_is_shared_by_its_layers() -> None:
    schedule = WarmUp(begin=1000.0, end=2000.0).drop_rate(1, 2).schedule
    assert schedule(1499) == pytest.approx(0.5)
    assert schedule(1750) == pytest.approx(0.5 - 0.45 * 250 / 2000)


@pytest.mark.parametrize(
    ("causal", "rates"), [(False, (0.2, 0.2, 0.2, 0.0)), (True, (0.2, 0.1, 0.0, 0.0))]
)
def test_blocks_are_dropped_as_published(causal: bool, rates: tuple[float, ...]) -> None:
    schedule = block_drop_rate(causal).schedule
    assert [schedule(b) for b in (0, 1000, 2000, 2001)] == pytest.approx(rates)


def test_as_many_layers_are_dropped_in_every_process() -> None:
    config = TINY.layer_config(0)
    random.seed(3)
    stack = ZipformerEncoder(config, 4, WarmUp(begin=1e6, end=2e6))
    set_batch_count(stack, 1000)
    draws = [stack._dropped(num_elements) for num_elements in range(40)]
    assert {len(dropped) for dropped in draws} == {2}
    assert len(set(draws)) > 3
    set_batch_count(stack, 0)
    assert not stack._dropped(1)


def test_feature_masks_hide_the_same_time_in_all_stacks() -> None:
    torch.manual_seed(0)
    model = Zipformer(TINY)
    masks = model._feature_masks(torch.zeros(71, 2, 24))
    factors, dims = TINY.zipformer_downsampling_factors, TINY.encoder_dims
    hidden = []
    for mask, factor, dim in zip(masks, factors, dims, strict=True):
        assert mask is not None
        assert mask.shape == (-(-71 // factor), 2, dim)
        assert (mask[..., :16] == 1.0).all()
        column = mask[..., 16:]
        assert ((column == column[..., :1]).all()) or column.size(-1) == 0
        if dim > 16:
            hidden.append(column[..., 0].repeat_interleave(factor, dim=0)[:64])
    assert all(torch.equal(h, hidden[0]) for h in hidden)
    assert 0.0 < hidden[0].mean() < 1.0


def test_chunks_drawn_in_training() -> None:
    random.seed(0)
    model = Zipformer(TINY_CAUSAL)
    sizes = {model._chunks(400).size for _ in range(500)}
    assert sizes == {-1, 8, 16, 24, 32, 40, 48}
    assert model._chunks(9) == WHOLE  # too short to be cut
    assert model.eval()._chunks(400).size == 16


def test_count_of_a_balancer_is_in_its_state() -> None:
    balancer = ActivationBalancer(channel_dim=-1)
    x = torch.zeros(2, 3, requires_grad=True)
    for _ in range(5):
        balancer(x)
    balancer(x.detach())  # without a gradient there is nothing to do
    again = ActivationBalancer(channel_dim=-1)
    again.load_state_dict(balancer.state_dict())
    assert again.num_calls == 5


def test_whiten_looks_now_and_then_whether_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.0)
    whiten = EarlyWhiten(1, 5.0, prob=(0.025, 0.25), grad_scale=0.01)
    torch.manual_seed(0)
    white = torch.randn(500, 4, requires_grad=True)
    whiten(white)
    assert whiten.prob == 0.025
    alike = torch.randn(500, 1).expand(-1, 4) + 0.01 * torch.randn(500, 4)
    wide = torch.cat([alike, alike + 0.01 * torch.randn(500, 4)], dim=1).requires_grad_()
    whiten(wide)
    assert whiten.prob == 0.25


def test_partner_of_a_stack() -> None:
    assert [Zipformer1Config().skip_partner(i) for i in range(5)] == [None, None, None, None, 1]
    six = Zipformer1Config(
        num_encoder_layers=(1,) * 6,
        feedforward_dims=(8,) * 6,
        nhead=(1,) * 6,
        encoder_dims=(8,) * 6,
        attention_dims=(8,) * 6,
        encoder_unmasked_dims=(8,) * 6,
        cnn_module_kernels=(3,) * 6,
        zipformer_downsampling_factors=(1, 2, 4, 8, 4, 2),
    )
    assert [six.skip_partner(i) for i in range(6)] == [None, None, None, None, 2, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nhead": (2, 4)}, "--nhead has 2 values, but --zipformer-downsampling-factors has 5"),
        ({"encoder_dims": (24, 24, 32, 24, 40)}, "must not fall"),
        ({"encoder_dims": (24, 24, 32, 32, 41)}, "must be even"),
        ({"encoder_unmasked_dims": (32,) * 5}, "must not exceed --encoder-dims"),
        ({"attention_dims": (16, 16, 24, 24, 18)}, "--attention-dims 18 must be a multiple of 2 x"),
        ({"cnn_module_kernels": (7, 7, 5, 3, 8)}, "must be odd"),
        ({"num_encoder_layers": (2, 0, 1, 1, 2)}, "must be positive"),
        ({"dropout": 1.0}, "--dropout must be"),
        ({"zipformer_downsampling_factors": (1, 2, 1, 8, 2)}, "only grow where"),
    ],
)
def test_shapes_that_cannot_work(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)
