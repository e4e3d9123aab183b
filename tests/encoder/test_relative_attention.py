"""Attention in blocks and its collected gradient, against the formula under autograd."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.other_process import needs_triton, run_python
from zipasr.encoder import relative_attention, triton_attention
from zipasr.encoder.attention_scores import Inputs, shift_positions
from zipasr.encoder.relative_attention import attention_weights

Tensors = dict[str, Tensor]


def random_tensors(
    num_utterances: int, num_heads: int, num_targets: int, num_sources: int, seed: int
) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "query": (num_utterances, num_heads, num_targets, 3),
        "key": (num_utterances, num_heads, num_sources, 3),
        "pos_query": (num_utterances, num_heads, num_targets, 2),
        "pos_key": (num_heads, num_targets - 1 + num_sources, 2),
        "values": (num_utterances, num_heads, num_sources, 5),
        "values_again": (num_utterances, num_heads, num_sources, 5),
        "values_of_one_head": (num_utterances, 1, num_sources, 7),
    }
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for name, shape in shapes.items()
    }


def random_mask(num_utterances: int, num_targets: int, num_sources: int, seed: int) -> Tensor:
    """Hide some sources: a target that sees none has weights, and a gradient, all the same."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(num_utterances, 1, num_targets, num_sources, generator=generator) < 0.3
    mask[..., 0] = False
    return mask


def ours(tensors: Tensors, mask: Tensor | None, penalize: bool = False) -> Tensor:
    parts = (tensors[name] for name in ("query", "key", "pos_query", "pos_key"))
    weights = attention_weights(Inputs(*parts, mask), penalize)
    products = [weights.mix(tensors[n]) for n in tensors if n.startswith("values")]
    return torch.cat([p.flatten() for p in products])


def by_formula(tensors: Tensors, mask: Tensor | None) -> Tensor:
    query, key = tensors["query"], tensors["key"]
    targets, sources = torch.arange(query.size(2))[:, None], torch.arange(key.size(2))
    by_source = tensors["pos_key"][:, query.size(2) - 1 - targets + sources]
    scores = torch.einsum("nhic,nhjc->nhij", query, key)
    scores = scores + torch.einsum("nhic,hijc->nhij", tensors["pos_query"], by_source)
    if mask is not None:
        scores = scores.masked_fill(mask, -1000.0)
    weights = scores.softmax(dim=-1)
    products = [
        weights[:, : value.size(1)] @ value
        for name, value in tensors.items()
        if name.startswith("values")
    ]
    return torch.cat([p.flatten() for p in products])


def gradients(result: Tensor, tensors: Tensors) -> tuple[Tensor, ...]:
    return torch.autograd.grad(result.square().sum(), list(tensors.values()))


@given(
    sizes=st.tuples(
        st.integers(1, 3),
        st.integers(1, 3),
        st.integers(1, 6),
        st.integers(0, 4),
        st.integers(0, 99),
    ),
    block_bytes=st.sampled_from((None, 1, 500, 5000, 1 << 20)),
    is_masked=st.booleans(),
)
def test_values_and_gradients_follow_the_formula_for_every_size_of_block(
    sizes: tuple[int, int, int, int, int], block_bytes: int | None, is_masked: bool
) -> None:
    """None: all at once, as on a GPU."""
    utterances, heads, targets, left_context, seed = sizes
    tensors = random_tensors(utterances, heads, targets, targets + left_context, seed)
    mask = random_mask(utterances, targets, targets + left_context, seed) if is_masked else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relative_attention, "block_bytes", lambda _: (block_bytes or 1 << 20) // 2)
        patch.setattr(relative_attention, "_is_one_block", lambda _: block_bytes is None)
        result = ours(tensors, mask)
        grads = gradients(result, tensors)
    expected = by_formula(tensors, mask)
    torch.testing.assert_close(result, expected)
    for grad, expected_grad in zip(grads, gradients(expected, tensors), strict=True):
        torch.testing.assert_close(grad, expected_grad)


def test_finite_differences() -> None:
    tensors = random_tensors(2, 2, 3, 4, seed=1)

    def function(*values: Tensor) -> Tensor:
        return ours(dict(zip(tensors, values, strict=True)), None)

    assert torch.autograd.gradcheck(function, tuple(tensors.values()))


def test_a_second_backward_pass_gives_the_same() -> None:
    tensors = random_tensors(2, 2, 3, 3, seed=2)
    loss = ours(tensors, None).square().sum()
    first = torch.autograd.grad(loss, list(tensors.values()), retain_graph=True)
    second = torch.autograd.grad(loss, list(tensors.values()))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("at_once", [False, True])
def test_large_scores_are_penalized(at_once: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relative_attention, "_is_one_block", lambda _: at_once)
    tensors = random_tensors(1, 2, 4, 4, seed=3)
    with torch.no_grad():
        tensors["query"].mul_(30)
    plain = gradients(ours(tensors, None), tensors)[0]
    penalized = gradients(ours(tensors, None, penalize=True), tensors)[0]
    scores = tensors["query"] @ tensors["key"].transpose(2, 3)
    by_distance = tensors["pos_query"] @ tensors["pos_key"].transpose(1, 2)
    scores = scores + shift_positions(by_distance.contiguous(), 4)
    push = 1.0e-4 * scores.sign() * (scores.abs() > 25.0)
    assert push.abs().sum() > 0
    torch.testing.assert_close(penalized - plain, push @ tensors["key"])


def test_constant_weights_are_uniform_over_the_visible_sources() -> None:
    tensors = random_tensors(2, 2, 3, 3, seed=4)
    mask = torch.tensor([[False, False, True], [False, False, False]])[:, None, None]
    parts = (tensors[name] for name in ("query", "key", "pos_query", "pos_key"))
    constant = attention_weights(Inputs(*parts, mask)).constant()
    assert constant.matrix.shape == (2, 1, 3, 3)
    row = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
    torch.testing.assert_close(constant.matrix[0, 0], row.expand(3, 3))


def test_half_precision_keeps_its_arithmetic_in_float32() -> None:
    tensors = random_tensors(2, 2, 8, 8, seed=5)
    half = {name: t.detach().bfloat16().requires_grad_() for name, t in tensors.items()}
    exact = {name: t.detach().double().requires_grad_() for name, t in half.items()}
    result, expected = ours(half, None), by_formula(exact, None)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.double(), expected, rtol=0.05, atol=0.05)
    grads = zip(gradients(result, half), gradients(expected, exact), strict=True)
    for grad, expected_grad in grads:
        error = (grad.double() - expected_grad).norm() / expected_grad.norm()
        assert error < 0.05


def test_shift_with_more_sources_than_targets() -> None:
    scores = torch.randn(2, 3, 7)
    shifted = shift_positions(scores, num_sources=5)
    for i in range(3):
        assert torch.equal(shifted[:, i], scores[:, i, 2 - i : 7 - i])


@needs_triton
def test_kernels_when_interpreted() -> None:
    command = "-m pytest -q -p no:cacheprovider tests/encoder/interpreted_triton.py"
    run_python(*command.split(), TRITON_INTERPRET="1")


COMPILE = """
from tests.compiled_triton import compile_everywhere
from zipasr.kernels.triton import attention as kernels

sizes = dict.fromkeys(
    ("num_heads", "num_targets", "num_sources", "num_distances", "num_utterances"), "i32"
)
strides = dict.fromkeys(("mask_utterance", "mask_head", "mask_target", "mask_source"), "i32")
for kind in ("*bf16", "*fp32"):
    forward = {"scores": kind, "by_distance": kind, "mask": "*u8", **sizes, **strides}
    names = ("grad", "weights", "scores", "by_distance", "distance_grad")
    backward = {**dict.fromkeys(names, kind), "silent": "*u8", **sizes}
    backward |= dict(silent_utterance="i32", limit="fp32", penalty="fp32")
    for rows, lanes, warps in ((4, 512, 8), (2, 1024, 8), (1, 4096, 16)):
        options, size = {"num_warps": warps, "num_stages": 1}, dict(rows=rows, lanes=lanes)
        compile_everywhere(
            kernels.attention_weights_kernel, forward, options, masked_score=-1000.0,
            positions=True, masked=True, **size,
        )
        for penalized in (0, 1, 2):
            compile_everywhere(
                kernels.attention_grad_kernel, backward, options, positions=True,
                penalized=penalized, has_silent=True, **size,
            )
"""


@needs_triton
def test_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    run_python("-c", COMPILE, TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path))


def test_a_device_without_kernels_is_told_in_one_sentence() -> None:
    """Not interpreted, the kernels cannot run on the CPU; without triton they cannot run at all."""
    reason = triton_attention.KERNELS.fault(torch.device("cpu"))
    assert reason is not None
    assert reason.endswith(".")
    assert not triton_attention.KERNELS.work_on(torch.device("cpu"))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_kernels_on_a_gpu() -> None:
    assert triton_attention.KERNELS.fault(torch.device("cuda", 0)) is None
