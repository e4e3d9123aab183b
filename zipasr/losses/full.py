"""The transducer loss of complete joiner outputs: the pruned loss with nothing pruned."""

from __future__ import annotations

import torch
from torch import Tensor

from zipasr.losses.backend import RnntBackend
from zipasr.losses.lattice import Reduction, RnntType
from zipasr.losses.pruned import rnnt_loss_pruned


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
