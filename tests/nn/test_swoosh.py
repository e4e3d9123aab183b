"""The compiled loops and the torch operations of the swoosh activations, against float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from zipasr.nn import activations as room
from zipasr.nn.activations import (
    FEWEST_ELEMENTS,
    SWOOSHES,
    SwooshName,
    swoosh_gradient,
    swoosh_value,
    swoosh_value_and_gradient,
)

needs_numba = pytest.mark.skipif(room.compiled_loops() is None, reason="numba is not installed")
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 2**-8}


def exact(x: Tensor, name: SwooshName) -> tuple[Tensor, Tensor]:
    """Return value and slope in float64."""
    shift, offset, gain = SWOOSHES[name]
    wide = x.double()
    inner = gain * wide - shift
    value = torch.logaddexp(torch.zeros((), dtype=wide.dtype), inner) / gain
    return value - 0.08 * wide - offset, inner.sigmoid() - 0.08


def inputs(rows: int, columns: int, dtype: torch.dtype, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = (10 * torch.randn(rows, columns, generator=generator)).to(dtype)
    grad = torch.randn(rows, columns, generator=generator).to(dtype)
    mask = (torch.rand(1, columns, generator=generator) > 0.3).float() / 0.7
    return x, grad, mask


def check(name: SwooshName, x: Tensor, grad: Tensor, mask: Tensor | None) -> None:
    value, slope = exact(x, name)
    if mask is not None:
        value, slope = value * mask, slope * mask
    tolerance = TOLERANCE[x.dtype]
    close = {"rtol": tolerance, "atol": 2e-6}
    swoosh, out = SWOOSHES[name], torch.empty_like(x)
    torch.testing.assert_close(swoosh_value(x, swoosh, mask, x.dtype).double(), value, **close)
    y, _ = swoosh_value_and_gradient(x, swoosh, mask, grad, out)
    torch.testing.assert_close(y.double(), value, **close)
    torch.testing.assert_close(out.double(), slope * grad.double(), **close)
    if mask is None:
        gradient = swoosh_gradient(x, swoosh, grad)
        torch.testing.assert_close(gradient.double(), slope * grad.double(), **close)


@needs_numba
@settings(max_examples=25)
@given(
    name=st.sampled_from(tuple(SWOOSHES)),
    rows=st.integers(1, 5),
    extra=st.integers(0, 40),
    dtype=st.sampled_from(tuple(TOLERANCE)),
    is_masked=st.booleans(),
    seed=st.integers(0, 99),
)
def test_compiled_loops(
    name: SwooshName, rows: int, extra: int, dtype: torch.dtype, is_masked: bool, seed: int
) -> None:
    x, grad, mask = inputs(rows, FEWEST_ELEMENTS + extra, dtype, seed)
    assert room._kernels_for(x, grad) is not None
    check(name, x, grad, mask if is_masked else None)


@pytest.mark.parametrize("name", ["SwooshL", "SwashR"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("is_masked", [False, True])
def test_torch_operations(
    name: SwooshName, dtype: torch.dtype, is_masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "compiled_loops", lambda: None)
    x, grad, mask = inputs(3, FEWEST_ELEMENTS, dtype, seed=0)
    check(name, x, grad, mask if is_masked else None)


@needs_numba
def test_compiled_loops_go_through_every_size_of_number() -> None:
    special = torch.tensor([float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 1e-40, 0.0])
    x = torch.cat([special, torch.linspace(-200, 200, FEWEST_ELEMENTS)])
    for dtype in TOLERANCE:
        value, slope = exact(x.to(dtype), "SwooshR")
        actual = swoosh_value(x.to(dtype), SWOOSHES["SwooshR"], dtype=dtype).double()
        torch.testing.assert_close(
            actual[1:], value[1:].to(dtype).double(), rtol=2**-7, atol=3e-6, equal_nan=True
        )
        gradient = swoosh_gradient(
            x.to(dtype), SWOOSHES["SwooshR"], torch.ones_like(x, dtype=dtype)
        )
        assert actual[0].isnan()
        assert gradient[0].isnan()
        torch.testing.assert_close(gradient[1:].double(), slope[1:], rtol=2**-7, atol=1e-6)


@needs_numba
def test_loops_are_left_to_torch_where_they_cannot_work() -> None:
    x = torch.randn(64, 64)
    assert room._kernels_for(x) is not None
    assert room._kernels_for(x.double()) is None
    assert room._kernels_for(x.t()) is None
    assert room._kernels_for(x[:2, :2]) is None
    assert room._kernels_for(x.half()) is None
    assert room._kernels_for(x.to("meta")) is None
