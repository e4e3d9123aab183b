"""What all transducer losses share: lattice types, boundaries, differentiable score, reduction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args, overload

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from zipasr.base.errors import DataError
from zipasr.losses.backend import kernels_for
from zipasr.losses.config import RnntBackend, RnntType
from zipasr.losses.recursion import LatticeSums, loss_dtype
from zipasr.nn.numerics import to_device

Reduction = Literal["none", "mean", "sum"]
Occupations = tuple[Tensor, Tensor]


def is_regular(rnnt_type: RnntType) -> bool:
    """Whether a symbol keeps the frame, so that a frame may carry several.

    Raises:
        ValueError: the name is none of the three types.
    """
    if rnnt_type not in get_args(RnntType):
        raise ValueError(f"rnnt_type is {rnnt_type!r}; it must be one of {get_args(RnntType)}")
    return rnnt_type == "regular"


def full_boundary(boundary: Tensor | None, like: Tensor, num_symbols: int) -> Tensor:
    """Check a boundary, or make the one that spans the whole lattice.

    Args:
        boundary: (N, 4) integers, rows [s_begin, t_begin, s_end, t_end]; or none.
        like: (N, T, ...), gives N and T.
        num_symbols: S.

    Returns:
        (N, 4) int64 on the host, where it is read; one that is on a device is waited for.

    Raises:
        ValueError: wrong shape, or a row that does not fit into S x T or spans no frame.
    """
    batch, num_frames = like.shape[:2]
    if boundary is None:
        boundary = torch.tensor([0, 0, num_symbols, num_frames]).expand(batch, 4)
    if boundary.shape != (batch, 4):
        raise ValueError(f"boundary has shape {tuple(boundary.shape)}; it must be ({batch}, 4)")
    boundary = boundary.to("cpu", torch.int64)
    for utterance, (s_begin, t_begin, s_end, t_end) in enumerate(boundary.tolist()):
        if not (0 <= s_begin <= s_end <= num_symbols and 0 <= t_begin < t_end <= num_frames):
            raise ValueError(
                f"boundary of utterance {utterance} is {[s_begin, t_begin, s_end, t_end]}; "
                f"it must lie within {num_symbols} symbols and {num_frames} frames, "
                "and span at least one frame"
            )
    return boundary


def check_enough_frames(boundary: Tensor) -> None:
    """Refuse utterances with more symbols than frames, for the types with one arc per frame.

    Raises:
        DataError: there is such an utterance.
    """
    for utterance, (s_begin, t_begin, s_end, t_end) in enumerate(boundary.tolist()):
        if s_end - s_begin > t_end - t_begin:
            raise DataError(
                f"Utterance {utterance} of the batch has {s_end - s_begin} tokens but only "
                f"{t_end - t_begin} frames, and this rnnt_type emits at most one per frame.",
                "drop such utterances, or use --rnnt-type regular.",
            )


def label_of_cells(symbols: Tensor, boundary: Tensor, blank: int) -> Tensor:
    """Replace the padding of (N, S) ``symbols`` by blank and append one blank: (N, S + 1)."""
    padded = torch.nn.functional.pad(symbols, (0, 1), value=blank)
    positions = torch.arange(padded.shape[1], device=padded.device)
    return padded.masked_fill(positions >= boundary[:, 2:3], blank)


def delay_offsets(boundary: Tensor, num_columns: int, delay_penalty: float) -> Tensor:
    """Reward of emitting a symbol on each frame: positive early, negative late, zero on average.

    Args:
        boundary: (N, 4); the middle of the utterance is (t_end - 1) / 2.
        num_columns: T, or T + 1 for the regular type.
        delay_penalty: nats per frame.

    Returns:
        (N, num_columns) float64.

    Source: Kang et al., "Delay-penalized transducer", arXiv:2211.00490.
    """
    frames = torch.arange(num_columns, device=boundary.device)
    return delay_penalty * ((boundary[:, 3:4].double() - 1) / 2 - frames)


def reduce_losses(losses: Tensor, reduction: Reduction) -> Tensor:
    """Return (N,) ``losses`` as they are ("none"), their "sum", or their "mean" over utterances.

    Raises:
        ValueError: another name.
    """
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    if reduction == "mean":
        return losses.mean()
    raise ValueError(f"reduction is {reduction!r}; it must be one of {get_args(Reduction)}")


class _LatticeScore(torch.autograd.Function):
    """A recursion as one node of the graph: occupations are the derivative of the score."""

    @staticmethod
    def forward(
        ctx: Any, px: Tensor, py: Tensor, recursion: Callable[[Tensor, Tensor], LatticeSums]
    ) -> tuple[Tensor, Tensor, Tensor]:
        score, px_grad, py_grad = recursion(px, py)
        ctx.save_for_backward(px_grad, py_grad)
        ctx.mark_non_differentiable(px_grad, py_grad)
        return score, px_grad, py_grad

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, score_grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, None]:
        px_grad, py_grad = ctx.saved_tensors
        weight = score_grad[:, None, None]
        return weight * px_grad, weight * py_grad, None


def lattice_score(
    px: Tensor, py: Tensor, recursion: Callable[[Tensor, Tensor], LatticeSums]
) -> LatticeSums:
    """Run ``recursion`` on the arc weights such that gradients flow from the score to them.

    The occupations in the result are plain values, without a gradient.
    """
    return LatticeSums(*_LatticeScore.apply(px, py, recursion))  # type: ignore[no-untyped-call]


@overload
def mutual_information_recursion(
    px: Tensor,
    py: Tensor,
    boundary: Tensor | None = ...,
    return_grad: Literal[False] = ...,
    backend: RnntBackend = ...,
) -> Tensor: ...
@overload
def mutual_information_recursion(
    px: Tensor,
    py: Tensor,
    boundary: Tensor | None = ...,
    *,
    return_grad: Literal[True],
    backend: RnntBackend = ...,
) -> tuple[Tensor, Occupations]: ...
@overload
def mutual_information_recursion(
    px: Tensor,
    py: Tensor,
    boundary: Tensor | None,
    return_grad: Literal[True],
    backend: RnntBackend = ...,
) -> tuple[Tensor, Occupations]: ...
def mutual_information_recursion(
    px: Tensor,
    py: Tensor,
    boundary: Tensor | None = None,
    return_grad: bool = False,
    backend: RnntBackend = "auto",
) -> Tensor | tuple[Tensor, Occupations]:
    """Sum the weights of all monotonic paths through each utterance's lattice.

    A path leads from (s_begin, t_begin) to (s_end, t_end). A blank arc raises t by one. A symbol
    arc raises s by one and, except in the regular type, t as well.

    Args:
        px: (N, S, T + 1) for the regular type, (N, S, T) for the others; log-weights of the
            symbol arcs that leave (s, t).
        py: (N, S + 1, T), log-weights of the blank arcs.
        boundary: (N, 4) integers, rows [s_begin, t_begin, s_end, t_end]; the whole lattice when
            omitted. Arcs outside are ignored.
        return_grad: also return the occupations.
        backend: which code computes, see ``losses.backend``.

    Returns:
        (N,) scores, natural logarithms, -inf where no path exists; with ``return_grad`` a pair of
        the scores and (px_grad, py_grad), the occupations: posterior probabilities of the arcs,
        shaped like ``px`` and ``py``, without gradient.

    Raises:
        ValueError: shapes that do not fit each other, or a boundary outside the lattice.

    Source: Kuang et al., "Pruned RNN-T for fast, memory-efficient ASR training",
    arXiv:2206.13236.
    """
    num_symbols, num_columns = px.shape[1:]
    num_frames = py.shape[2]
    if py.shape[:2] != (px.shape[0], num_symbols + 1) or num_columns - num_frames not in (0, 1):
        raise ValueError(
            f"px {tuple(px.shape)} and py {tuple(py.shape)} do not fit; they must be "
            "(N, S, T + 1) or (N, S, T), and (N, S + 1, T)"
        )
    boundary = full_boundary(boundary, py.transpose(1, 2), num_symbols)
    has_offset = bool(boundary[:, :2].any())
    boundary = to_device(boundary, py.device)
    begin, lens = boundary[:, :2], boundary[:, 2:] - boundary[:, :2]
    if has_offset:
        px, py = _roll(px, begin), _roll(py, begin)
    px, py = px.to(loss_dtype(px)), py.to(loss_dtype(py))
    recursion = kernels_for(backend, px).full_recursion
    sums = lattice_score(
        px,
        py,
        lambda x, y: recursion(x, y, lens[:, 0], lens[:, 1]),
    )
    if not return_grad:
        return sums.score
    occupations = (sums.px_grad, sums.py_grad)
    if has_offset:
        occupations = (_roll(sums.px_grad, -begin), _roll(sums.py_grad, -begin))
    return sums.score, occupations


def _roll(x: Tensor, offsets: Tensor) -> Tensor:
    """Move the cell at ``offsets`` (N, 2) of each utterance to (0, 0), cyclically."""
    batch, rows, columns = x.shape
    device = x.device
    utterance = torch.arange(batch, device=device)[:, None, None]
    row = (torch.arange(rows, device=device) + offsets[:, :1]) % max(rows, 1)
    column = (torch.arange(columns, device=device) + offsets[:, 1:]) % columns
    return x[utterance, row[:, :, None], column[:, None, :]]
