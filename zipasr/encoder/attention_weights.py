"""Who listens to whom: the attention weights that one layer uses three times."""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn

from zipasr.nn.balancer import Balancer
from zipasr.nn.gradients import penalize_abs_values_gt
from zipasr.nn.linear import scaled_linear
from zipasr.nn.schedule import FloatLike, ScheduledFloat
from zipasr.nn.whiten import Whiten

#: Score of a masked source. Its exponential is exactly 0 next to any other score, and a row
#: in which every source is masked becomes uniform instead of NaN.
MASKED_SCORE = -1000.0


def shift_positions(scores: Tensor, num_sources: int) -> Tensor:
    """Turn scores by distance into scores by source frame, without a copy.

    Args:
        scores: (B, T', K), contiguous; column n belongs to the distance n - (K - num_sources)
            between source and target for the first target, as in ``compact_positions``.
        num_sources: number of source frames; K is ``T' - 1 + num_sources``.

    Returns:
        (B, T', num_sources), a view: entry (i, j) is column T' - 1 - i + j of row i.
    """
    batch, num_targets, num_columns = scores.shape
    return scores.as_strided(
        (batch, num_targets, num_sources),
        (num_targets * num_columns, num_columns - 1, 1),
        scores.storage_offset() + num_targets - 1,
    )


class _SoftmaxForMixedPrecision(torch.autograd.Function):
    """Softmax that keeps and returns half precision, with all arithmetic in float32."""

    @staticmethod
    def forward(ctx, scores: Tensor, dtype: torch.dtype) -> Tensor:  # type: ignore[no-untyped-def]
        weights = scores.softmax(dim=-1, dtype=torch.float32).to(dtype)
        ctx.save_for_backward(weights)
        ctx.scores_dtype = scores.dtype
        return weights

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        weights = ctx.saved_tensors[0].float()
        weighted = grad.float() * weights
        grad_scores = weighted - weights * weighted.sum(dim=-1, keepdim=True)
        return grad_scores.to(ctx.scores_dtype), None


def attention_softmax(scores: Tensor) -> Tensor:
    """Normalise over the last axis.

    Args:
        scores: (..., T').

    Returns:
        The same shape; in half precision under autocast, while forward and backward are
        computed in float32.
    """
    device = scores.device.type
    if not torch.is_autocast_enabled(device):
        return scores.softmax(dim=-1)
    weights: Tensor = _SoftmaxForMixedPrecision.apply(  # type: ignore[no-untyped-call]
        scores, torch.get_autocast_dtype(device)
    )
    return weights


class RelPositionMultiheadAttentionWeights(nn.Module):
    """Attention weights from content and relative position.

    The scores are not divided by the root of the head size: the initial scale of
    ``in_proj`` takes care of that.

    Args:
        num_channels: C of the input.
        pos_dim: channels of the positional encoding.
        num_heads: H.
        query_head_dim: channels of queries and keys in each head.
        pos_head_dim: channels of the position queries in each head.
        pos_emb_skip_rate: probability that a training step ignores positions.
    """

    def __init__(
        self,
        num_channels: int,
        pos_dim: int,
        num_heads: int,
        query_head_dim: int,
        pos_head_dim: int,
        pos_emb_skip_rate: FloatLike = 0.0,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_head_dim = query_head_dim
        self.pos_head_dim = pos_head_dim
        self.pos_emb_skip_rate = pos_emb_skip_rate
        query_dim = num_heads * query_head_dim
        pos_query_dim = num_heads * pos_head_dim
        self.parts = (query_dim, query_dim, pos_query_dim)
        self.in_proj = scaled_linear(
            num_channels, sum(self.parts), initial_scale=query_head_dim**-0.25
        )
        self.linear_pos = scaled_linear(pos_dim, pos_query_dim, bias=False, initial_scale=0.05)
        self.balance_keys = Balancer(
            query_dim,
            channel_dim=-1,
            min_positive=0.4,
            max_positive=0.6,
            min_abs=0.0,
            max_abs=100.0,
            prob=0.025,
        )
        self.whiten_keys = Whiten(
            num_groups=num_heads,
            whitening_limit=ScheduledFloat((0.0, 3.0), (20000.0, 6.0), default=3.0),
            prob=(0.025, 0.25),
            grad_scale=0.025,
        )

    def forward(self, x: Tensor, pos_emb: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Return how much each target frame takes from each source frame.

        Args:
            x: (T', N, C).
            pos_emb: (1, 2 T' - 1, pos_dim).
            attention_mask: booleans that broadcast to (N, H, T', T'), True where a target
                must not use a source.

        Returns:
            (N, H, T', T'), target before source; sums to 1 over sources.
        """
        scores = self._scores(x, pos_emb)
        if self.training and random.random() < 0.1:
            scores = penalize_abs_values_gt(scores, limit=25.0, penalty=1.0e-4)
        if attention_mask is not None:
            scores = scores.masked_fill(attention_mask, MASKED_SCORE)
        return attention_softmax(scores)

    def _scores(self, x: Tensor, pos_emb: Tensor) -> Tensor:
        num_frames, num_utterances, _ = x.shape
        query, key, pos_query = self.in_proj(x).split(self.parts, dim=-1)
        key = self.whiten_keys(self.balance_keys(key))
        batch = num_utterances * self.num_heads
        # The heads stand next to the utterances, so both together are one batch axis.
        query = query.reshape(num_frames, batch, self.query_head_dim).transpose(0, 1)
        key = key.reshape(num_frames, batch, self.query_head_dim).permute(1, 2, 0)
        if self._uses_positions():
            by_distance = self._position_scores(pos_query, pos_emb)
            scores = torch.baddbmm(shift_positions(by_distance, num_frames), query, key)
        else:
            scores = torch.bmm(query, key)
        return scores.view(num_utterances, self.num_heads, num_frames, num_frames)

    def _uses_positions(self) -> bool:
        return not self.training or random.random() >= float(self.pos_emb_skip_rate)

    def _position_scores(self, pos_query: Tensor, pos_emb: Tensor) -> Tensor:
        """Return (N H, T', 2 T' - 1), the scores of all distances for every target frame."""
        num_frames, num_utterances, _ = pos_query.shape
        pos_key = self.linear_pos(pos_emb).view(-1, self.num_heads, self.pos_head_dim)
        pos_key = pos_key.permute(1, 2, 0).repeat(num_utterances, 1, 1)
        batch = num_utterances * self.num_heads
        pos_query = pos_query.reshape(num_frames, batch, self.pos_head_dim).transpose(0, 1)
        return torch.bmm(pos_query, pos_key)
