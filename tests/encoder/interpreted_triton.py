"""The Triton kernels of attention on the CPU, by Triton's interpreter.

Run by test_relative_attention.py. The interpreter takes some milliseconds for each program: the
cases are few and small.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from tests.encoder.test_relative_attention import (
    by_formula,
    gradients,
    ours,
    random_mask,
    random_tensors,
)
from zipasr.encoder import relative_attention, triton_attention

CPU = torch.device("cpu")


@seed(1)  # the examples stay what they are when the text of the test changes
@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    sizes=st.tuples(*(st.integers(1, 3),) * 2, st.integers(1, 6), st.integers(0, 4)),
    seed=st.integers(0, 99),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    is_masked=st.booleans(),
    rows_at_once=st.sampled_from([1, 2048]),
)
def test_weights_and_gradients_follow_the_formula(
    sizes: tuple[int, int, int, int],
    seed: int,
    dtype: torch.dtype,
    is_masked: bool,
    rows_at_once: int,
) -> None:
    utterances, heads, targets, left_context = sizes
    exact = random_tensors(utterances, heads, targets, targets + left_context, seed)
    some = {name: t.detach().to(dtype).requires_grad_() for name, t in exact.items()}
    mask = random_mask(utterances, targets, targets + left_context, seed) if is_masked else None
    exact = {name: t.detach().double().requires_grad_() for name, t in some.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relative_attention, "_is_one_block", lambda _: True)
        patch.setattr(triton_attention.KERNELS, "work_on", lambda _: True)
        patch.setattr(triton_attention, "_MOST_ELEMENTS", rows_at_once)
        result = ours(some, mask)
        found = gradients(result, some)
    expected = by_formula(exact, mask)
    tolerance = 1e-4 if dtype == torch.float32 else 0.05
    for one, other in zip((result, *found), (expected, *gradients(expected, exact)), strict=True):
        assert one.dtype == dtype
        error = (one.double() - other).norm() / other.norm().clamp(min=1)
        assert error < tolerance


def test_the_self_check_passes() -> None:
    assert triton_attention.KERNELS.fault(CPU) is None
