"""Whiten: its closed form against autograd through the definition, and its probability."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from zipasr.base.errors import CheckpointError
from zipasr.nn.schedule import ScheduledFloat, set_batch_count
from zipasr.nn.whiten import Whiten, load_whiten_state, spread, whiten_state


def metric_by_definition(x: Tensor, num_groups: int) -> Tensor:
    """Mean squared entry over squared mean diagonal entry, with loops over the groups."""
    num_channels = x.shape[-1]
    flat = x.reshape(-1, num_channels)
    flat = flat - flat.mean(0)
    matrices = [part.t() @ part for part in flat.chunk(num_groups, dim=1)]
    diagonal = torch.cat([m.diag() for m in matrices]).mean()
    square = sum((m**2).sum() for m in matrices) / num_channels
    return square / (diagonal**2 + 1e-20)


def oracle(x: Tensor, grad: Tensor, num_groups: int, grad_scale: float) -> Tensor:
    """The changed gradient above the limit, by autograd in float64."""
    x = x.detach().double().requires_grad_()
    (push,) = torch.autograd.grad(metric_by_definition(x, num_groups), x)
    grad = grad.double()
    return grad + push * grad_scale * grad.norm() / (push.norm() + 1e-20)


def changed_gradient(x: Tensor, grad: Tensor, whiten: Whiten) -> Tensor:
    x = x.detach().clone().requires_grad_()
    whiten(x).backward(grad)
    assert x.grad is not None
    return x.grad


@pytest.mark.parametrize("name", "abc")
def test_values_of_the_reference(golden: dict[str, Tensor], name: str) -> None:
    groups, limit, grad_scale = golden[f"whiten.{name}.params"].tolist()
    whiten = Whiten(int(groups), limit, (0.025, 1.0), grad_scale)
    x = golden["whiten.x"]
    assert spread(x, int(groups)).metric == pytest.approx(
        golden[f"whiten.{name}.metric"].item(), rel=1e-5
    )
    found = changed_gradient(x, golden["whiten.g"], whiten)
    torch.testing.assert_close(found, golden[f"whiten.{name}.grad"], rtol=1e-5, atol=1e-5)
    assert whiten.prob == golden[f"whiten.{name}.prob_after"].item()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    groups=st.sampled_from([1, 2, 4]),
    scale=st.floats(1e-3, 1e3),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_equals_autograd_through_the_definition(
    seed: int, groups: int, scale: float, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(9, 3, 8, generator=generator, dtype=torch.float64)
    x = scale * (x @ torch.randn(8, 8, generator=generator, dtype=torch.float64) + 1)
    grad = torch.randn(9, 3, 8, generator=generator, dtype=torch.float64)
    whiten = Whiten(groups, 1.0, 1.0, 0.1)
    found = changed_gradient(x.to(dtype), grad.to(dtype), whiten).double()
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    expected = oracle(x, grad, groups, 0.1)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    expected_metric = metric_by_definition(x, groups).item()
    assert spread(x, groups).metric == pytest.approx(expected_metric, rel=1e-9)


def test_channels_moved_last() -> None:
    image = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    x, grad = image.permute(0, 2, 3, 1), torch.randn(2, 5, 4, 6, dtype=torch.float64)
    found = changed_gradient(x, grad, Whiten(1, 1.0, 1.0, 0.1))
    torch.testing.assert_close(found, oracle(x, grad, 1, 0.1))


def test_white_channels_have_metric_one() -> None:
    x, _ = torch.linalg.qr(torch.randn(50, 6, dtype=torch.float64))
    x = x - x.mean(0)
    x, _ = torch.linalg.qr(x)
    assert spread(x, 1).metric == pytest.approx(1.0, abs=1e-6)


def test_descent_lowers_the_metric() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(100, 4, generator=generator) * torch.tensor([1.0, 1.0, 0.1, 0.1])
    whiten = Whiten(1, 1.05, 1.0, 0.5)
    before = spread(x, 1).metric
    for step in range(300):
        sign = 0.02 if step % 2 else -0.02
        x = x - changed_gradient(x, torch.full_like(x, sign), whiten)
    assert before > 1.8
    assert spread(x, 1).metric < 1.2


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), groups=st.sampled_from([1, 2, 3, 6]))
def test_forward_is_the_identity(seed: int, groups: int) -> None:
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(Whiten(groups, 2.0, 1.0, 0.1)(x.clone().requires_grad_()), x)


def test_probability_falls_below_the_limit_and_rises_above_it() -> None:
    limit = ScheduledFloat((0, 1.0), (10, 1e6), default=1.0)
    whiten = Whiten(1, limit, (0.999, 1.0), 0.1)
    x, grad = torch.randn(8, 4), torch.randn(8, 4)
    set_batch_count(whiten, 10)
    random.seed(1)
    assert torch.equal(changed_gradient(x, grad, whiten), grad)
    assert whiten.prob == 0.999
    set_batch_count(whiten, 0)
    assert not torch.equal(changed_gradient(x, grad, whiten), grad)
    assert whiten.prob == 1.0


def test_silent_input_gives_the_gradient_unchanged() -> None:
    grad = torch.randn(5, 4)
    whiten = Whiten(2, 1.0, (0.25, 1.0), 0.1)
    assert torch.equal(changed_gradient(torch.full((5, 4), 0.5), grad, whiten), grad)
    assert whiten.prob == 0.25


def test_coin_is_drawn_only_for_inputs_that_require_a_gradient() -> None:
    whiten = Whiten(1, 2.0, (0.0, 0.25), 0.1)
    state = random.getstate()
    whiten(torch.randn(2, 3))
    assert random.getstate() == state
    x = torch.randn(2, 3, requires_grad=True)
    random.seed(0)
    acted = sum(whiten(x) is not x for _ in range(2000))
    assert abs(acted / 2000 - 0.25) < 0.04
    assert Whiten(1, 2.0, 1.0, 0.0)(x) is x


def test_gradient_keeps_its_type_and_is_computed_in_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(30, 4, generator=generator).bfloat16() for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        found = changed_gradient(x, grad, Whiten(1, 1.0, 1.0, 0.5))
    assert found.dtype == torch.bfloat16
    expected = oracle(x, grad, 1, 0.5)
    torch.testing.assert_close(found.double(), expected, rtol=5e-3, atol=5e-3)


def test_state_is_saved_by_name_and_restored() -> None:
    def build() -> nn.Module:
        return nn.Sequential(
            Whiten(1, 2.0, (0.025, 0.25), 0.1), nn.ModuleDict({"w": Whiten(1, 2.0, 0.5, 0.1)})
        )

    model, restored = build(), build()
    model[0].prob = 0.025
    assert whiten_state(model) == {"0": 0.025, "1.w": 0.5}
    load_whiten_state(restored, whiten_state(model))
    assert whiten_state(restored) == whiten_state(model)
    assert not model.state_dict()
    with pytest.raises(CheckpointError, match=r"'1\.w'"):
        load_whiten_state(restored, {"0": 0.025})


def test_out_of_memory_lets_the_gradient_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> Tensor:
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr("zipasr.nn.whiten.spread", fail)
    grad = torch.randn(4, 3)
    assert torch.equal(changed_gradient(torch.randn(4, 3), grad, Whiten(1, 1.0, 1.0, 0.1)), grad)
