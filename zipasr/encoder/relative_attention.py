"""Attention weights in blocks that fit a cache, and one gradient for all of their uses.

The matrices of weights, (N, H, T', S), are the largest tensors of a layer. The scores behind them
are computed for a few matrices at a time, so that only the weights themselves are written to
memory. In the backward pass every use of the weights leaves behind its two small factors,
and the gradient of the scores is made from all of them at once, again in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from zipasr.encoder import triton_attention
from zipasr.encoder.attention_scores import (
    Inputs,
    Penalty,
    inputs_gradients,
    scores_gradients,
    scores_of,
    shift_positions,
    weights_of_block,
)
from zipasr.nn.gradients import TensorFunction, abs_penalty_gradient
from zipasr.nn.numerics import block_bytes, is_traced, no_autocast

#: Scores beyond this size are penalised now and then.
SCORE_LIMIT, SCORE_PENALTY = 25.0, 1.0e-4


class _Use(NamedTuple):
    """One product with the weights of the first H' heads.

    ``grad`` (N, H', T', D) is the product's gradient, ``values`` (N, H', S, D) the other factor.
    """

    grad: Tensor
    values: Tensor

    @property
    def num_heads(self) -> int:
        return self.values.size(1)


class AttentionWeights(NamedTuple):
    """Attention weights (H, N, T, S), with a gradient shared by all uses.

    Attributes:
        matrix: (N, H, T', S), target before source; sums to 1 over sources.
        token: through it the backward passes of all uses come before that of the weights;
            ``None`` when no gradient is wanted.
        uses: filled by the backward passes of the uses.
    """

    matrix: Tensor
    token: Tensor | None = None
    uses: list[_Use] | None = None

    def mix(self, values: Tensor) -> Tensor:
        """Return weighted sums of ``values`` over the sources.

        Args:
            values: (N, H', S, D), where H' is H, or less for the first H' heads only.

        Returns:
            (N, H', T', D).
        """
        matrix = self.matrix[:, : values.size(1)]
        if self.token is None or self.uses is None:
            return torch.matmul(matrix, values)
        return _Mix.call(self.token, values, matrix, self.uses)

    def constant(self) -> AttentionWeights:
        """Return the first head made uniform over the visible sources, (N, 1, T', S)."""
        visible = (self.matrix[:, :1] > 0.0).to(self.matrix.dtype)
        return AttentionWeights(visible / visible.sum(dim=-1, keepdim=True))


class _Mix(TensorFunction):
    """Product of weights and values; what the weights' gradient needs is kept for later."""

    @staticmethod
    def forward(
        ctx: Any, _token: Tensor, values: Tensor, matrix: Tensor, uses: list[_Use]
    ) -> Tensor:
        with no_autocast(matrix):
            values = values.to(matrix.dtype)
            ctx.save_for_backward(values, matrix)
            ctx.uses = uses
            return torch.matmul(matrix, values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None, None]:
        values, matrix = ctx.saved_tensors
        with no_autocast(matrix):
            ctx.uses.append(_Use(grad, values))
            # No gradient of the token is needed for the order of the backward passes.
            return None, matrix.transpose(2, 3) @ grad, None, None


def attention_weights(inputs: Inputs, penalize: bool = False) -> AttentionWeights:
    """Normalise scores of content and position over the sources.

    Args:
        inputs: of the scores.
        penalize: whether large scores get an additional gradient that makes them smaller.

    Returns:
        The weights, in the type of the queries; the softmax and its gradient are computed in
        float32 at least.
    """
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs[:4]):
        uses: list[_Use] = []
        token, matrix = _Weights.apply(*inputs, penalize, uses)  # type: ignore[no-untyped-call]
        return AttentionWeights(matrix, token, uses)
    if is_traced():
        # One piece, whatever its size: an exported model knows no blocks.
        return AttentionWeights(weights_of_block(inputs))
    return AttentionWeights(_weights(inputs))


def _weights(inputs: Inputs) -> Tensor:
    blocks = list(_blocks(inputs))
    compute = triton_attention.weights if _suits_kernels(inputs) else weights_of_block
    if len(blocks) == 1:
        return compute(inputs)
    weights = inputs.query.new_empty(inputs.shape)
    for block in blocks:
        weights[block] = compute(_take(inputs, block))
    return weights


def _blocks(inputs: Inputs) -> Iterator[tuple[slice, slice]]:
    """Cut utterances and heads into blocks: some heads of one utterance, or all of several."""
    num_utterances, num_heads, num_targets, num_sources = inputs.shape
    matrix_bytes = 4 * num_targets * (2 * num_sources + num_targets)
    # Scores by distance and by source stand side by side: two blocks.
    matrices = max(1, 2 * block_bytes(inputs.query.device) // max(1, matrix_bytes))
    if matrices >= num_heads:
        step = matrices // num_heads
        for n in range(0, num_utterances, step):
            yield slice(n, n + step), slice(0, num_heads)
        return
    for n in range(num_utterances):
        for h in range(0, num_heads, matrices):
            yield slice(n, n + 1), slice(h, h + matrices)


def _is_one_block(inputs: Inputs) -> bool:
    """Say whether all is computed at once, so that nothing needs to be put together."""
    return inputs.query.is_cuda and len(list(_blocks(inputs))) == 1


def _suits_kernels(inputs: Inputs) -> bool:
    longest = inputs.key.size(2) if inputs.pos_key is None else inputs.pos_key.size(1)
    return triton_attention.suits(inputs.query, longest)


def _take(inputs: Inputs, block: tuple[slice, slice]) -> Inputs:
    mask = inputs.mask
    return Inputs(
        inputs.query[block],
        inputs.key[block],
        None if inputs.pos_query is None else inputs.pos_query[block],
        None if inputs.pos_key is None else inputs.pos_key[block[1]],
        None if mask is None else _take_mask(mask, block),
    )


def _take_mask(mask: Tensor, block: tuple[slice, slice]) -> Tensor:
    """Cut a mask that may be shared by all utterances or heads."""
    shared = (slice(None), slice(None))
    utterances, heads = (
        part if size > 1 else whole
        for part, whole, size in zip(block, shared, mask.shape[:2], strict=True)
    )
    return mask[utterances, heads]


class _Weights(torch.autograd.Function):
    """The weights, beside a token of size 1; the gradient comes by way of ``uses``."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        pos_query: Tensor | None,
        pos_key: Tensor | None,
        mask: Tensor | None,
        penalize: bool,
        uses: list[_Use],
    ) -> tuple[Tensor, Tensor]:
        inputs = Inputs(query, key, pos_query, pos_key, mask)
        if _is_one_block(inputs):
            # Copied here, they need not be copied for each product.
            inputs = inputs._replace(query=query.contiguous(), key=key.contiguous())
        with no_autocast(query):
            matrix = _weights(inputs)
        ctx.save_for_backward(*inputs, matrix)
        ctx.penalize, ctx.uses = penalize, uses
        ctx.mark_non_differentiable(matrix)
        ctx.set_materialize_grads(False)
        return query.new_empty(1), matrix

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: None, __: None) -> tuple[Tensor | None, ...]:
        *saved, matrix = ctx.saved_tensors
        inputs = Inputs(*saved)
        if _is_one_block(inputs):
            with no_autocast(matrix):
                found = _gradients_at_once(inputs, matrix, ctx.uses, ctx.penalize)
            ctx.uses.clear()
            return (*found, None, None, None)
        empty = (None if t is None else torch.zeros_like(t) for t in saved[:4])
        grads = Inputs(*empty, None)  # type: ignore[arg-type, call-arg]
        with no_autocast(matrix):
            room = _room_by_distance(inputs)
            for block in _blocks(inputs):
                part = _take(inputs, block)
                scores_grad = _scores_gradient(ctx.uses, matrix, block)
                if ctx.penalize:
                    penalty = abs_penalty_gradient(scores_of(part), SCORE_LIMIT, SCORE_PENALTY)
                    scores_grad.add_(penalty)
                _inputs_gradient(part, scores_grad.to(matrix.dtype), _take(grads, block), room)
        ctx.uses.clear()
        return (*grads, None, None)


def _gradients_at_once(
    inputs: Inputs, matrix: Tensor, uses: list[_Use], penalize: bool
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Return the gradients of queries, keys and positional terms, all heads in one piece.

    The products of all uses with all heads are one product, of their channels side by side; what is
    left is added in the type of the weights. The softmax is differentiated in one launch.
    """
    num_heads = matrix.size(1)
    every = [use for use in uses if use.num_heads == num_heads]
    some = [use for use in uses if use.num_heads != num_heads]
    if every:
        left = torch.cat([use.grad for use in every], dim=-1)
        total = left @ torch.cat([use.values for use in every], dim=-1).transpose(2, 3)
    else:
        total = torch.zeros_like(matrix)
    for use in some:
        for head in range(use.num_heads):
            total[:, head].baddbmm_(use.grad[:, head], use.values[:, head].transpose(1, 2))
    penalty = Penalty(1, SCORE_LIMIT, SCORE_PENALTY) if penalize else Penalty()
    if _suits_kernels(inputs):
        differentiate = triton_attention.scores_gradients
    else:
        differentiate = scores_gradients
    return inputs_gradients(inputs, *differentiate(inputs, total, matrix, penalty))


def _scores_gradient(uses: list[_Use], matrix: Tensor, block: tuple[slice, slice]) -> Tensor:
    """Return the gradient of the scores of one block, in float32 at least."""
    utterances, heads = block
    weights = matrix[block]
    wide = torch.promote_types(matrix.dtype, torch.float32)
    total = weights.new_zeros(weights.shape, dtype=wide)
    for use in uses:
        stop = min(heads.stop, use.num_heads)
        if heads.start >= stop:
            continue
        some = utterances, slice(heads.start, stop)
        product = use.grad[some] @ use.values[some].transpose(2, 3)
        total[:, : stop - heads.start] += product
    # The derivative of the softmax, W (g - sum_j W g).
    total.mul_(weights)
    return total.sub_(weights.to(wide) * total.sum(dim=-1, keepdim=True))


def _room_by_distance(inputs: Inputs) -> Tensor | None:
    """Return zeros (matrices, T', K) to spread the gradients of blocks in."""
    if inputs.pos_key is None:
        return None
    utterances, heads = next(iter(_blocks(inputs)))
    matrices = min(utterances.stop, inputs.shape[0]) * min(heads.stop, inputs.shape[1])
    return inputs.query.new_zeros(matrices, inputs.shape[2], inputs.pos_key.size(1))


def _inputs_gradient(part: Inputs, grad: Tensor, out: Inputs, room: Tensor | None) -> None:
    """Write the gradients of one block's inputs; add to that of ``pos_key``."""
    out.query.copy_(grad @ part.key)
    out.key.copy_(grad.transpose(2, 3) @ part.query)
    if room is None or part.pos_query is None or part.pos_key is None:
        return
    assert out.pos_query is not None
    assert out.pos_key is not None
    # Entries that belong to no source stay zero: every block writes to the same places.
    by_distance = room[: grad.size(0) * grad.size(1)]
    shift_positions(by_distance, grad.size(3)).copy_(grad.flatten(0, 1))
    by_distance = by_distance.view(*grad.shape[:3], -1)
    out.pos_query.copy_(by_distance @ part.pos_key)
    out.pos_key.add_((by_distance.transpose(2, 3) @ part.pos_query).sum(0))
