"""Which way to make a step is chosen, what is told about it, and Triton without a GPU."""

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.optim.golden import Run
from tests.other_process import needs_triton, run_python
from zipasr.base.errors import UserError
from zipasr.optim import compiled_update as compiled_sweeps
from zipasr.optim import parameter_batches as backends
from zipasr.optim.compiled_update import CompiledSweeps, TritonSweeps
from zipasr.optim.parameter_batches import sweeps_for
from zipasr.optim.scaled_adam import ScaledAdam
from zipasr.optim.update_kernels import Elements, TorchSweeps, UpdateConstants


def elements(*params: torch.Tensor) -> Elements:
    return Elements(
        list(params),
        [torch.zeros_like(param) for param in params],
        [torch.zeros_like(param) for param in params],
    )


@pytest.fixture(autouse=True)
def nothing_told() -> None:
    backends._tell.cache_clear()


def test_the_fastest_is_chosen_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(sweeps_for(elements(torch.ones(3))), CompiledSweeps)
    assert isinstance(sweeps_for(elements(torch.ones(3)), "torch"), TorchSweeps)
    assert isinstance(sweeps_for(elements(torch.ones(3, device="meta"))), TorchSweeps)
    assert not caplog.text


def test_what_the_loops_cannot_do_is_left_to_torch_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for param in (torch.ones(3, dtype=torch.float64), torch.ones(2, 3).T) * 2:
        assert isinstance(sweeps_for(elements(param)), TorchSweeps)
    assert [record.message.split(": ")[1] for record in caplog.records] == [
        "a parameter is torch.float64, not torch.float32",
        "a parameter of shape (3, 2) is not contiguous",
    ]


def test_without_numba_torch_makes_the_steps(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiled_sweeps, "compiled_module", lambda _: None)
    assert isinstance(sweeps_for(elements(torch.ones(3))), TorchSweeps)
    assert "numba is not installed" in caplog.text
    with pytest.raises(UserError, match="numba is not installed"):
        sweeps_for(elements(torch.ones(3)), "numba")


def test_triton_off_a_gpu_and_unknown_names_are_refused() -> None:
    param = nn.Parameter(torch.ones(3))
    param.grad = torch.ones(3)
    with pytest.raises(UserError, match="a parameter is on cpu, not on cuda"):
        ScaledAdam([param], backend="triton").step()
    with pytest.raises(ValueError, match="it must be one of"):
        ScaledAdam([param], backend="fast").step()  # type: ignore[arg-type]


def test_kernels_that_fail_are_told_in_half_a_sentence(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not interpreted, the kernels cannot run on the CPU; without triton they cannot run at all."""
    monkeypatch.setattr("zipasr.optim.compiled_update.problem_of_tensors", lambda *_: None)
    problem = TritonSweeps.problem(elements(torch.ones(3)))
    assert problem is not None
    assert "\n" not in problem
    monkeypatch.setattr(backends, "_FASTEST", {"cpu": "triton"})
    with caplog.at_level(logging.WARNING):
        assert isinstance(sweeps_for(elements(torch.ones(3))), TorchSweeps)
    assert problem in caplog.text


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_does_not_change_a_bit(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled_sweeps, "BLOCKS_PER_ITEM", 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    run, other = Run("clip2", backend="numba"), Run("clip2", backend="numba")
    for _ in range(15):
        run.update()
    monkeypatch.undo()
    for _ in range(15):
        other.update()
    assert torch.equal(run.values(), other.values())


@pytest.mark.parametrize("kind", [TorchSweeps, CompiledSweeps])
def test_a_factor_whose_square_is_no_float(kind: type[TorchSweeps | CompiledSweeps]) -> None:
    of = elements(torch.ones(33))
    none = torch.zeros(1)
    grads = [torch.full((33,), 1e18)]
    kind(of).move(grads, UpdateConstants(0.9, 0.75, 1e-22, 0.0, none - 1, None, none.bool()))
    torch.testing.assert_close(of.exp_avg_sq[0], torch.full((33,), 0.25e-8), rtol=1e-5, atol=0)
    torch.testing.assert_close(of.params[0], torch.full((33,), 1.0 - 2.0), rtol=1e-5, atol=0)


def test_backward_notices_that_a_step_was_made() -> None:
    param = nn.Parameter(torch.ones(3))
    loss = param.square().sum()
    param.grad = torch.ones(3)
    ScaledAdam([param], backend="numba").step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@needs_triton
def test_triton_kernels_when_interpreted() -> None:
    command = "-m pytest -q -p no:cacheprovider tests/optim/interpreted_triton.py"
    run_python(*command.split(), TRITON_INTERPRET="1")


COMPILE = """
from tests.compiled_triton import compile_everywhere
from zipasr.kernels.triton import optimizer as kernels

wide = {"num_warps": 8}
counts = dict(num_params="i32", num_blocks="i32")
where = dict(addresses="*i64", blocks="*i64", sizes="*i64")
compile_everywhere(kernels.measure_kernel, {**where, "sums": "*fp32", **counts}, wide, block=2048)
sums = dict(sums="*fp32", firsts="*i64", totals="*fp64", num_blocks="i32", num_params="i32")
compile_everywhere(kernels.collect_kernel, sums, wide, lanes=128, rounds=3)
floats = dict.fromkeys(("beta1", "beta2", "rest2", "factor", "eps"), "fp32")
types = {**where, "vectors": "*fp32", "num_params": "i32", **floats}
for without_grads in (True, False):
    compile_everywhere(
        kernels.move_kernel, types, wide, without_grads=without_grads, block=2048
    )
"""


@needs_triton
def test_triton_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    run_python("-c", COMPILE, TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path))
