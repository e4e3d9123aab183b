"""Training works in the causal model as in the other one: the same pushes in the same places."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.encoder.published import TINY, fill
from tests.encoder.sizes import small_config
from tests.encoder.test_golden import train_without_chance
from zipasr.encoder.zipformer.config import ZipformerConfig
from zipasr.encoder.zipformer.model import Zipformer2
from zipasr.nn.masks import make_pad_mask
from zipasr.nn.schedule import set_batch_count

LENS = torch.tensor([40, 26])


def alike(config: ZipformerConfig) -> tuple[Zipformer2, Zipformer2]:
    """Return a plain model, and a causal one whose convolutions do what those of the plain do."""
    plain = Zipformer2(config)
    # With these values the Whiteners are above their limits.
    fill(plain)
    causal = Zipformer2(replace(config, causal=True, chunk_size=(-1,)))
    values = plain.state_dict()
    for name, fresh in causal.state_dict().items():
        if "chunkwise_conv_scale" in name or ".causal_conv." in name:
            values[name] = torch.zeros_like(fresh)
        elif ".chunkwise_conv." in name:
            values[name] = values.pop(plain_name(name))
    causal.load_state_dict(values)
    return plain, causal


def plain_name(name: str) -> str:
    return name.replace(".chunkwise_conv.", ".")


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    train_without_chance(model)
    y, lens = model(x, LENS, make_pad_mask(LENS))
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(11))
    weights[make_pad_mask(lens).t()] = 0.0
    (y * weights).sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.usefixtures("no_chance")
def test_balancers_and_whiteners_act_as_in_the_plain_model() -> None:
    plain, causal = alike(TINY)
    x = torch.randn(40, 2, 32, generator=torch.Generator().manual_seed(0))
    expected, found = gradients(plain, x), gradients(causal, x)
    assert {name for name in found if ".causal_conv." in name}
    compared = {
        plain_name(name): grad for name, grad in found.items() if plain_name(name) in expected
    }
    assert compared.keys() == expected.keys()
    for name, grad in expected.items():
        assert (compared[name] - grad).norm() <= 1e-3 * grad.norm(), name


def test_a_seed_repeats_a_step_of_training() -> None:
    config = small_config(causal=True, chunk_size=(4, 8, -1), left_context_frames=(8, 16, -1))
    torch.manual_seed(0)
    encoder = Zipformer2(config)
    set_batch_count(encoder, 0.0)
    x = torch.randn(40, 2, 16)

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        random.seed(seed)
        y: Tensor = encoder(x, LENS, make_pad_mask(LENS))[0]
        return y.detach()

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


@pytest.mark.parametrize("chunk_size", [4, 8, -1])
def test_gradients_are_finite_in_half_precision(chunk_size: int) -> None:
    torch.manual_seed(0)
    encoder = Zipformer2(
        small_config(causal=True, chunk_size=(chunk_size,), left_context_frames=(8,))
    )
    lens = torch.tensor([13, 1])
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = encoder(torch.randn(13, 2, 16), lens, make_pad_mask(lens))
    y.float().square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
