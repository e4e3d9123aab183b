"""Transducer loss of joiner outputs: on the pruned band (N, T, R, V), or complete."""

from __future__ import annotations

import torch
from torch import Tensor

from zipasr.losses.backend import k2_losses, kernels_for
from zipasr.losses.config import RnntBackend, RnntType
from zipasr.losses.lattice import (
    Reduction,
    check_enough_frames,
    delay_offsets,
    full_boundary,
    is_regular,
    label_of_cells,
    lattice_score,
    reduce_losses,
)
from zipasr.losses.pruning import zero_based
from zipasr.losses.recursion import Arcs, loss_dtype
from zipasr.nn.numerics import to_device


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
