"""SwooshL and SwooshR against their formula, in every number format."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from zipasr.nn.activations import SwooshL, SwooshR, swoosh_l, swoosh_r

SHIFT_OFFSET = {swoosh_l: (4.0, 0.035), swoosh_r: (1.0, 0.313261687)}
Function = Callable[[Tensor], Tensor]
both = pytest.mark.parametrize("function", [swoosh_l, swoosh_r])


def by_definition(x: float, shift: float, offset: float) -> float:
    t = x - shift
    softplus = t if t > 50 else math.log1p(math.exp(t))
    return softplus - 0.08 * x - offset


@both
@given(x=st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_equals_formula_for_any_finite_input(function: Function, x: float) -> None:
    expected = by_definition(x, *SHIFT_OFFSET[function])
    y = function(torch.tensor([x])).item()
    assert y == pytest.approx(expected, rel=1e-6, abs=1e-6)


@both
@given(x=st.floats(-1e30, 1e30))
def test_is_exact_in_float64(function: Function, x: float) -> None:
    expected = by_definition(x, *SHIFT_OFFSET[function])
    y = function(torch.tensor([x], dtype=torch.float64)).item()
    assert y == pytest.approx(expected, rel=1e-13, abs=1e-13)


@both
def test_derivative_by_finite_differences(function: Function) -> None:
    x = torch.linspace(-12, 12, 41, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, (x,))


@pytest.mark.parametrize(("name", "function"), [("l", swoosh_l), ("r", swoosh_r)])
def test_values_of_the_reference(golden: dict[str, Tensor], name: str, function: Function) -> None:
    x = golden["swoosh.x"].clone().requires_grad_()
    y = function(x)
    y.sum().backward()
    torch.testing.assert_close(y.detach(), golden[f"swoosh.{name}"], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(x.grad, golden[f"swoosh.{name}.deriv"], rtol=1e-12, atol=1e-12)
    stored = golden[f"swoosh.{name}.ref_float32"]
    torch.testing.assert_close(function(golden["swoosh.x"].float()), stored, rtol=1e-5, atol=1e-5)


@both
@pytest.mark.parametrize("value", [-3.4e38, -1e4, 1e4, 3.4e38])
def test_gradient_at_extremes(function: Function, value: float) -> None:
    x = torch.tensor([value], requires_grad=True)
    function(x).backward()
    assert x.grad is not None
    assert x.grad.item() == pytest.approx(-0.08 if value < 0 else 0.92)


@both
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(function: Function, dtype: torch.dtype) -> None:
    x = torch.linspace(-9, 9, 64).to(dtype).requires_grad_()
    y = function(x)
    wide = x.detach().float().requires_grad_()
    expected = function(wide)
    y.backward(torch.ones_like(y))
    expected.sum().backward()
    assert y.dtype == dtype
    assert torch.equal(y, expected.to(dtype))
    assert x.grad is not None
    assert torch.equal(x.grad, wide.grad.to(dtype))


def test_layers_are_their_functions_for_any_layout() -> None:
    x = torch.randn(3, 4, 5).transpose(0, 2)
    # Not bit by bit: torch's vector and scalar code round differently.
    torch.testing.assert_close(SwooshL()(x), swoosh_l(x.contiguous()))
    torch.testing.assert_close(SwooshR()(x), swoosh_r(x.contiguous()))
