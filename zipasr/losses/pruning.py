"""Pruning bounds: R labels per frame from the occupations of the simple loss."""

from __future__ import annotations

import importlib

import torch
from torch import Tensor

from zipasr.losses.backend import kernels_for
from zipasr.losses.config import RnntBackend
from zipasr.losses.lattice import full_boundary
from zipasr.nn.numerics import to_device


def get_rnnt_prune_ranges(
    px_grad: Tensor, py_grad: Tensor, boundary: Tensor, s_range: int
) -> Tensor:
    """Choose, for each frame, the label positions to keep.

    The band holds as much path probability per frame as a window of its width can, subject to
    rules that leave at least one path: it starts at 0, it rises by at most R - 1 positions per
    frame (1, if the lattice is not regular), never falls, and holds the last label at the last
    frame of each utterance. The type of lattice is read off the shapes.

    Args:
        px_grad: (N, S, T + 1) for the regular type, (N, S, T) for the others; occupations of
            the symbol arcs, from the simple loss with the same type.
        py_grad: (N, S + 1, T), occupations of the blank arcs.
        boundary: (N, 4) rows [0, 0, s_end, t_end].
        s_range: wanted R. Raised where an utterance has too many labels for its frames, and
            lowered to S + 1.

    Returns:
        (N, T, R) int64, consecutive label positions. Read R off this shape.

    Raises:
        ValueError: R is below 2 in the regular type or below 1 in the others, or the boundary
            does not start at 0.

    Source: Kuang et al., "Pruned RNN-T for fast, memory-efficient ASR training",
    arXiv:2206.13236, section 3.2.
    """
    num_labels, num_frames = py_grad.shape[1:]
    regular = px_grad.shape[2] > num_frames
    boundary = zero_based(full_boundary(boundary, py_grad.transpose(1, 2), num_labels - 1))
    width = _band_width(boundary, s_range, num_labels, regular)
    boundary = to_device(boundary, py_grad.device)
    best = _best_windows(px_grad[:, :, :num_frames], py_grad, width)
    frames = torch.arange(num_frames, device=best.device)
    last = (boundary[:, 2:3] - width + 1).clamp(min=0)
    best = torch.where(frames < boundary[:, 3:4] - 1, best, last)
    starts = _feasible(best, width - 1 if regular else 1)
    return starts[:, :, None] + torch.arange(width, device=best.device)


def do_rnnt_pruning(am: Tensor, lm: Tensor, ranges: Tensor) -> tuple[Tensor, Tensor]:
    """Pair each frame with the predictor outputs of its band.

    Args:
        am: (N, T, C) projected encoder output.
        lm: (N, S + 1, C) projected predictor output.
        ranges: (N, T, R) from ``get_rnnt_prune_ranges``.

    Returns:
        am_pruned (N, T, R, C), a view that repeats each frame R times, and lm_pruned
        (N, T, R, C).
    """
    batch, num_frames, width = ranges.shape
    if am.shape[:2] != (batch, num_frames) or lm.shape[0] != batch:
        raise ValueError(
            f"am {tuple(am.shape)}, lm {tuple(lm.shape)} and ranges {tuple(ranges.shape)} do not "
            "fit; they must be (N, T, C), (N, S + 1, C) and (N, T, R)"
        )
    # An embedding look-up: its gradient is much faster on CPU than that of gather.
    first_row = torch.arange(batch, device=lm.device)[:, None, None] * lm.shape[1]
    lm_pruned = torch.nn.functional.embedding(ranges + first_row, lm.flatten(0, 1))
    return am[:, :, None].expand(-1, -1, width, -1), lm_pruned


def tanh_of_pruned_sums(
    am: Tensor, lm: Tensor, ranges: Tensor, backend: RnntBackend = "auto"
) -> Tensor:
    """Return ``tanh(am_pruned + lm_pruned)``, (N, T, R, C), of what ``do_rnnt_pruning`` makes.

    On a CPU it is made in one visit, without the two terms.
    """
    if am.dtype == lm.dtype and kernels_for(backend, am).name == "numba":
        cpu = importlib.import_module("zipasr.losses.numba_backend")
        result: Tensor = cpu.TanhOfSums.apply(am, lm, ranges)
        return result
    am_pruned, lm_pruned = do_rnnt_pruning(am, lm, ranges)
    return (am_pruned + lm_pruned).tanh()


def zero_based(boundary: Tensor) -> Tensor:
    """Return ``boundary``, or refuse one that does not start at (0, 0): bands always do.

    Raises:
        ValueError: s_begin or t_begin of an utterance is not 0.
    """
    if bool(boundary[:, :2].any()):
        raise ValueError("columns 0 and 1 of boundary must be zero for the pruned loss")
    return boundary


def _band_width(boundary: Tensor, s_range: int, num_labels: int, regular: bool) -> int:
    """Least width of at least ``s_range`` that lets each utterance reach its last label."""
    width = s_range
    if regular:
        for _, _, num_symbols, num_frames in boundary.tolist():
            width = max(width, (num_symbols - 1) // num_frames + 2)
    width = min(width, num_labels)
    least = 2 if regular and num_labels > 1 else 1
    if width < least:
        raise ValueError(
            f"s_range is {s_range} and there are {num_labels - 1} symbols, so the band would be "
            f"{width} wide; it must be at least {least}"
        )
    return width


def _best_windows(px_grad: Tensor, py_grad: Tensor, width: int) -> Tensor:
    """Start (N, T) of the window with the most blank mass that was not entered from below."""
    num_windows = py_grad.shape[1] + 1 - width
    mass = py_grad[:, :num_windows].clone()  # (N, S + 2 - R, T)
    for lane in range(1, width):
        mass += py_grad[:, lane : lane + num_windows]
    mass[:, 1:] -= px_grad[:, : mass.shape[1] - 1]
    return mass.argmax(1)


def _feasible(starts: Tensor, max_rise: int) -> Tensor:
    """Change (N, T) ``starts`` to begin at 0 and rise by 0 .. ``max_rise`` per frame."""
    slope = max_rise * torch.arange(starts.shape[1], device=starts.device)
    never_falling = starts.flip(1).cummin(1).values
    no_jumps = (never_falling - slope.flip(0)).cummax(1).values.flip(1) + slope
    return torch.minimum(no_jumps, slope)
