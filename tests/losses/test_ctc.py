from itertools import product
from pathlib import Path

import pytest
import torch

from tests.other_process import needs_triton, run_python
from zipasr.losses import ctc_loss

COMPILE = """
from tests.compiled_triton import compile_everywhere
from zipasr.kernels.triton.ctc import ctc_kernel

types = dict(zip(ctc_kernel.arg_names, ["*fp32", "*i64", *["*fp32"] * 4, "i32", "i32"]))
for lanes, num_warps in ((64, 1), (4096, 8)):
    for ptx in compile_everywhere(
        ctc_kernel, types, {"num_warps": num_warps, "num_stages": 1}, lanes=lanes
    ):
        assert "bar.sync" in ptx and "ld.global.nc" not in ptx
"""


@needs_triton
def test_the_kernel_when_interpreted() -> None:
    command = "-m pytest -q -p no:cacheprovider tests/losses/interpreted_ctc.py"
    run_python(*command.split(), TRITON_INTERPRET="1")


@needs_triton
def test_the_kernel_compiles_for_a_gpu(tmp_path: Path) -> None:
    run_python("-c", COMPILE, TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path))


def collapsed(labels: tuple[int, ...]) -> list[int]:
    kept = [b for a, b in zip((0, *labels), labels, strict=False) if a != b]
    return [v for v in kept if v != 0]


def enumerated(log_probs: torch.Tensor, target: list[int]) -> torch.Tensor:
    totals = [
        log_probs[torch.arange(len(path)), list(path)].sum()
        for path in product(range(log_probs.shape[1]), repeat=len(log_probs))
        if collapsed(path) == target
    ]
    return -torch.stack(totals).logsumexp(0)


def test_equals_enumeration() -> None:
    torch.manual_seed(0)
    log_probs = torch.randn(3, 5, 3, dtype=torch.float64).log_softmax(2).requires_grad_()
    lens, targets = torch.tensor([5, 4, 3]), [[1, 2], [2, 2], []]
    loss = ctc_loss(log_probs, lens, targets)
    parts = [enumerated(log_probs[n, :t], targets[n]) for n, t in enumerate(lens.tolist())]
    torch.testing.assert_close(loss, torch.stack(parts).sum())


def test_gradient() -> None:
    torch.manual_seed(1)
    logits = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    lens, targets = torch.tensor([4, 3]), [[1, 1], [2]]
    torch.autograd.gradcheck(lambda z: ctc_loss(z.log_softmax(2), lens, targets), (logits,))


@pytest.mark.parametrize("target", [[1, 2, 1, 2], [1, 1]])
def test_too_few_frames_give_infinity_and_no_gradient_to_this_utterance_only(
    target: list[int],
) -> None:
    torch.manual_seed(2)
    logits = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    loss = ctc_loss(logits.log_softmax(2), torch.tensor([2, 2]), [[1, 2], target])
    grad = torch.autograd.grad(loss, logits)[0]
    alone = ctc_loss(logits[:1].log_softmax(2), torch.tensor([2]), [[1, 2]])
    assert loss == torch.inf
    assert not grad[1].any()
    torch.testing.assert_close(grad[:1], torch.autograd.grad(alone, logits)[0][:1])


def test_a_batch_without_any_token() -> None:
    log_probs = torch.full((2, 3, 4), 0.25).log()
    loss = ctc_loss(log_probs, torch.tensor([3, 2]), [[], []])
    torch.testing.assert_close(loss, -5 * torch.tensor(0.25).log())


def test_half_precision_is_computed_in_float32() -> None:
    log_probs = torch.randn(1, 4, 3).log_softmax(2).bfloat16()
    loss = ctc_loss(log_probs, torch.tensor([4]), [[1, 2]])
    assert loss.dtype == torch.float32
    assert torch.equal(loss, ctc_loss(log_probs.float(), torch.tensor([4]), [[1, 2]]))
