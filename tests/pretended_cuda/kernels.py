"""The library's Triton kernels in torch, for a pretended device; Triton need not be installed.

The kernels themselves are run by Triton's interpreter in ``tests/losses`` and ``tests/optim``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.pretended_cuda.costs import Cost, touched
from tests.pretended_cuda.device import Mode, Pretended, host_of
from tests.pretended_cuda.graphs import note_or_record, recording
from zipasr.kernels import elementwise
from zipasr.kernels.numba import optimizer as loops
from zipasr.losses import numba_backend, recursion, triton_backend
from zipasr.optim import compiled_update
from zipasr.search import beam_search, greedy_blocks, triton_steps
from zipasr.search.beam_state import Beams
from zipasr.search.transducer_step import ScoreSettings


class Kernel:
    """A kernel that is launched as Triton's are: ``kernel[grid](arguments)``.

    Args:
        name: of it.
        function: does the same on the host.
        times: how often it moves each element of a block that it finds by its address.
    """

    def __init__(self, name: str, function: Callable[..., None], times: int = 0) -> None:
        self.name, self.function, self.times = name, function, times

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(*args: Any, num_warps: int = 4, num_stages: int = 1, **constants: Any) -> None:
            tensors = [x for x in args if isinstance(x, Tensor)]
            strange = [tuple(x.shape) for x in tensors if not isinstance(x, Pretended)]
            if strange:
                raise ValueError(f"Pointer argument cannot be accessed from Triton: {strange}")
            hidden = 4 * self.times * grid[0] * constants.get("block", 0)
            moved = hidden + sum(touched(host_of(x)) for x in tensors)
            hosts = [host_of(x) for x in args]

            def work() -> None:
                if Mode.values:
                    with torch.utils._python_dispatch._disable_current_modes():
                        self.function(*hosts, **constants)

            if graph := recording():
                graph.save(x for x in hosts if isinstance(x, Tensor))
            work()
            note_or_record(f"triton {self.name}", work, None, Cost(1, moved))

        return launch


def use_kernels() -> None:
    """Put these in the place of Triton's."""
    lattices = SimpleNamespace(
        recursion_kernel=Kernel("recursion", _recursion),
        softmax_arcs_kernel=Kernel("softmax_arcs", _softmax_arcs),
        softmax_arcs_grad_kernel=Kernel("softmax_arcs_grad", _softmax_arcs_grad),
    )
    sweeps = SimpleNamespace(
        measure_kernel=Kernel("measure", _measure, times=2),
        collect_kernel=Kernel("collect", _collect),
        move_kernel=Kernel("move", _move, times=7),
    )
    steps = SimpleNamespace(
        beam_frame_kernel=Kernel("beam_frame", _beam_frame),
        greedy_step_kernel=Kernel("greedy_step", _greedy_step),
    )
    triton_steps._kernels = lambda: steps  # type: ignore[assignment, return-value]
    triton_backend._kernels = lambda: lattices  # type: ignore[assignment, return-value]
    compiled_update._kernels = lambda: sweeps  # type: ignore[assignment, return-value]
    elementwise.ElementwiseKernel.__call__ = _elementwise  # type: ignore[method-assign]
    if not Mode.values:
        elementwise.self_check = lambda device: None  # type: ignore[assignment]
        triton_backend.self_check = lambda device: None
        compiled_update.self_check = lambda device: None  # type: ignore[assignment]
        triton_steps.self_check = lambda device: None  # type: ignore[assignment]


def _elementwise(
    self: elementwise.ElementwiseKernel, *tensors: Tensor, **numbers: float
) -> tuple[Tensor, ...]:
    """Do as ``ElementwiseKernel.__call__``: one launch, in the types that CUDA promotes to."""
    assert all(isinstance(x, Pretended) for x in tensors)
    values = [host_of(x) for x in tensors]
    dtype = functools.reduce(torch.promote_types, (x.dtype for x in values))

    def work() -> tuple[Tensor, ...]:
        with torch.utils._python_dispatch._disable_current_modes():
            found = self.definition(
                *(x.to(torch.promote_types(x.dtype, torch.float32)) for x in values), **numbers
            )
            return tuple(x.to(dtype) for x in found)

    found = work()
    name = self.code.split("(")[0].split()[-1]
    cost = Cost(1, sum(map(touched, (*values, *found))))
    note_or_record(f"jiterator {name}", work, found, cost)
    return tuple(map(Pretended, found))


def _recursion(
    px: Tensor, py: Tensor, starts: Tensor, s_lens: Tensor, t_lens: Tensor, score: Tensor,
    px_grad: Tensor, py_grad: Tensor, *_: Any, band: bool, regular: bool, lanes: int,
) -> None:  # fmt: skip
    if band:
        sums = numba_backend.band_recursion(px, py, starts, s_lens, t_lens, 0, regular)
    else:
        sums = numba_backend.full_recursion(px, py, s_lens, t_lens)
    for out, found in zip((score, px_grad, py_grad), sums, strict=True):
        out.copy_(found)


def _softmax_arcs(
    logits: Tensor, targets: Tensor, lse: Tensor, px: Tensor, py: Tensor, blank: int, **_: int
) -> None:
    found = recursion.softmax_arcs(logits, targets, blank)
    for out, values in zip((lse, px, py), found, strict=True):
        out.copy_(values)


def _softmax_arcs_grad(
    logits: Tensor, lse: Tensor, targets: Tensor, px_grad: Tensor, py_grad: Tensor, grad: Tensor,
    blank: int, **_: int,
) -> None:  # fmt: skip
    grad.copy_(recursion.softmax_arcs_grad(logits, lse, targets, blank, px_grad, py_grad, False))


def _with_counts(blocks: Tensor, sizes: Tensor, block: int) -> Any:
    table, counts = blocks.numpy(), sizes.numpy()
    rest = np.minimum(block, counts[table[:, 0]] - table[:, 1])
    return np.concatenate([table, rest[:, None]], axis=1)


def _measure(
    addresses: Tensor, blocks: Tensor, sizes: Tensor, sums: Tensor, *_: int, block: int
) -> None:
    found = np.empty((len(blocks), 3), np.float32)
    loops.measure(addresses.numpy(), _with_counts(blocks, sizes, block), True, found)
    sums.copy_(torch.from_numpy(found.T.copy()))


def _collect(sums: Tensor, firsts: Tensor, totals: Tensor, *_: int, **__: int) -> None:
    added = np.add.reduceat(sums.double().numpy(), firsts[:-1].numpy(), axis=1)
    totals.copy_(torch.from_numpy(added))


def _move(
    addresses: Tensor, blocks: Tensor, sizes: Tensor, vectors: Tensor, _num_params: int,
    beta1: float, beta2: float, rest2: float, factor: float, eps: float, *, without_grads: bool,
    block: int,
) -> None:  # fmt: skip
    table = addresses.numpy().copy()
    if without_grads:
        table[1] = 0
    rates, growths, asleep = vectors.numpy()
    constants = np.array([beta1, beta2, rest2, factor, eps], np.float32)
    counted = _with_counts(blocks, sizes, block)
    loops.move(table, counted, asleep != 0, constants, rates.copy(), growths.copy())


def _beam_frame(logits: Tensor, lens: Tensor, *rest: Any, **_: int) -> None:
    *books, parents, symbols, time, blank, penalty, temperature = rest
    beams = Beams(*books, books[0])
    settings = ScoreSettings(blank, penalty, temperature)
    beam_search.take_frame(logits, beams, lens, (parents, symbols), time, settings)


def _greedy_step(logits: Tensor, lens: Tensor, *rest: Any, **_: int) -> None:
    *books, num_frames, _most_tokens, most_here, blank, penalty, temperature = rest
    tables = greedy_blocks.GreedyTables(*books, books[0])
    settings = ScoreSettings(blank, penalty, temperature)
    greedy_blocks.take_block(logits, tables, lens, num_frames, settings, most_here)
