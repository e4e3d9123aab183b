"""Balancer: its closed form against autograd through the definition."""

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from zipasr.nn.balancer import Balancer
from zipasr.nn.schedule import set_batch_count


def atanh_limit(positive: float) -> float:
    z = 2 * positive - 1
    return 0.8139535143 * (math.log(1 + z + 1e-10) - math.log(1 - z + 1e-10)) / 2


def oracle(x: Tensor, grad: Tensor, balancer: Balancer) -> Tensor:
    """The changed gradient by autograd in float64, from the loss that defines the push."""
    x = x.detach().double().requires_grad_()
    dims = [d for d in range(x.ndim) if d != balancer.channel_dim % x.ndim]
    mean = x.mean(dims, keepdim=True)
    square = x.square().mean(dims, keepdim=True)
    std = (square - mean**2).clamp(min=1e-20).sqrt()
    rms = square.clamp(min=1e-20).sqrt()
    ratio = mean / std
    lowest, highest = (
        atanh_limit(float(p)) for p in (balancer.min_positive, balancer.max_positive)
    )
    smallest, largest = (1.25331413732 * float(a) for a in (balancer.min_abs, balancer.max_abs))
    loss = (ratio - ratio.clamp(lowest, highest)).abs()
    loss = loss + (rms.clamp(smallest, largest) / rms).log().abs()
    (push,) = torch.autograd.grad(loss.sum(), x)
    push_rms = push.square().mean(dims, keepdim=True).sqrt().clamp(min=1e-20)
    push = push * float(balancer.grad_scale) / push_rms
    return grad.double() + grad.double().abs() * push


def changed_gradient(x: Tensor, grad: Tensor, balancer: Balancer) -> Tensor:
    x = x.detach().clone().requires_grad_()
    balancer(x).backward(grad)
    assert x.grad is not None
    return x.grad


def mixed_channels(seed: int, shape: tuple[int, ...], channel_dim: int) -> tuple[Tensor, Tensor]:
    """Activations whose channels differ in mean and size by orders of magnitude; a gradient."""
    generator = torch.Generator().manual_seed(seed)
    broadcast = [1] * len(shape)
    broadcast[channel_dim] = shape[channel_dim]
    x, grad = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    offset, size = (torch.randn(broadcast, generator=generator).double() for _ in range(2))
    return (x + offset) * (2 * size).exp(), grad


@pytest.mark.parametrize("name", "abcde")
def test_values_of_the_reference(golden: dict[str, Tensor], name: str) -> None:
    balancer = Balancer(12, -1, *golden[f"bal.{name}.params"].tolist(), prob=1.0)
    found = changed_gradient(golden["bal.x"], golden["bal.g"], balancer)
    torch.testing.assert_close(found, golden[f"bal.{name}.grad"], rtol=1e-5, atol=1e-5)


def test_values_of_the_reference_for_images(golden: dict[str, Tensor]) -> None:
    x, grad = (golden[key].permute(1, 2, 0).reshape(3, 12, 8, 5) for key in ("bal.x", "bal.g"))
    balancer = Balancer(12, 1, 0.4, 0.6, 1.0, 6.0, prob=1.0)
    found = changed_gradient(x, grad, balancer)
    torch.testing.assert_close(found, golden["bal.f.grad"], rtol=1e-5, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    channel_dim=st.integers(-3, 2),
    positive=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    size=st.tuples(st.floats(0, 2), st.floats(0.01, 100)),
)
def test_equals_autograd_through_the_definition(
    seed: int, channel_dim: int, positive: tuple[float, float], size: tuple[float, float]
) -> None:
    x, grad = mixed_channels(seed, (6, 5, 7), channel_dim)
    # Limits in the wrong order are included: unset schedules can give them.
    balancer = Balancer(x.shape[channel_dim], channel_dim, *positive, *size, prob=1.0)
    expected = oracle(x, grad, balancer)
    torch.testing.assert_close(changed_gradient(x, grad, balancer), expected, rtol=1e-7, atol=1e-7)
    found = changed_gradient(x.float(), grad.float(), balancer)
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3)


def test_dead_channel_is_pushed_by_its_sign_alone() -> None:
    x, grad = torch.zeros(10, 3), torch.randn(10, 3)
    balancer = Balancer(3, -1, min_positive=0.6, prob=1.0)
    found = changed_gradient(x, grad, balancer)
    torch.testing.assert_close(found, grad - 0.04 * grad.abs())
    torch.testing.assert_close(found.double(), oracle(x, grad, balancer), rtol=1e-6, atol=1e-6)
    assert torch.equal(changed_gradient(x, grad, Balancer(3, -1, prob=1.0)), grad)


@pytest.mark.parametrize("value", [3.0, 1e-12, 1e18])
def test_constant_channels_give_finite_gradients(value: float) -> None:
    found = changed_gradient(torch.full((10, 3), value), torch.ones(10, 3), Balancer(3, 1, prob=1))
    assert torch.isfinite(found).all()


def test_channel_within_its_limits_is_left_alone() -> None:
    x, grad = torch.randn(1000, 2), torch.randn(1000, 2)
    x[:, 1] += 5.0
    found = changed_gradient(x, grad, Balancer(2, -1, prob=1.0))
    assert torch.equal(found[:, 0], grad[:, 0])
    assert (found[:, 1] - grad[:, 1]).abs().mean() > 0.01


def test_descent_leads_channels_into_their_limits() -> None:
    x = torch.randn(200, 1, generator=torch.Generator().manual_seed(0)) * 8 + 6
    balancer = Balancer(1, -1, min_positive=0.4, max_positive=0.6, max_abs=2.0, prob=1.0)
    for step in range(600):
        signs = torch.ones_like(x) if step % 2 else -torch.ones_like(x)
        x = x - changed_gradient(x, signs, balancer)
    assert 0.35 < (x > 0).float().mean().item() < 0.65
    assert x.abs().mean().item() < 2.2


def test_works_on_slices_and_transposed_tensors() -> None:
    whole, grad = mixed_channels(3, (6, 4, 10), -1)
    balancer = Balancer(5, -1, 0.4, 0.6, prob=1.0)
    for x, g in ((whole[..., 5:], grad[..., 5:]), (whole[..., :5].transpose(0, 1), grad[..., :5])):
        g = g.transpose(0, 1) if g.shape != x.shape else g
        torch.testing.assert_close(changed_gradient(x, g, balancer), oracle(x, g, balancer))


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), prob=st.floats(0, 1))
def test_forward_is_the_identity(seed: int, prob: float) -> None:
    x, _ = mixed_channels(seed, (3, 4, 5), 1)
    assert torch.equal(Balancer(4, 1, prob=prob)(x.clone().requires_grad_()), x)


def test_coin_is_drawn_only_for_inputs_that_require_a_gradient() -> None:
    balancer = Balancer(3, -1)
    state = random.getstate()
    balancer(torch.randn(2, 3))
    assert random.getstate() == state
    balancer.eval()(torch.randn(2, 3, requires_grad=True))
    assert random.getstate() != state


@pytest.mark.parametrize(("count", "expected"), [(0, 0.5), (4000, 0.3125), (9000, 0.125)])
def test_acts_as_often_as_its_probability_says(count: float, expected: float) -> None:
    balancer = Balancer(1, -1)
    assert float(balancer.prob) == 0.4
    set_batch_count(balancer, count)
    random.seed(0)
    x = torch.zeros(1, 1, requires_grad=True)
    acted = sum(balancer(x) is not x for _ in range(2000))
    assert abs(acted / 2000 - expected) < 0.04


def test_gradient_keeps_its_type_and_is_computed_in_float32() -> None:
    x, grad = (t.bfloat16() for t in mixed_channels(1, (50, 6), 1))
    balancer = Balancer(6, 1, 0.4, 0.6, 1.0, 2.0, prob=1.0)
    found = changed_gradient(x, grad, balancer)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), oracle(x, grad, balancer), rtol=1e-2, atol=1e-2)


def test_out_of_memory_lets_the_gradient_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> Tensor:
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr("zipasr.nn.balancer.balanced_gradient", fail)
    grad = torch.randn(4, 3)
    assert torch.equal(changed_gradient(torch.randn(4, 3), grad, Balancer(3, 1, prob=1.0)), grad)
