"""Identities whose gradients follow rules."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from zipasr.nn.gradients import ScaleGrad, limit_param_value, penalize_abs_values_gt
from zipasr.nn.schedule import ScheduledFloat, set_batch_count


def test_limit_values_of_the_reference(golden: dict[str, Tensor]) -> None:
    x = golden["limit.x"].clone().requires_grad_()
    y = limit_param_value(x, min=-1.5, max=1.5, prob=1.0)
    y.backward(golden["limit.g"])
    assert torch.equal(y, golden["limit.x"])
    assert torch.equal(x.grad, golden["limit.grad"])


@given(
    x=st.floats(-3, 3, width=32),
    g=st.floats(-3, 3, width=32),
    lowest=st.floats(-2, 2, width=16),
    highest=st.floats(-2, 2, width=16),
)
def test_limit_sign_rules(x: float, g: float, lowest: float, highest: float) -> None:
    value = torch.tensor(x, requires_grad=True)
    limit_param_value(value, lowest, highest, prob=1.0).backward(torch.tensor(g))
    expected = -g if x < lowest and g > 0 else g
    expected = -expected if x > highest and expected < 0 else expected
    assert value.grad is not None
    assert value.grad.item() == expected


def test_limit_draws_its_coin_only_in_training() -> None:
    x = torch.zeros(2, requires_grad=True)
    state = random.getstate()
    assert limit_param_value(x, -1.0, 1.0, training=False) is x
    assert random.getstate() == state
    random.seed(0)
    acted = sum(limit_param_value(x, -1.0, 1.0) is not x for _ in range(2000))
    assert abs(acted / 2000 - 0.6) < 0.04


def test_limit_follows_a_schedule() -> None:
    lowest = ScheduledFloat((0, 0.9), (20000, 0.2))
    x = torch.full((1,), 0.5, requires_grad=True)
    for count, expected in ((0, -1.0), (20000, 1.0)):
        set_batch_count(lowest, count)
        x.grad = None
        limit_param_value(x, lowest, 1.0, prob=1.0).sum().backward()
        assert x.grad is not None
        assert x.grad.item() == expected


def test_penalty_values_of_the_reference(golden: dict[str, Tensor]) -> None:
    x = golden["penalize.x"].clone().requires_grad_()
    y = penalize_abs_values_gt(x, limit=25.0, penalty=1e-4)
    y.backward(golden["penalize.g"])
    assert torch.equal(y, golden["penalize.x"])
    torch.testing.assert_close(x.grad, golden["penalize.grad"], rtol=0, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_penalty_adds_the_gradient_of_its_definition(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(20, 5, generator=generator).to(dtype) for _ in range(2))
    direct, composed = (x.clone().requires_grad_() for _ in range(2))
    penalize_abs_values_gt(direct, 1.0, 0.25).backward(grad)
    composed.backward(grad)
    (0.25 * (composed.abs() - 1.0).relu()).sum().backward()
    torch.testing.assert_close(direct.grad, composed.grad)
    assert direct.grad is not None
    assert (direct.grad != grad).any()


def test_scale_grad_only_in_training() -> None:
    layer = ScaleGrad(0.2)
    x = torch.randn(3, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert torch.equal(y, x)
    torch.testing.assert_close(x.grad, torch.full((3,), 0.2))
    assert layer.eval()(x) is x
