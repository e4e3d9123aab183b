"""The Triton kernels of BiasNorm on the CPU, by Triton's interpreter; run by test_norm.py.

The interpreter takes some milliseconds for each program: the cases are few and small.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from zipasr.nn import bias_norm, triton_bias_norm

CPU = torch.device("cpu")


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1000),
    shape=st.lists(st.integers(0, 9), min_size=1, max_size=2),
    channels=st.sampled_from([1, 3, 16, 129, 2100]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    swapped=st.booleans(),
)
def test_values_and_gradients(
    seed: int, shape: list[int], channels: int, dtype: torch.dtype, swapped: bool
) -> None:
    g = torch.Generator().manual_seed(seed)
    x, grad = torch.randn(2, *shape, channels, generator=g).to(dtype)
    if swapped and len(shape) == 2:
        x = x.transpose(0, 1).contiguous().transpose(0, 1)
    bias = 0.3 * torch.randn(channels, generator=g).view(*[1] * len(shape), channels)
    scale = torch.tensor(0.3)
    found = triton_bias_norm.normalized(x, bias, scale)
    wanted = bias_norm.normalized(x, bias, scale, -1)
    compare(found, wanted, torch.float32)
    some = grad, x, bias, *wanted[1:]
    compare(triton_bias_norm.gradients(*some), bias_norm.gradients(*some, -1), dtype)


def compare(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...], dtype: torch.dtype) -> None:
    tolerance = max(2e-5, 2 * torch.finfo(dtype).eps)
    for one, other in zip(found, wanted, strict=True):
        # A vector of one channel may have next to no length: its factor is large.
        atol = tolerance * max(1.0, float(other.abs().max()) if other.numel() else 0.0)
        torch.testing.assert_close(one, other, rtol=tolerance, atol=atol)


def test_programs_that_take_several_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_bias_norm, "_MOST_PROGRAMS", 3)
    monkeypatch.setattr(triton_bias_norm, "_MOST_ELEMENTS", 16)
    x, grad = torch.randn(2, 43, 3, generator=torch.Generator().manual_seed(0))
    bias, scale = torch.tensor([[0.1, -0.2, 0.3]]), torch.tensor(0.3)
    some = grad, x, bias, *bias_norm.normalized(x, bias, scale, -1)[1:]
    wanted = bias_norm.gradients(*some, -1)
    compare(triton_bias_norm.gradients(*some), wanted, torch.float32)


def test_the_self_check_passes() -> None:
    assert triton_bias_norm.KERNELS.fault(CPU) is None
