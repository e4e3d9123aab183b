"""Simple transducer loss, of an additive joiner am + lm, without an (N, S, T, V) tensor."""

from __future__ import annotations

import importlib
from typing import Literal, overload

import torch
from torch import Tensor

from zipasr.losses.backend import k2_losses, kernels_for
from zipasr.losses.config import RnntBackend, RnntType
from zipasr.losses.recursion import loss_dtype
from zipasr.losses.transducer_lattice import (
    Occupations,
    Reduction,
    check_enough_frames,
    delay_offsets,
    full_boundary,
    is_regular,
    label_of_cells,
    mutual_information_recursion,
    reduce_losses,
)
from zipasr.nn.numerics import to_device


@overload
def rnnt_loss_simple(
    lm: Tensor,
    am: Tensor,
    symbols: Tensor,
    termination_symbol: int,
    boundary: Tensor | None = None,
    rnnt_type: RnntType = "regular",
    delay_penalty: float = 0.0,
    reduction: Reduction = "mean",
    return_grad: Literal[False] = False,
    backend: RnntBackend = "auto",
) -> Tensor: ...


@overload
def rnnt_loss_simple(
    lm: Tensor,
    am: Tensor,
    symbols: Tensor,
    termination_symbol: int,
    boundary: Tensor | None = None,
    rnnt_type: RnntType = "regular",
    delay_penalty: float = 0.0,
    reduction: Reduction = "mean",
    *,
    return_grad: Literal[True],
    backend: RnntBackend = "auto",
) -> tuple[Tensor, Occupations]: ...


def rnnt_loss_simple(  # noqa: PLR0913 - the signature is k2's
    lm: Tensor,
    am: Tensor,
    symbols: Tensor,
    termination_symbol: int,
    boundary: Tensor | None = None,
    rnnt_type: RnntType = "regular",
    delay_penalty: float = 0.0,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    backend: RnntBackend = "auto",
) -> Tensor | tuple[Tensor, Occupations]:
    """Transducer loss whose logits are the sums of an encoder and a predictor term.

    It is ``rnnt_loss_smoothed`` with both scales 0; see there for arguments, result and errors.
    """
    options = boundary, rnnt_type, delay_penalty, reduction, return_grad, backend
    return rnnt_loss_smoothed(lm, am, symbols, termination_symbol, 0.0, 0.0, *options)  # type: ignore[call-overload, no-any-return]


@overload
def rnnt_loss_smoothed(
    lm: Tensor,
    am: Tensor,
    symbols: Tensor,
    termination_symbol: int,
    lm_only_scale: float = 0.1,
    am_only_scale: float = 0.1,
    boundary: Tensor | None = None,
    rnnt_type: RnntType = "regular",
    delay_penalty: float = 0.0,
    reduction: Reduction = "mean",
    return_grad: Literal[False] = False,
    backend: RnntBackend = "auto",
) -> Tensor: ...


@overload
def rnnt_loss_smoothed(
    lm: Tensor,
    am: Tensor,
    symbols: Tensor,
    termination_symbol: int,
    lm_only_scale: float = 0.1,
    am_only_scale: float = 0.1,
    boundary: Tensor | None = None,
    rnnt_type: RnntType = "regular",
    delay_penalty: float = 0.0,
    reduction: Reduction = "mean",
    *,
    return_grad: Literal[True],
    backend: RnntBackend = "auto",
) -> tuple[Tensor, Occupations]: ...


def rnnt_loss_smoothed(  # noqa: PLR0913 - the signature is k2's
    lm: Tensor,
    am: Tensor,
    symbols: Tensor,
    termination_symbol: int,
    lm_only_scale: float = 0.1,
    am_only_scale: float = 0.1,
    boundary: Tensor | None = None,
    rnnt_type: RnntType = "regular",
    delay_penalty: float = 0.0,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    backend: RnntBackend = "auto",
) -> Tensor | tuple[Tensor, Occupations]:
    """Simple loss with log-probabilities interpolated with those of each side alone.

    Computed in float32 (float64 for float64 input), whatever the precision of the input and
    of autocast. With ``am_only_scale`` above 0 the loss of an utterance depends on its batch
    mates and on the padding, through an average of the predictor's distributions.

    Args:
        lm: (N, S + 1, V) logits of the predictor; row s has seen the first s symbols.
        am: (N, T, V) logits of the encoder.
        symbols: (N, S) int64 labels; the values beyond a boundary do not matter.
        termination_symbol: the id of blank.
        lm_only_scale: weight of the predictor-only log-probabilities.
        am_only_scale: weight of the encoder-only log-probabilities (with an average unigram).
        boundary: (N, 4) rows [s_begin, t_begin, s_end, t_end]; the whole lattice when omitted.
        rnnt_type: "regular": any number of symbols per frame; "modified": at most one, which
            takes the frame; "constrained": as modified, but a symbol pays for the blank too.
        delay_penalty: nats per frame by which late symbols are punished, early ones rewarded.
        reduction: "none", "sum" or "mean" over the utterances.
        return_grad: also return the occupations, for ``get_rnnt_prune_ranges``.
        backend: which code computes, see ``losses.backend``.

    Returns:
        The loss in nats, (N,) for "none", else a scalar; +inf, with a gradient of 0, where no path
        exists. With ``return_grad`` a pair of loss and (px_grad, py_grad): px_grad is
        (N, S, T + 1) for the regular type and (N, S, T) else, py_grad is (N, S + 1, T).

    Raises:
        ValueError: shapes, names or boundaries that do not fit.
        DataError: fewer frames than symbols in a type other than regular.

    Source: Kuang et al., "Pruned RNN-T for fast, memory-efficient ASR training",
    arXiv:2206.13236, section 3.
    """
    regular = is_regular(rnnt_type)
    _check_shapes(lm, am, symbols)
    boundary = full_boundary(boundary, am, symbols.shape[1])
    if not regular:
        check_enough_frames(boundary)
    scales = (lm_only_scale, am_only_scale)
    spans = to_device(boundary, am.device)
    with torch.autocast(am.device.type, enabled=False):
        lm, am = lm.to(loss_dtype(lm)), am.to(loss_dtype(am))
        if backend == "k2":
            return k2_losses().rnnt_loss_smoothed(  # type: ignore[no-any-return]
                lm=lm, am=am, symbols=symbols, termination_symbol=termination_symbol,
                lm_only_scale=lm_only_scale, am_only_scale=am_only_scale, boundary=spans,
                rnnt_type=rnnt_type, delay_penalty=delay_penalty,
                reduction=reduction, return_grad=return_grad,
            )  # fmt: skip
        labels = label_of_cells(symbols, spans, termination_symbol)
        # The common case as one autograd node of compiled loops; others as a chain of nodes.
        common = rnnt_type == "regular" and am_only_scale == 0.0 and not bool(boundary[:, :2].any())
        if common and kernels_for(backend, am).name == "numba":
            numba_backend = importlib.import_module("zipasr.losses.numba_backend")
            score, *occupations = numba_backend.SmoothedScore.apply(
                lm, am, labels, boundary, termination_symbol, lm_only_scale, delay_penalty
            )
        else:
            px, py = _arc_log_probs(lm, am, labels[:, :-1], termination_symbol, scales)
            px = _finish_symbol_arcs(px, py, spans, rnnt_type, delay_penalty)
            score, occupations = mutual_information_recursion(
                px, py, boundary, return_grad=True, backend=backend
            )
    loss = reduce_losses(-score, reduction)
    return (loss, tuple(occupations)) if return_grad else loss


def _check_shapes(lm: Tensor, am: Tensor, symbols: Tensor) -> None:
    shapes = [tuple(x.shape) for x in (lm, am, symbols)]
    fit = [x.dim() for x in (lm, am, symbols)] == [3, 3, 2] and (
        lm.shape == (am.shape[0], symbols.shape[1] + 1, am.shape[2])
        and symbols.shape[0] == am.shape[0]
    )
    if not fit:
        raise ValueError(
            f"lm {shapes[0]}, am {shapes[1]} and symbols {shapes[2]} do not fit; "
            "they must be (N, S + 1, V), (N, T, V) and (N, S)"
        )


def _arc_log_probs(
    lm: Tensor, am: Tensor, labels: Tensor, blank: int, scales: tuple[float, float]
) -> Occupations:
    """Log-probabilities of the symbol arcs (N, S, T) and of the blank arcs (N, S + 1, T)."""
    lm_scale, am_scale = scales
    num_frames = am.shape[1]
    # The result does not depend on the maxima, so they need no gradient.
    lm_max, am_max = lm.detach().amax(2, keepdim=True), am.detach().amax(2, keepdim=True)
    lm_exp, am_exp = (lm - lm_max).exp(), (am - am_max).exp()
    tiny = torch.finfo(am.dtype).tiny
    joint = lm_exp @ am_exp.transpose(1, 2)
    norm = (joint + tiny).log() + lm_max + am_max.transpose(1, 2)

    am_symbol = am.gather(2, labels[:, None].expand(-1, num_frames, -1)).transpose(1, 2)
    am_blank = am[:, None, :, blank]
    lm_symbol = lm[:, :-1].gather(2, labels[:, :, None])
    lm_blank = lm[:, :, blank, None]
    scale = 1.0 - lm_scale - am_scale
    px = scale * (am_symbol + lm_symbol - norm[:, :-1])
    py = scale * (am_blank + lm_blank - norm)
    if lm_scale != 0.0:
        lm_norm = lm_exp.sum(2, keepdim=True).log() + lm_max
        px = px + lm_scale * (lm_symbol - lm_norm[:, :-1])
        py = py + lm_scale * (lm_blank - lm_norm)
    if am_scale != 0.0:
        unigram = (lm_exp / lm_exp.sum(2, keepdim=True)).mean((0, 1)) + tiny
        am_norm = (am_exp @ unigram).log()[:, None] + am_max.transpose(1, 2)
        px = px + am_scale * (am_symbol + unigram.log()[labels][:, :, None] - am_norm)
        py = py + am_scale * (am_blank + unigram[blank].log() - am_norm)
    return px, py


def _finish_symbol_arcs(
    px: Tensor, py: Tensor, boundary: Tensor, rnnt_type: RnntType, delay_penalty: float
) -> Tensor:
    """Give the symbol arcs (N, S, T) the shape and the additions of the type of lattice."""
    if rnnt_type == "regular":
        # No symbol after the last frame: the last arc of a path is a blank.
        px = torch.nn.functional.pad(px, (0, 1))
        columns = torch.arange(px.shape[2], device=px.device)
        px = px.masked_fill(columns >= boundary[:, 3, None, None], float("-inf"))
    elif rnnt_type == "constrained":
        px = px + py[:, 1:]
    if delay_penalty != 0.0:
        offsets = delay_offsets(boundary, px.shape[2], delay_penalty)
        px = px + offsets[:, None].to(px.dtype)
    return px
