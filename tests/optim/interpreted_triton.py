"""The Triton kernels on the CPU, by Triton's interpreter; test_backend.py runs this by itself.

The interpreter takes some milliseconds per block of parameters: the cases are few and small.
"""

import pytest
import torch

from tests.optim.golden import Run
from zipasr.optim import compiled_update as triton_sweeps
from zipasr.optim.compiled_update import TritonSweeps


def test_the_self_check_agrees_with_torch() -> None:
    assert max(triton_sweeps._errors(torch.device("cpu"))) < 1e-6


@pytest.mark.parametrize("blocks", [2048, 16])
def test_sums_of_many_blocks(blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_sweeps, "TRITON_BLOCK_ELEMENTS", blocks)
    monkeypatch.setattr(triton_sweeps, "LANES", 4)
    assert max(triton_sweeps._errors(torch.device("cpu"))) < 1e-6


def test_a_stored_trajectory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TritonSweeps, "problem", lambda _: None)
    run = Run("clip2_period16", backend="triton")
    for _ in range(5):
        run.update()
    run.check()
