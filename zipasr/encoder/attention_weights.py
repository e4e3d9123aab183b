"""Who listens to whom: the attention weights that one layer uses three times."""

from __future__ import annotations

import random

from torch import Tensor, nn

from zipasr.encoder.relative_attention import AttentionWeights, Inputs, attention_weights
from zipasr.nn.balancer import Balancer
from zipasr.nn.cache import Cache
from zipasr.nn.linear import scaled_linear
from zipasr.nn.schedule import FloatLike, ScheduledFloat
from zipasr.nn.whiten import Whiten


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

    def forward(
        self,
        x: Tensor,
        pos_emb: Tensor,
        attention_mask: Tensor | None = None,
        memory: Cache | None = None,
    ) -> AttentionWeights:
        """Return how much each target frame takes from each source frame.

        Args:
            x: (T', N, C).
            pos_emb: (1, T' - 1 + S, pos_dim).
            attention_mask: 4-D booleans that broadcast to (N, H, T', S), True where a target
                must not use a source.
            memory: keys of the S - T' frames before ``x``; by default there are none.

        Returns:
            Weights (N, H, T', S).
        """
        query, key, pos_query = self.in_proj(x).split(self.parts, dim=-1)
        key = self.whiten_keys(self.balance_keys(key))
        if memory is not None:
            key = memory.extend(key)
        uses_positions = not self.training or random.random() >= float(self.pos_emb_skip_rate)
        inputs = Inputs(
            self._heads_first(query),
            self._heads_first(key),
            self._heads_first(pos_query) if uses_positions else None,
            self._heads_first(self.linear_pos(pos_emb).transpose(0, 1))[0]
            if uses_positions
            else None,
            attention_mask,
        )
        return attention_weights(inputs, penalize=self.training and random.random() < 0.1)

    def _heads_first(self, x: Tensor) -> Tensor:
        """Split the channels of (T', N, C) and return (N, H, T', C / H)."""
        return x.view(*x.shape[:2], self.num_heads, -1).permute(1, 2, 0, 3)
