"""The library's Triton kernels in torch, for a pretended device; Triton need not be installed.

The kernels themselves are run by Triton's interpreter in ``tests/losses`` and ``tests/optim``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.pretended_cuda.costs import Cost, touched
from tests.pretended_cuda.device import Mode, Pretended, host_of
from tests.pretended_cuda.graphs import note_or_record, recording
from zipasr.encoder import triton_attention
from zipasr.kernels import elementwise
from zipasr.kernels.numba import optimizer as loops
from zipasr.losses import ctc, numba_backend, recursion, triton_backend
from zipasr.nn import bias_norm, triton_bias_norm
from zipasr.optim import compiled_update
from zipasr.search import greedy_blocks, modified_beam_search, triton_steps
from zipasr.search.beam_state import Beams
from zipasr.search.transducer_step import ScoreSettings


class Kernel:
    """A kernel that is launched as Triton's are: ``kernel[grid](arguments)``.

    Args:
        name: of it.
        function: does the same on the host.
        times: how often it moves each element of a block that it finds by its address.
        in_place: whether it reads its first argument and writes over it.
    """

    def __init__(
        self, name: str, function: Callable[..., None], times: int = 0, in_place: bool = False
    ) -> None:
        self.name, self.function, self.times, self.in_place = name, function, times, in_place

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(*args: Any, num_warps: int = 4, num_stages: int = 1, **constants: Any) -> None:
            tensors = [x for x in args if isinstance(x, Tensor)]
            strange = [tuple(x.shape) for x in tensors if not isinstance(x, Pretended)]
            if strange:
                raise ValueError(f"Pointer argument cannot be accessed from Triton: {strange}")
            hidden = 4 * self.times * grid[0] * constants.get("block", 0)
            different = list({id(x): x for x in tensors}.values())
            moved = hidden + sum(touched(host_of(x)) for x in different + tensors[: self.in_place])
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
    norms = SimpleNamespace(
        bias_norm_kernel=Kernel("bias_norm", _bias_norm),
        bias_norm_grad_kernel=Kernel("bias_norm_grad", _bias_norm_grad),
    )
    attention = SimpleNamespace(
        attention_weights_kernel=Kernel("attention_weights", _attention_weights, in_place=True),
        attention_grad_kernel=Kernel("attention_grad", _attention_grad, in_place=True),
    )
    for user, module in (
        (triton_attention, attention),
        (triton_bias_norm, norms),
        (triton_steps, steps),
        (triton_backend, lattices),
        (ctc, SimpleNamespace(ctc_kernel=Kernel("ctc", _ctc))),
        (compiled_update, sweeps),
    ):
        user.KERNELS.module = module
        if not Mode.values:
            user.KERNELS.fault = lambda device: None
    elementwise.ElementwiseKernel.__call__ = _elementwise  # type: ignore[method-assign]
    if not Mode.values:
        elementwise.self_check = lambda device: None  # type: ignore[assignment]


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


def _ctc(scores: Tensor, table: Tensor, score: Tensor, grad: Tensor, *_: Any, lanes: int) -> None:
    """By PyTorch's gradients; -1e30 is for log-weights of what cannot be."""
    width = scores.size(2) - 1
    for n, (*tokens, s_len, t_len) in enumerate(table.tolist()):
        same = torch.tensor([a == b for a, b in pairwise([-1, *tokens[:s_len]])], dtype=torch.bool)
        with torch.enable_grad():
            leaf = scores[n, :t_len].double().requires_grad_()
            blank, label = torch.full((s_len + 1,), -1e30), torch.full((s_len,), -1e30)
            blank[0] = 0.0
            for frame in leaf:
                before = torch.cat([torch.full((1,), -1e30), label])
                ways = [label, blank[:-1], before[:-1].masked_fill(same, -1e30)]
                label = torch.stack(ways).logsumexp(0) + frame[:s_len]
                blank = torch.stack([blank, before]).logsumexp(0) + frame[width]
            value = torch.cat([blank[-1:], label[-1:]]).logsumexp(0)
        if value > -1e20:
            score[n] = value
            grad[n, :t_len] = torch.autograd.grad(value, leaf)[0]
        else:
            score[n] = -torch.inf


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


def _bias_norm(x: Tensor, bias: Tensor, log_scale: Tensor, *rest: Any, **_: int) -> None:
    for out, found in zip(rest[:3], bias_norm.normalized(x, bias, log_scale, -1), strict=True):
        out.copy_(found)


def _bias_norm_grad(
    grad: Tensor, x: Tensor, bias: Tensor, length: Tensor, factor: Tensor, x_grad: Tensor,
    sums: Tensor, *_: int, **__: int,
) -> None:  # fmt: skip
    found = bias_norm.gradients(grad, x, bias, length, factor, -1)
    x_grad.copy_(found[0])
    # Of all programs together: the rows are added afterwards.
    sums.zero_()[0, :-1].copy_(found[1].flatten())
    sums[0, -1].copy_(found[2])


def _by_source(by_distance: Tensor, like: Tensor) -> Tensor:
    """Return a view (N, H, T, S) of (H, T, N, K)."""
    head, target, utterance, _ = by_distance.stride()
    return by_distance.as_strided(like.shape, (utterance, head, target - 1, 1), like.size(2) - 1)


def _attention_weights(
    scores: Tensor, by_distance: Tensor, mask: Tensor, *_: int, masked_score: float,
    positions: bool, masked: bool, **__: int,
) -> None:  # fmt: skip
    x = scores.float()
    if positions:
        x = x + _by_source(by_distance, x)
    if masked:
        x = x.masked_fill(mask != 0, masked_score)
    scores.copy_(x.softmax(-1))


def _attention_grad(
    grad: Tensor, weights: Tensor, scores: Tensor, by_distance: Tensor, distance_grad: Tensor,
    silent: Tensor, *numbers: float, positions: bool, penalized: int, has_silent: bool, **_: int,
) -> None:  # fmt: skip
    *_, limit, penalty = numbers
    w, g = weights.float(), weights.float() * grad
    g -= w * g.sum(-1, keepdim=True)
    if penalized:
        x = scores.float() + (_by_source(by_distance, scores) if positions else 0.0)
    if penalized == 1:
        g += penalty * x.sign() * (x.abs() > limit)
    if penalized == 2:
        mean = (w * x.abs()).sum(-1, keepdim=True)
        is_large = mean > limit
        if has_silent:
            is_large &= (silent == 0)[:, None, :, None]
        g += penalty * is_large * w * (x.abs() - mean + x.sign())
    grad.copy_(g)
    if positions:
        _by_source(distance_grad.zero_(), grad).copy_(g)


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
    modified_beam_search.take_frame(logits, beams, lens, (parents, symbols), time, settings)


def _greedy_step(logits: Tensor, lens: Tensor, *rest: Any, **_: int) -> None:
    *books, num_frames, _most_tokens, most_here, blank, penalty, temperature = rest
    tables = greedy_blocks.GreedyTables(*books, books[0])
    settings = ScoreSettings(blank, penalty, temperature)
    greedy_blocks.take_block(logits, tables, lens, num_frames, settings, most_here)
