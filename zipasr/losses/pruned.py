"""Pruned RNN-T loss: bounds of the lattice from the simple loss, and the loss within them."""

from __future__ import annotations

import importlib

import torch
from torch import Tensor

from zipasr.losses.backend import k2_losses, kernels_for
from zipasr.losses.config import RnntBackend, RnntType
from zipasr.losses.recursion import Arcs, loss_dtype
from zipasr.losses.transducer_lattice import (
    Reduction,
    check_enough_frames,
    delay_offsets,
    full_boundary,
    is_regular,
    label_of_cells,
    lattice_score,
    reduce_losses,
)
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


def rnnt_loss_pruned(  # noqa: PLR0913 - the signature is k2's
    logits: Tensor,
    symbols: Tensor,
    ranges: Tensor,
    termination_symbol: int,
    boundary: Tensor | None = None,
    rnnt_type: RnntType = "regular",
    delay_penalty: float = 0.0,
    reduction: Reduction = "mean",
    use_hat_loss: bool = False,
    overwrite_logits: bool = False,
    backend: RnntBackend = "auto",
) -> Tensor:
    """Transducer loss over the paths that stay inside a band of R labels per frame.

    Computed in float32 (float64 for float64 input), whatever the precision of the logits; the
    gradient has the precision of the logits.

    Args:
        logits: (N, T, R, V) output of the joiner on the band.
        symbols: (N, S) int64 labels; the values beyond a boundary do not matter.
        ranges: (N, T, R) label positions of the band, consecutive along R and not falling
            along T, from ``get_rnnt_prune_ranges``; on a GPU that is not checked.
        termination_symbol: the id of blank.
        boundary: (N, 4) rows [0, 0, s_end, t_end]; the whole lattice when omitted.
        rnnt_type: type of the lattice, as in ``rnnt_loss_smoothed``.
        delay_penalty: nats per frame by which late symbols are punished, early ones rewarded.
        reduction: "none", "sum" or "mean" over the utterances.
        use_hat_loss: blank is a Bernoulli variable apart from the softmax over the other
            symbols (Variani et al., arXiv:2003.07705); blank must be id 0.
        overwrite_logits: let the gradient take the memory of the logits, which nobody may need
            after the backward pass (the linear layer that makes them does not).
        backend: which code computes, see ``losses.backend``.

    Returns:
        The loss in nats, (N,) for "none", else a scalar; +inf, with a gradient of 0, where the
        band holds no complete path.

    Raises:
        ValueError: shapes, names, ranges or boundaries that do not fit.
        DataError: fewer frames than symbols in a type other than regular.

    Source: Kuang et al., "Pruned RNN-T for fast, memory-efficient ASR training",
    arXiv:2206.13236, section 3.
    """
    regular = is_regular(rnnt_type)
    if use_hat_loss and termination_symbol != 0:
        raise ValueError(f"use_hat_loss needs blank to be id 0; it is {termination_symbol}")
    _check_shapes(logits, symbols, ranges)
    boundary = zero_based(full_boundary(boundary, logits, symbols.shape[1]))
    if not regular:
        check_enough_frames(boundary)
    boundary = to_device(boundary, logits.device)
    if not logits.is_cuda:  # the host would have to wait for it
        _check_never_falling(ranges, boundary)
    if backend == "k2":
        options = {"use_hat_loss": True} if use_hat_loss else {}  # k2 1.23 does not know it
        return k2_losses().rnnt_loss_pruned(  # type: ignore[no-any-return]
            logits=logits.to(loss_dtype(logits)), symbols=symbols, ranges=ranges,
            termination_symbol=termination_symbol, boundary=boundary, rnnt_type=rnnt_type,
            delay_penalty=delay_penalty, reduction=reduction, **options,
        )  # fmt: skip
    kernels = kernels_for(backend, logits)
    targets = _targets(symbols, ranges, boundary, termination_symbol)
    if use_hat_loss:
        px, py = _hat_arcs(logits.to(loss_dtype(logits)), targets.clamp(min=0))
    else:
        px, py = Arcs.apply(  # type: ignore[no-untyped-call]
            logits,
            targets,
            termination_symbol,
            kernels.softmax_arcs,
            kernels.softmax_arcs_grad,
            overwrite_logits,
        )
    if rnnt_type == "constrained":
        # A symbol also pays for the blank of the next label on the same frame.
        px = px + torch.nn.functional.pad(py[:, :, 1:], (0, 1), value=float("-inf"))
    if delay_penalty != 0.0:
        px = px + delay_offsets(boundary, px.shape[1], delay_penalty)[:, :, None].to(px.dtype)

    starts, (s_lens, t_lens) = ranges[:, :, 0].long(), boundary[:, 2:].unbind(1)
    band_recursion = kernels_for(backend, px).band_recursion
    sums = lattice_score(
        px,
        py,
        lambda x, y: band_recursion(x, y, starts, s_lens, t_lens, symbols.shape[1], regular),
    )
    return reduce_losses(-sums.score, reduction)


def _check_shapes(logits: Tensor, symbols: Tensor, ranges: Tensor) -> None:
    fit = (
        logits.dim() == 4
        and symbols.dim() == 2
        and ranges.shape == logits.shape[:3]
        and symbols.shape[0] == logits.shape[0]
    )
    if not fit:
        raise ValueError(
            f"logits {tuple(logits.shape)}, symbols {tuple(symbols.shape)} and ranges "
            f"{tuple(ranges.shape)} do not fit; they must be (N, T, R, V), (N, S) and (N, T, R)"
        )


def _targets(symbols: Tensor, ranges: Tensor, boundary: Tensor, blank: int) -> Tensor:
    """Return the next symbol of each cell (N, T, R): blank after the last, -1 outside."""
    labels = label_of_cells(symbols.long(), boundary, blank)
    targets = labels[:, None].expand(-1, ranges.shape[1], -1).gather(2, ranges.long())
    frames = torch.arange(ranges.shape[1], device=ranges.device)[:, None]
    outside = (ranges > boundary[:, 2, None, None]) | (frames >= boundary[:, 3, None, None])
    return targets.masked_fill(outside, -1)


def _check_never_falling(ranges: Tensor, boundary: Tensor) -> None:
    rise = ranges[:, 1:, 0] - ranges[:, :-1, 0]
    frames = torch.arange(1, ranges.shape[1], device=ranges.device)
    if bool(((rise < 0) & (frames < boundary[:, 3:4])).any()):
        raise ValueError("ranges fall from one frame to the next; a band may only stay or rise")


def _hat_arcs(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of symbol and blank (N, T, R) if blank, id 0, is decided on its own."""
    blank, others = logits[..., 0], logits[..., 1:]
    py = torch.nn.functional.logsigmoid(blank)
    symbol = logits.gather(3, targets[..., None])[..., 0] - others.logsumexp(3)
    # Where the target is the blank that fills up the band, nothing reads px.
    return symbol + torch.nn.functional.logsigmoid(-blank), py


def rnnt_loss(
    logits: Tensor,
    symbols: Tensor,
    termination_symbol: int,
    boundary: Tensor | None = None,
    rnnt_type: RnntType = "regular",
    delay_penalty: float = 0.0,
    reduction: Reduction = "mean",
    backend: RnntBackend = "auto",
) -> Tensor:
    """Transducer loss over all paths; memory grows with N T S V.

    Args:
        logits: (N, T, S + 1, V) output of the joiner.
        symbols: (N, S) int64 labels; the values beyond a boundary do not matter.
        termination_symbol: the id of blank.
        boundary: (N, 4) rows [0, 0, s_end, t_end]; the whole lattice when omitted.
        rnnt_type: type of the lattice, as in ``rnnt_loss_smoothed``.
        delay_penalty: nats per frame by which late symbols are punished, early ones rewarded.
        reduction: "none", "sum" or "mean" over the utterances.
        backend: which code computes, see ``losses.backend``.

    Returns:
        The loss in nats, (N,) for "none", else a scalar.

    Raises:
        ValueError: shapes, names or boundaries that do not fit.
        DataError: fewer frames than symbols in a type other than regular.

    Source: Graves, "Sequence transduction with recurrent neural networks", arXiv:1211.3711.
    """
    if logits.dim() != 4 or logits.shape[2] != symbols.shape[1] + 1:
        raise ValueError(
            f"logits {tuple(logits.shape)} and symbols {tuple(symbols.shape)} do not fit; "
            "they must be (N, T, S + 1, V) and (N, S)"
        )
    ranges = torch.arange(logits.shape[2], device=logits.device).expand(logits.shape[:3])
    return rnnt_loss_pruned(
        logits,
        symbols,
        ranges,
        termination_symbol,
        boundary,
        rnnt_type,
        delay_penalty,
        reduction,
        backend=backend,
    )
