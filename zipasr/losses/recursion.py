"""Plain PyTorch definition of the losses: arc weights from logits, lattice scores, occupations.

``full_recursion`` and ``band_recursion`` take arc weights and return the same three tensors.
Both lay the arcs out step by step (a step is a frame, or an anti-diagonal where several labels
may be emitted on one frame) and share a single scan over the steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_CLOSED = float("-inf")  # log-weight of an arc that no path may take
_LOWEST_SHIFT = -1e4  # keeps the shift of a step finite when all its arcs are closed
_SYMBOL, _BLANK = 0, 1  # the two kinds of arc in a step


class LatticeSums(NamedTuple):
    """Scores of the lattices and occupations of their arcs.

    ``score`` (N,) is the log-weight of all complete paths, -inf where there is none. ``px_grad``
    and ``py_grad`` have the shapes of the arc weights and hold the posterior probability of each
    symbol and blank arc, which is also the derivative of the score; exactly 0 for arcs that are
    on no complete path.
    """

    score: Tensor
    px_grad: Tensor
    py_grad: Tensor


def full_recursion(px: Tensor, py: Tensor, s_lens: Tensor, t_lens: Tensor) -> LatticeSums:
    """Sum over all paths from (0, 0) to (s_len, t_len) in a complete lattice.

    Args:
        px: (N, S, T + 1) for the regular type, where a symbol keeps the frame, or (N, S, T),
            where it takes one; log-weights of the symbol arcs, float32 or float64.
        py: (N, S + 1, T), log-weights of the blank arcs.
        s_lens: (N,) integers in 0 .. S; arcs beyond are ignored.
        t_lens: (N,) integers in 0 .. T; arcs beyond are ignored.

    Returns:
        Score and occupations, the latter shaped like ``px`` and ``py``.
    """
    batch, num_labels, num_frames = py.shape
    regular = px.shape[2] > num_frames
    num_steps = num_frames + num_labels - 1 if regular else num_frames
    labels = torch.arange(num_labels, device=py.device)[:, None]
    frames = torch.arange(px.shape[2], device=py.device)
    s_end, t_end = s_lens[:, None, None], t_lens[:, None, None]
    symbol_closed = (labels[:-1] >= s_end) | (frames >= (t_end + 1 if regular else t_end))
    blank_closed = (labels > s_end) | (frames[:num_frames] >= t_end)

    arcs = py.new_full((num_steps, 2, num_labels, batch), _CLOSED)
    _grid(arcs, _SYMBOL, px.shape, regular).copy_(px.masked_fill(symbol_closed, _CLOSED))
    _grid(arcs, _BLANK, py.shape, regular).copy_(py.masked_fill(blank_closed, _CLOSED))
    score, occupation = _scan(arcs, t_lens + s_lens if regular else t_lens, s_lens)
    px_grad = _grid(occupation, _SYMBOL, px.shape, regular).contiguous()
    py_grad = _grid(occupation, _BLANK, py.shape, regular).masked_fill(blank_closed, 0.0)
    return LatticeSums(score, px_grad, py_grad)


def band_recursion(
    px: Tensor,
    py: Tensor,
    starts: Tensor,
    s_lens: Tensor,
    t_lens: Tensor,
    num_symbols: int,
    regular: bool,
) -> LatticeSums:
    """Sum over the paths that stay inside a band of R labels per frame.

    Args:
        px: (N, T, R), log-weights of the symbol arcs, float32 or float64. Lane k of frame t
            stands for the label position ``starts[t] + k``.
        py: (N, T, R), log-weights of the blank arcs.
        starts: (N, T) integers, the lowest label position of the band; must not decrease on
            the frames below ``t_lens``.
        s_lens: (N,) integers, number of labels.
        t_lens: (N,) integers in 1 .. T, number of frames.
        num_symbols: S, which neither ``s_lens`` nor a label position of the band exceeds.
        regular: a symbol keeps the frame; otherwise it takes one.

    Returns:
        Score and occupations, the latter (N, T, R).
    """
    batch, num_frames, width = py.shape
    starts = starts.cummax(dim=1).values  # padding may hold anything: see the lanes below
    labels = starts[:, :, None] + torch.arange(width, device=py.device)
    symbol_open, blank_open = _open_band_arcs(labels, s_lens, t_lens, regular)

    # Label s lives in lane s mod R. Among the cells of a step each lane occurs once, since the
    # band holds R consecutive labels per frame and never moves down.
    utterances = torch.arange(batch, device=py.device)[:, None, None]
    steps = torch.arange(num_frames, device=py.device)[:, None]
    steps = steps + labels if regular else steps
    symbol_cell = ((2 * steps + _SYMBOL) * width + (labels + 1) % width) * batch + utterances
    blank_cell = ((2 * steps + _BLANK) * width + labels % width) * batch + utterances
    num_steps = num_frames + num_symbols if regular else num_frames

    arcs = py.new_full((num_steps, 2, width, batch), _CLOSED)
    arcs.put_(symbol_cell, px.masked_fill(~symbol_open, _CLOSED))
    arcs.put_(blank_cell, py.masked_fill(~blank_open, _CLOSED))
    score, occupation = _scan(arcs, t_lens + s_lens if regular else t_lens, s_lens % width)
    px_grad = occupation.take(symbol_cell)
    py_grad = occupation.take(blank_cell).masked_fill(~blank_open, 0.0)
    return LatticeSums(score, px_grad, py_grad)


def _grid(arcs: Tensor, kind: int, shape: torch.Size, skewed: bool) -> Tensor:
    """View (D, 2, M, N) steps as (N, S, T): the arcs of one kind that leave the nodes (s, t).

    The step of an arc is t, or s + t if skewed: on the grid this is only a matter of strides.
    """
    step, plane, lane, utterance = arcs.stride()
    enters = 1 if kind == _SYMBOL else 0  # arcs are stored in the lane that they lead into
    offset = arcs.storage_offset() + kind * plane + enters * lane
    return arcs.as_strided(shape, (utterance, lane + step if skewed else lane, step), offset)


def _open_band_arcs(
    labels: Tensor, s_lens: Tensor, t_lens: Tensor, regular: bool
) -> tuple[Tensor, Tensor]:
    """Mark the symbol and the blank arcs (N, T, R) that lead from a cell of the band to another."""
    num_frames, width = labels.shape[1:]
    frames = torch.arange(num_frames, device=labels.device)[:, None]
    s_end, t_end = s_lens[:, None, None], t_lens[:, None, None]
    bottom = torch.cat([labels[:, 1:, :1], labels[:, -1:, :1]], dim=1)  # of the next frame
    is_last = frames == t_end - 1

    def in_next_frame(label: Tensor) -> Tensor:
        in_band = (label >= bottom) & (label < bottom + width)
        return torch.where(is_last, label == s_end, in_band)

    starts_at_zero = labels[:, :1, :1] == 0
    is_cell = (frames < t_end) & (labels <= s_end) & starts_at_zero
    symbol_arrives = labels < labels[:, :, -1:] if regular else in_next_frame(labels + 1)
    return is_cell & (labels < s_end) & symbol_arrives, is_cell & in_next_frame(labels)


def _scan(arcs: Tensor, end_steps: Tensor, end_lanes: Tensor) -> tuple[Tensor, Tensor]:
    """Score and occupations of lattices in which every path takes one arc per step.

    A path begins in lane 0. A blank arc keeps the lane; a symbol arc leads to the next lane, from
    the last one to lane 0.

    Args:
        arcs: (D, 2, M, N), log-weights of the symbol and blank arcs that lead *into* each lane,
            closed from an utterance's ``end_steps`` on. Overwritten.
        end_steps: (N,) integers in 0 .. D, number of steps of a complete path.
        end_lanes: (N,) integers, lane in which a complete path ends.

    Returns:
        (N,) scores, and occupations (D, 2, M, N). Blank arcs in the padding (from ``end_steps``
        on) have occupations as well; the caller drops them.
    """
    num_steps, _, num_lanes, _ = arcs.shape
    at_end_lane = torch.arange(num_lanes, device=arcs.device)[:, None] == end_lanes
    # Complete paths go on to step D for free, so that all utterances end together.
    is_padding = torch.arange(num_steps, device=arcs.device)[:, None] >= end_steps
    arcs[:, _BLANK].masked_fill_(is_padding[:, None] & at_end_lane, 0.0)
    # All paths take one arc per step: a shift of a step's arcs changes no occupation, and keeps
    # the sums small, hence exact in float32.
    shift = arcs.amax(dim=(1, 2)).clamp(min=_LOWEST_SHIFT)
    arcs -= shift[:, None, None]
    nodes, candidates = _sweep_forward(arcs)
    # A running sum, because its rounding does not depend on how much padding follows.
    total_shift = shift.double().cumsum(dim=0)[-1]
    score = nodes[-1].gather(0, end_lanes[None])[0].double() + total_shift
    return score.to(arcs.dtype), _sweep_backward(nodes, candidates, at_end_lane)


def _sweep_forward(arcs: Tensor) -> tuple[Tensor, Tensor]:
    """Log-weights (D + 1, M, N) of reaching each node, and through each arc (D, 2, M, N)."""
    num_steps, _, num_lanes, batch = arcs.shape
    # Row 0 repeats the last lane, so that "the lane below" is a view for every lane.
    rows = arcs.new_full((num_steps + 1, num_lanes + 1, batch), _CLOSED)
    rows[0, 1] = 0.0
    rows[0, 0] = rows[0, -1]
    lanes = rows[:, 1:]
    sources = rows.unfold(1, num_lanes, 1).transpose(2, 3)  # (D + 1, 2, M, N): below, same
    candidates = torch.empty_like(arcs)
    # Unbinding makes all the views at once, which is cheaper than indexing in the loop.
    for source, arc, candidate, symbol, blank, node, wrap, last in zip(
        sources[:-1].unbind(),
        arcs.unbind(),
        candidates.unbind(),
        candidates[:, _SYMBOL].unbind(),
        candidates[:, _BLANK].unbind(),
        lanes[1:].unbind(),
        rows[1:, 0].unbind(),
        rows[1:, -1].unbind(),
        strict=True,
    ):
        torch.add(source, arc, out=candidate)
        torch.logaddexp(symbol, blank, out=node)
        wrap.copy_(last)
    return lanes, candidates


def _sweep_backward(nodes: Tensor, candidates: Tensor, at_end_lane: Tensor) -> Tensor:
    """Occupations (D, 2, M, N): each node hands its own to its two arcs by their shares.

    The shares of a node sum to one, so the occupations of a step do as well, at any length.
    """
    num_steps, _, num_lanes, batch = candidates.shape
    symbol_lead = candidates[:, _SYMBOL] - candidates[:, _BLANK]
    shares = torch.stack([symbol_lead, -symbol_lead], dim=1).sigmoid_()
    is_unreachable = nodes[1:] == _CLOSED  # then both candidates are -inf, and the lead is nan
    shares.masked_fill_(is_unreachable[:, None], 0.0)
    # One more row repeats lane 0, so that "into the next lane" is a view for every lane.
    rows = candidates.new_empty(num_steps, 2, num_lanes + 1, batch)
    occupation = rows[:, :, :num_lanes]
    node = at_end_lane.to(candidates.dtype)
    steps = zip(
        shares.unbind(),
        occupation.unbind(),
        rows[:, _SYMBOL, 1:].unbind(),
        occupation[:, _BLANK].unbind(),
        rows[:, _SYMBOL, -1].unbind(),
        rows[:, _SYMBOL, 0].unbind(),
        strict=True,
    )
    for share, flow, into_next, into_same, wrap, first in reversed(list(steps)):
        torch.mul(share, node, out=flow)
        wrap.copy_(first)
        torch.add(into_next, into_same, out=node)
    return occupation


ArcsForward = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor, Tensor]]
ArcsBackward = Callable[[Tensor, Tensor, Tensor, int, Tensor, Tensor, bool], Tensor]


def loss_dtype(x: Tensor) -> torch.dtype:
    """Precision in which the losses of ``x`` are computed: float64 stays, all else is float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def softmax_arcs(logits: Tensor, targets: Tensor, blank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return log-normalisers and log-probabilities of the target and of blank.

    Args:
        logits: (N, T, R, V).
        targets: (N, T, R); negative where no path comes, there both probabilities are 0.
        blank: the id of blank.

    Returns:
        lse, px and py, each (N, T, R).
    """
    x = logits.to(loss_dtype(logits))
    lse = x.logsumexp(3)
    px = x.gather(3, targets.clamp(min=0)[..., None])[..., 0] - lse
    closed = targets < 0
    py = (x[..., blank] - lse).masked_fill(closed, float("-inf"))
    return lse, px.masked_fill_(closed, float("-inf")), py


def softmax_arcs_grad(
    logits: Tensor,
    lse: Tensor,
    targets: Tensor,
    blank: int,
    px_grad: Tensor,
    py_grad: Tensor,
    in_place: bool,
) -> Tensor:
    """Return the gradient of the logits, in their type; in their memory if ``in_place``."""
    total = (px_grad + py_grad)[..., None]
    grad = (logits.to(lse.dtype) - lse[..., None]).exp_().mul_(-total)
    grad.masked_fill_(total == 0, 0.0)  # also where the logits are junk
    grad.scatter_add_(3, targets.clamp(min=0)[..., None], px_grad[..., None])
    grad[..., blank] += py_grad
    return logits.copy_(grad) if in_place else grad.to(logits.dtype)


class Arcs(torch.autograd.Function):
    """Log-softmax and both picks as one node: it keeps the logits, and no second such tensor."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        targets: Tensor,
        blank: int,
        forward: ArcsForward,
        backward: ArcsBackward,
        in_place: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return px and py, computed by ``forward``; the gradient by ``backward``."""
        lse, px, py = forward(logits, targets, blank)
        ctx.save_for_backward(logits, lse, targets)
        ctx.blank, ctx.compute_grad, ctx.in_place = blank, backward, in_place
        return px, py

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, px_grad: Tensor, py_grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of the logits."""
        logits, lse, targets = ctx.saved_tensors
        if ctx.in_place:
            # Whoever still needs the logits, a second backward pass for one, is told by autograd.
            torch.autograd.graph.increment_version(logits)
        grad = ctx.compute_grad(
            logits.detach(), lse, targets, ctx.blank, px_grad, py_grad, ctx.in_place
        )
        return grad, None, None, None, None, None
