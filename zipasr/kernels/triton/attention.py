"""GPU kernels of attention weights, in Triton: softmax of scores and its gradient in one pass.

Launched by ``encoder.triton_attention``; import this only where triton is installed. A program
does some rows, of one matrix: utterance n and head h. N utterances, H heads, T targets, S sources
and, with positions, K = T - 1 + S distances; without, K is S.
"""

# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

import triton
import triton.language as tl

_SIZES = ("num_heads", "num_targets", "num_sources", "num_distances", "num_utterances")
_STRIDES = ("mask_utterance", "mask_head", "mask_target", "mask_source")


@triton.jit(do_not_specialize=(*_SIZES, *_STRIDES))
def attention_weights_kernel(
    scores: tl.tensor,
    by_distance: tl.tensor,
    mask: tl.tensor,
    num_heads: tl.tensor,
    num_targets: tl.tensor,
    num_sources: tl.tensor,
    num_distances: tl.tensor,
    num_utterances: tl.tensor,
    mask_utterance: tl.tensor,
    mask_head: tl.tensor,
    mask_target: tl.tensor,
    mask_source: tl.tensor,
    masked_score: tl.constexpr,
    positions: tl.constexpr,
    masked: tl.constexpr,
    rows: tl.constexpr,
    lanes: tl.constexpr,
) -> None:
    """Overwrite scores by weights. Grid: (N H, T / ``rows``, rounded up).

    Args:
        scores: (N, H, T, S) of content, of any floating type; the arithmetic is float32.
        by_distance: (H, T, N, K) of positions, of the same type; not read without.
        mask: bytes, not 0 where a target must not use a source; not read if there is none.
        num_heads: H.
        num_targets: T.
        num_sources: S.
        num_distances: K.
        num_utterances: N.
        mask_utterance: stride of ``mask``, like the three that follow.
        mask_head: see above.
        mask_target: see above.
        mask_source: see above.
        masked_score: takes the place of masked ones.
        positions: whether there are positions.
        masked: whether there is a mask.
        rows: power of two, targets of a program.
        lanes: power of two, at least S.
    """
    matrix = tl.program_id(0).to(tl.int64)
    utterance, head = matrix // num_heads, matrix % num_heads
    target = tl.program_id(1) * rows + tl.arange(0, rows)
    source = tl.arange(0, lanes)
    is_source = source < num_sources
    inside = (target < num_targets)[:, None] & is_source[None, :]
    scores += matrix * num_targets * num_sources
    place = target[:, None] * num_sources + source[None, :]
    x = tl.load(scores + place, mask=inside, other=0.0).to(tl.float32)
    if positions:
        row = ((head * num_targets + target) * num_utterances + utterance) * num_distances
        row += num_targets - 1 - target
        along = by_distance + row[:, None] + source[None, :]
        x += tl.load(along, mask=inside, other=0.0).to(tl.float32)
    if masked:
        row = utterance * mask_utterance + head * mask_head + target * mask_target
        among = mask + row[:, None] + source[None, :] * mask_source
        hidden = tl.load(among, mask=inside, other=0)
        x = tl.where(hidden != 0, masked_score, x)
    x = tl.where(is_source[None, :], x, float("-inf"))
    x = tl.exp(x - tl.max(x, 1)[:, None])
    x /= tl.sum(x, 1)[:, None]
    tl.store(scores + place, x.to(scores.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=(*_SIZES, "silent_utterance", "limit", "penalty"))
def attention_grad_kernel(
    grad: tl.tensor,
    weights: tl.tensor,
    scores: tl.tensor,
    by_distance: tl.tensor,
    distance_grad: tl.tensor,
    silent: tl.tensor,
    num_heads: tl.tensor,
    num_targets: tl.tensor,
    num_sources: tl.tensor,
    num_distances: tl.tensor,
    num_utterances: tl.tensor,
    silent_utterance: tl.tensor,
    limit: tl.tensor,
    penalty: tl.tensor,
    positions: tl.constexpr,
    penalized: tl.constexpr,
    has_silent: tl.constexpr,
    rows: tl.constexpr,
    lanes: tl.constexpr,
) -> None:
    """Overwrite the gradient of weights by that of scores. Grid: (N H, T / ``rows``, rounded up).

    Args:
        grad: (N, H, T, S) of any floating type; the arithmetic is float32.
        weights: (N, H, T, S).
        scores: (N, H, T, S) of content; read only if penalized, like ``by_distance``.
        by_distance: (H, T, N, K) of positions.
        distance_grad: (H, T, N, K), what ``grad`` is for ``by_distance``; only with positions.
        silent: (N, T) bytes, not 0 for targets without penalty; not read if there is none.
        num_heads: H.
        num_targets: T.
        num_sources: S.
        num_distances: K.
        num_utterances: N.
        silent_utterance: stride of ``silent``.
        limit: beyond which scores are penalized.
        penalty: see ``penalized``.
        positions: whether there are positions.
        penalized: 1: ``penalty`` is added to the gradient where a score is beyond the limit, with
            its sign; 2: the gradient of ``penalty * relu(mean |score| - limit)`` of a row, the
            mean by its weights, is added; 0: neither.
        has_silent: whether there are such targets.
        rows: power of two, targets of a program.
        lanes: power of two, at least K.
    """
    matrix = tl.program_id(0).to(tl.int64)
    utterance, head = matrix // num_heads, matrix % num_heads
    target = tl.program_id(1) * rows + tl.arange(0, rows)
    # A lane is a distance: the gradient is zero at those that lead to no source.
    distance = tl.arange(0, lanes)
    is_target, is_distance = target < num_targets, distance < num_distances
    source = distance[None, :] + tl.zeros((rows, 1), tl.int32)
    if positions:
        source -= (num_targets - 1 - target)[:, None]
    inside = is_target[:, None] & (source >= 0) & (source < num_sources)
    first = matrix * num_targets * num_sources
    grad += first
    weights += first
    place = target[:, None] * num_sources + source
    by_row = ((head * num_targets + target) * num_utterances + utterance) * num_distances
    along = by_row[:, None] + distance[None, :]
    g = tl.load(grad + place, mask=inside, other=0.0).to(tl.float32)
    w = tl.load(weights + place, mask=inside, other=0.0).to(tl.float32)
    g *= w
    g -= w * tl.sum(g, 1)[:, None]
    if penalized:
        x = tl.load(scores + first + place, mask=inside, other=0.0).to(tl.float32)
        if positions:
            x += tl.load(by_distance + along, mask=inside, other=0.0).to(tl.float32)
        if penalized == 1:
            g += tl.where(x > limit, penalty, 0.0) - tl.where(x < -limit, penalty, 0.0)
        else:
            mean = tl.sum(w * tl.abs(x), 1)
            is_large = mean > limit
            if has_silent:
                row = silent + utterance * silent_utterance + target
                is_large = is_large & (tl.load(row, mask=is_target, other=1) == 0)
            sign = tl.where(x > 0.0, 1.0, 0.0) - tl.where(x < 0.0, 1.0, 0.0)
            push = w * (tl.abs(x) - mean[:, None] + sign)
            g += tl.where(is_large, penalty, 0.0)[:, None] * push
    tl.store(grad + place, g.to(grad.dtype.element_ty), mask=inside)
    if positions:
        tl.store(
            distance_grad + along,
            g.to(grad.dtype.element_ty),
            mask=is_target[:, None] & is_distance[None, :],
        )
