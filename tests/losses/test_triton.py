"""The Triton back end: interpreted on the CPU, compiled for a GPU, and run on one if there is one.

Triton reads at its first import whether to interpret, so that takes a process of its own.
"""

import math
from pathlib import Path

import pytest
import torch

from tests.losses.oracle import Batch
from tests.other_process import needs_triton, run_python
from zipasr.losses import recursion, triton_backend

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@needs_triton
def test_kernels_when_interpreted() -> None:
    command = "-m pytest -q -p no:cacheprovider tests/losses/interpreted_triton.py"
    run_python(*command.split(), TRITON_INTERPRET="1")


COMPILE = """
from itertools import product
from tests.compiled_triton import compile_everywhere
from zipasr.kernels.triton import lattices as kernels

narrow = {"num_warps": 2, "num_stages": 1}
pointers = ["*fp32"] * 2 + ["*i64"] * 3 + ["*fp32"] * 5
names = kernels.recursion_kernel.arg_names
types = dict(zip(names, [*pointers, *["i32"] * 9]))
for band, regular in product([True, False], repeat=2):
    for ptx in compile_everywhere(
        kernels.recursion_kernel, types, narrow, band=band, regular=regular, lanes=64
    ):
        assert "bar.sync" in ptx and "ld.global.nc" not in ptx
types = dict(logits="*bf16", targets="*i64", lse="*fp32", px="*fp32", py="*fp32", blank="i32")
compile_everywhere(kernels.softmax_arcs_kernel, types, narrow, vocab=500, block=512)
types = dict(logits="*bf16", lse="*fp32", targets="*i64", px_grad="*fp32", py_grad="*fp32")
types |= dict(grad="*bf16", blank="i32")
compile_everywhere(kernels.softmax_arcs_grad_kernel, types, narrow, vocab=500, block=512)
"""


@needs_triton
def test_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    run_python("-c", COMPILE, TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path))


def test_a_device_without_kernels_is_told_in_one_sentence() -> None:
    """Not interpreted, the kernels cannot run on the CPU; without triton they cannot run at all."""
    reason = triton_backend.KERNELS.fault(torch.device("cpu"))
    assert reason is not None
    assert reason.endswith(".")
    assert "\n" not in reason


def test_more_labels_than_a_program_holds_are_left_to_torch() -> None:
    px, py = torch.zeros(1, 4096, 2), torch.zeros(1, 4097, 1)
    score = triton_backend.full_recursion(px, py, torch.tensor([1]), torch.tensor([1])).score
    assert score.tolist() == pytest.approx([math.log(2)])


def test_what_the_kernels_cannot_do_is_refused() -> None:
    px, py = Batch(0, (1, 1, 4)).arcs(regular=True)
    lens = torch.tensor([1]), torch.tensor([1])
    with pytest.raises(ValueError, match="float64"):
        triton_backend.full_recursion(px, py, *lens)
    logits, targets = torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="float64"):
        triton_backend.softmax_arcs(logits.double(), targets, 0)
    arc = torch.zeros(1, 1, 2)
    with pytest.raises(ValueError, match="contiguous"):
        triton_backend.softmax_arcs_grad(
            logits.expand(2, 1, 2, 3), arc, targets, 0, arc, arc, in_place=True
        )


@pytest.mark.cuda
@needs_triton
@needs_gpu
def test_self_check_on_a_gpu() -> None:
    assert triton_backend.KERNELS.fault(torch.device("cuda")) is None


@pytest.mark.cuda
@needs_triton
@needs_gpu
@pytest.mark.parametrize("num_symbols", [60, 300])
@pytest.mark.parametrize("regular", [True, False])
def test_long_lattices_on_a_gpu(regular: bool, num_symbols: int) -> None:
    """Many steps and several warps, many times: a missing barrier would not fail every time."""
    px, py = (x.cuda() - 3 for x in Batch(1, (4, 400, num_symbols)).arcs(regular))
    lens = torch.tensor([num_symbols] * 4).cuda(), torch.tensor([400] * 4).cuda()
    expected = recursion.full_recursion(px, py, *lens)
    first = triton_backend.full_recursion(px.float(), py.float(), *lens)
    torch.testing.assert_close(first.score.double(), expected.score, rtol=2e-6, atol=0)
    torch.testing.assert_close(first.px_grad.double(), expected.px_grad, rtol=0, atol=5e-5)
    torch.testing.assert_close(first.py_grad.double(), expected.py_grad, rtol=0, atol=5e-5)
    for _ in range(50):
        again = triton_backend.full_recursion(px.float(), py.float(), *lens)
        assert all(torch.equal(x, y) for x, y in zip(again, first, strict=True))


@pytest.mark.cuda
@needs_triton
@needs_gpu
@pytest.mark.parametrize("regular", [True, False])
def test_long_bands_on_a_gpu(regular: bool) -> None:
    px, py = (x.cuda() for x in (Batch(2).randn(2, 4, 400, 5) - 3).unbind())
    starts = (torch.arange(400) // 4).clamp(max=96).expand(4, 400).cuda()
    rest = (starts, torch.tensor([100] * 4).cuda(), torch.tensor([400] * 4).cuda(), 100, regular)
    expected = recursion.band_recursion(px, py, *rest)
    result = triton_backend.band_recursion(px.float(), py.float(), *rest)
    torch.testing.assert_close(result.score.double(), expected.score, rtol=2e-6, atol=0)
    torch.testing.assert_close(result.px_grad.double(), expected.px_grad, rtol=0, atol=5e-5)
    torch.testing.assert_close(result.py_grad.double(), expected.py_grad, rtol=0, atol=5e-5)
