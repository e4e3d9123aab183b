"""Attention weights by content and distance, and the gradients behind them, in operations of torch.

``relative_attention`` computes with these on a CPU, ``triton_attention`` is compared with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from zipasr.nn.gradients import abs_penalty_gradient
from zipasr.nn.numerics import is_traced

#: Score of a masked source. Its exponential is exactly 0 next to any other score, and a row
#: in which every source is masked becomes uniform instead of NaN.
MASKED_SCORE = -1000.0


class Inputs(NamedTuple):
    """Queries, keys and positional terms of attention scores.

    ``query`` (N, H, T', D), ``key`` (N, H, S, D), ``pos_query`` (N, H, T', P) and ``pos_key``
    (H, K, P) with K = T' - 1 + S distances; the last two are ``None`` where positions do
    not count. ``mask``, 4-D booleans that broadcast to (N, H, T', S), is True where a target
    must not use a source.
    """

    query: Tensor
    key: Tensor
    pos_query: Tensor | None
    pos_key: Tensor | None
    mask: Tensor | None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """N, H, T' and S."""
        return (*self.query.shape[:3], self.key.shape[2])

    def map(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        """Return them with each tensor changed."""
        return Inputs(*(None if x is None else change(x) for x in self))  # type: ignore[arg-type]


def heads_first(x: Tensor, num_heads: int) -> Tensor:
    """Split the channels of (T', N, C) and return (N, H, T', C / H), a view."""
    return x.view(*x.shape[:2], num_heads, -1).permute(1, 2, 0, 3)


class Penalty(NamedTuple):
    """What is added to the gradient of large scores.

    Attributes:
        kind: 0: nothing; 1: ``weight`` with the sign of the score, for each beyond ``limit``;
            2: the gradient of ``weight * relu(mean |score| - limit)`` of each target, whose mean
            is that by its attention weights.
        limit: see above.
        weight: see above.
        silent: (N, T), True for targets without penalty; for kind 2.
    """

    kind: int = 0
    limit: float = 0.0
    weight: float = 0.0
    silent: Tensor | None = None


def weights_of_block(inputs: Inputs) -> Tensor:
    """Return the weights (N, H, T', S), computed in one piece."""
    return _softmax(_masked(scores_of(inputs), inputs.mask))


def scores_of(inputs: Inputs) -> Tensor:
    """Return (N, H, T', S) before masking."""
    content = inputs.query.flatten(0, 1), inputs.key.flatten(0, 1).transpose(1, 2)
    if inputs.pos_query is None or inputs.pos_key is None:
        return torch.bmm(*content).view(inputs.shape)
    by_distance = torch.matmul(inputs.pos_query, inputs.pos_key.transpose(1, 2))
    shifted = shift_positions(by_distance.flatten(0, 1), inputs.key.size(2))
    return torch.baddbmm(shifted, *content).view(inputs.shape)


def _masked(scores: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return scores
    if mask.device.type == "cpu" and mask.size(2) == 1 and not is_traced():
        # Padding stands at the end: most of the scores need not be touched.
        hidden = mask.flatten(0, -2).any(0)
        first = int(hidden.byte().argmax()) if bool(hidden.any()) else hidden.numel()
        scores[..., first:].masked_fill_(mask[..., first:], MASKED_SCORE)
        return scores
    return scores.masked_fill_(mask, MASKED_SCORE)


def _softmax(scores: Tensor) -> Tensor:
    if scores.is_cuda:  # float32 inside
        return scores.softmax(dim=-1)
    wide = torch.promote_types(scores.dtype, torch.float32)
    return scores.softmax(dim=-1, dtype=wide).to(scores.dtype)


def shift_positions(scores: Tensor, num_sources: int) -> Tensor:
    """Turn scores by distance into scores by source frame, without a copy.

    Args:
        scores: (..., T', K), contiguous; column n belongs to the distance n - (K - num_sources)
            between source and target for the first target, as in ``compact_positions``.
        num_sources: S; K is ``T' - 1 + S``.

    Returns:
        (..., T', S), a view: entry (i, j) is column T' - 1 - i + j of row i.
    """
    *batch, num_targets, num_columns = scores.shape
    if is_traced():
        return _gathered_positions(scores, num_sources)
    return scores.as_strided(
        (*batch, num_targets, num_sources),
        (*scores.stride()[:-2], num_columns - 1, 1),
        scores.storage_offset() + num_targets - 1,
    )


def _gathered_positions(scores: Tensor, num_sources: int) -> Tensor:
    """Do the same by index: strides would tie an exported model to the sizes it was traced with."""
    num_targets = scores.size(-2)
    targets = torch.arange(num_targets, device=scores.device)
    sources = torch.arange(num_sources, device=scores.device)
    columns = num_targets - 1 - targets[:, None] + sources
    return scores.gather(-1, columns.expand(*scores.shape[:-1], num_sources))


def scores_gradients(
    inputs: Inputs, grad: Tensor, matrix: Tensor, penalty: Penalty
) -> tuple[Tensor, Tensor | None]:
    """Return the gradient of the scores by source and by distance from that of the weights.

    Args:
        inputs: of the scores.
        grad: (N, H, T, S).
        matrix: (N, H, T, S), the weights.
        penalty: of large scores.

    Returns:
        (N, H, T, S) and (H, T, N, K), or None for the second without positions.
    """
    grad = torch._softmax_backward_data(grad, matrix, -1, matrix.dtype)
    if penalty.kind == 1:
        grad = grad.add_(abs_penalty_gradient(scores_of(inputs), penalty.limit, penalty.weight))
    if penalty.kind == 2:
        extra = mean_penalty_gradient(scores_of(inputs), matrix, penalty.limit, penalty.weight)
        if penalty.silent is not None:
            extra.masked_fill_(penalty.silent[:, None, :, None], 0.0)
        grad = grad.add_(extra)
    if inputs.pos_key is None:
        return grad, None
    num_utterances, num_heads, num_targets, _ = grad.shape
    by_distance = grad.new_zeros(num_heads, num_targets, num_utterances, inputs.pos_key.size(1))
    head, target, utterance, _ = by_distance.stride()
    strides = (utterance, head, target - 1, 1)
    by_distance.as_strided(grad.shape, strides, num_targets - 1).copy_(grad)
    return grad, by_distance


def mean_penalty_gradient(scores: Tensor, weights: Tensor, limit: float, penalty: float) -> Tensor:
    """Return the gradient of ``penalty * sum(relu(mean |score| - limit))``.

    The mean of a query is weighted by its attention, so that what it does not look at is free.

    Args:
        scores: (..., S).
        weights: their softmax.
        limit: see above.
        penalty: see above.
    """
    size = scores.abs().to(weights.dtype)
    mean = torch.linalg.vecdot(weights, size).unsqueeze(-1)
    factor = (mean > limit).to(mean.dtype).mul_(penalty)
    gradient: Tensor = (size - mean).add_(scores.sign()).mul_(weights).mul_(factor)
    return gradient


def inputs_gradients(
    inputs: Inputs, grad: Tensor, by_distance: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Return the gradients of queries, keys and positional terms from what those of scores are."""
    by_query, by_key = grad @ inputs.key, grad.transpose(2, 3) @ inputs.query
    if inputs.pos_query is None or inputs.pos_key is None or by_distance is None:
        return by_query, by_key, None, None
    rows = by_distance.flatten(1, 2)
    by_pos_query = (rows @ inputs.pos_key).view(*by_distance.shape[:3], -1).permute(2, 0, 1, 3)
    by_pos_key = rows.transpose(1, 2) @ inputs.pos_query.permute(1, 2, 0, 3).flatten(1, 2)
    return by_query, by_key, by_pos_query, by_pos_key
