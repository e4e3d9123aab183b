"""Attention in blocks of queries: no matrix of all scores is ever in memory, in either pass.

The backward pass computes the scores of a block anew, which costs one product more and saves
writing and reading the largest tensors of a layer, (N, H, T', S).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from zipasr.encoder import attention_scores, triton_attention
from zipasr.encoder.attention_scores import (
    MASKED_SCORE,
    Penalty,
    inputs_gradients,
    mean_penalty_gradient,
    shift_positions,
)
from zipasr.nn.gradients import TensorFunction
from zipasr.nn.numerics import block_bytes, is_traced, matmul_dtype, no_autocast

#: Mean size of the scores of a query, weighted by attention, beyond which it is penalised.
MAX_SCORE = 8.0


class Inputs(NamedTuple):
    """What attention works on.

    ``query`` (N, H, T', D), ``key`` (N, H, S, D), ``pos_query`` (N, H, T', P), ``pos_key``
    (H, T' - 1 + S, P) of all distances, the first of which belongs to the last query and the
    first key; ``value`` (N, H, S, V).
    """

    query: Tensor
    key: Tensor
    pos_query: Tensor
    pos_key: Tensor
    value: Tensor


class Hidden(NamedTuple):
    """What queries must not see; ``None`` hides nothing.

    ``padding`` (N, S) is True at padding, ``chunk`` (T', S) where a target must not use a source.
    Queries are the last T' of the S frames.
    """

    padding: Tensor | None = None
    chunk: Tensor | None = None

    def part(self, utterances: slice, targets: slice) -> Hidden:
        """Return what some queries of some utterances must not see."""
        return Hidden(
            None if self.padding is None else self.padding[utterances],
            None if self.chunk is None else self.chunk[targets],
        )

    def masks(self) -> Iterator[Tensor]:
        """Yield masks that broadcast to (N, H, T', S)."""
        if self.chunk is not None:
            yield self.chunk
        if self.padding is not None:
            yield self.padding[:, None, None, :]


#: Queries see all keys.
NOTHING = Hidden()


def mix(inputs: Inputs, hidden: Hidden = NOTHING, penalty: float = 0.0) -> Tensor:
    """Return sums of the values, weighted by a softmax over scores of content and position.

    Args:
        inputs: see above; under autocast, products run in its type.
        hidden: see above.
        penalty: weight of the sum over heads and valid queries of ``relu(mean |score| - 8)``, in
            the gradient alone.

    Returns:
        (N, H, T', V).
    """
    dtype = matmul_dtype(inputs.pos_key)
    return _Mix.call(hidden, penalty, *(t.to(dtype) for t in inputs))


class _Mix(TensorFunction):
    @staticmethod
    def forward(ctx: Any, hidden: Hidden, penalty: float, *parts: Tensor) -> Tensor:
        inputs = Inputs(*parts)
        ctx.save_for_backward(*inputs, *hidden)
        ctx.penalty = penalty
        with no_autocast(inputs.query):
            value = inputs.value
            if is_traced():
                # One piece, whatever its size: a recorded program knows no blocks.
                return torch.matmul(_softmax(_scores(inputs, hidden)).to(value.dtype), value)
            out = value.new_empty(*inputs.query.shape[:3], value.size(3))
            for block in _blocks(inputs):
                part, seen = _take(inputs, block), hidden.part(block[0], block[2])
                if triton_attention.suits(part.query, part.pos_key.size(1)):
                    weights = triton_attention.weights(_scored(part, seen))
                else:
                    weights = _softmax(_scores(part, seen)).to(value.dtype)
                out[block] = weights @ part.value
            return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *saved, padding, chunk = ctx.saved_tensors
        inputs, hidden = Inputs(*saved), Hidden(padding, chunk)
        grads = Inputs(*(torch.zeros_like(t) for t in saved))
        grad = grad.to(inputs.value.dtype)
        late = inputs.key.size(2) - inputs.query.size(2)
        with no_autocast(grad):
            for block in _blocks(inputs):
                n, _, t = block
                part, seen = _take(inputs, block), hidden.part(n, t)
                into = _take(grads, block)
                silent = None
                if padding is not None:
                    silent = padding[n, late + t.start : late + t.stop]
                if triton_attention.suits(part.query, part.pos_key.size(1)):
                    kind = 2 if ctx.penalty else 0
                    penalty = Penalty(kind, MAX_SCORE, ctx.penalty, silent)
                    _add_by_kernels(part, seen, grad[block], penalty, into)
                    continue
                scores = _scores(part, seen)
                weights = _softmax(scores)
                scores_grad = _through_softmax(weights, grad[block], part, into)
                if ctx.penalty:
                    extra = mean_penalty_gradient(scores, weights, MAX_SCORE, ctx.penalty)
                    if silent is not None:
                        extra.masked_fill_(silent[:, None, :, None], 0.0)
                    scores_grad.add_(extra)
                if chunk is not None:
                    # Queries that see nothing, at padding, have equal weights and no gradient.
                    for mask in seen.masks():
                        scores_grad.masked_fill_(mask, 0.0)
                _add_gradients(scores_grad.to(part.key.dtype), part, into)
        return (None, None, *grads)


#: Utterances, heads and queries of a block.
_Block = tuple[slice, slice, slice]


def _blocks(inputs: Inputs) -> Iterator[_Block]:
    """Cut into blocks that fit a cache: all queries of some heads, or some queries of one head.

    Where there is more room, all queries of all heads of some utterances.
    """
    num, heads, targets, _ = inputs.query.shape
    sources = inputs.key.size(2)
    # Scores by distance and by source, and their gradients.
    row_bytes = 4 * 4 * sources
    device = inputs.query.device
    rows = max(32, block_bytes(device) // row_bytes)
    if rows >= 2 * targets:
        step = min(heads, rows // targets)
        # Elsewhere than in a cache, what counts is that blocks are few.
        together = 1 if device.type == "cpu" else max(1, rows // (heads * targets))
        for n in range(0, num, together):
            for h in range(0, heads, step):
                yield slice(n, n + together), slice(h, h + step), slice(0, targets)
        return
    pieces = -(-targets // rows)
    size = -(-targets // pieces)
    for n in range(num):
        for h in range(heads):
            for start in range(0, targets, size):
                yield slice(n, n + 1), slice(h, h + 1), slice(start, min(start + size, targets))


def _take(inputs: Inputs, block: _Block) -> Inputs:
    """Return views of the parts that a block needs."""
    n, h, t = block
    targets, sources = inputs.query.size(2), inputs.key.size(2)
    # The first distance of a block is that between its last query and the first key.
    distances = slice(targets - t.stop, targets - t.start + sources - 1)
    return Inputs(
        inputs.query[block],
        inputs.key[n, h],
        inputs.pos_query[block],
        inputs.pos_key[h, distances],
        inputs.value[n, h],
    )


def _scored(inputs: Inputs, hidden: Hidden) -> attention_scores.Inputs:
    """Return what the scores come from."""
    masks = [mask if mask.ndim == 4 else mask[None, None] for mask in hidden.masks()]
    mask = functools.reduce(torch.logical_or, masks) if masks else None
    return attention_scores.Inputs(*inputs[:4], mask)


def _add_by_kernels(
    part: Inputs, seen: Hidden, grad: Tensor, penalty: Penalty, into: Inputs
) -> None:
    """Add the gradients of a block, by the kernels of a GPU."""
    scored = _scored(part, seen)
    weights = triton_attention.weights(scored)
    into.value.add_(weights.transpose(2, 3) @ grad)
    if seen.chunk is not None and scored.mask is not None:
        # Queries that see nothing, at padding, have equal weights and no gradient.
        weights.masked_fill_(scored.mask, 0.0)
    weights_grad = grad @ part.value.transpose(2, 3)
    found = triton_attention.scores_gradients(scored, weights_grad, weights, penalty)
    for total, one in zip(into[:4], inputs_gradients(scored, *found), strict=True):
        assert one is not None
        total.add_(one)


def _scores(inputs: Inputs, hidden: Hidden) -> Tensor:
    """Return (N, H, T', S), masked."""
    by_distance = torch.matmul(inputs.pos_query, inputs.pos_key.transpose(1, 2))
    shape = (*inputs.query.shape[:3], inputs.key.size(2))
    shifted = shift_positions(by_distance.flatten(0, 1), shape[3])
    content = inputs.query.flatten(0, 1), inputs.key.flatten(0, 1).transpose(1, 2)
    scores = torch.baddbmm(shifted, *content).view(shape)
    for mask in hidden.masks():
        scores = scores.masked_fill_(mask, MASKED_SCORE)
    return scores


def _softmax(scores: Tensor) -> Tensor:
    return scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))


def _through_softmax(weights: Tensor, grad: Tensor, part: Inputs, into: Inputs) -> Tensor:
    """Add the gradient of the values to ``into``; return that of the scores."""
    into.value.add_(weights.to(grad.dtype).transpose(2, 3) @ grad)
    weights_grad = (grad @ part.value.transpose(2, 3)).to(weights.dtype)
    # W (g - sum_j W g) in one pass.
    scores_grad: Tensor = torch._softmax_backward_data(weights_grad, weights, -1, weights.dtype)
    return scores_grad


def _add_gradients(grad: Tensor, part: Inputs, into: Inputs) -> None:
    """Add the gradients of queries, keys and positions, given that of the scores."""
    into.query.add_(grad @ part.key)
    into.key.add_(grad.transpose(2, 3) @ part.query)
    by_distance = grad.new_zeros(*grad.shape[:3], part.pos_key.size(1))
    shift_positions(by_distance.flatten(0, 1), grad.size(3)).copy_(grad.flatten(0, 1))
    into.pos_query.add_(by_distance @ part.pos_key)
    into.pos_key.add_((by_distance.transpose(2, 3) @ part.pos_query).sum(0))
