"""Relative-position attention weights, computed once per layer, and the modules that use them."""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor, nn

from zipasr.encoder.attention_scores import Inputs, heads_first
from zipasr.encoder.relative_attention import AttentionWeights, attention_weights
from zipasr.nn.balancer import Balancer
from zipasr.nn.layers import Cache, scaled_linear
from zipasr.nn.numerics import is_traced, to_device
from zipasr.nn.schedule import Dropout2, FloatLike, ScheduledFloat
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
            heads_first(query, self.num_heads),
            heads_first(key, self.num_heads),
            heads_first(pos_query, self.num_heads) if uses_positions else None,
            heads_first(self.linear_pos(pos_emb).transpose(0, 1), self.num_heads)[0]
            if uses_positions
            else None,
            attention_mask,
        )
        return attention_weights(inputs, penalize=self.training and random.random() < 0.1)


def compact_positions(num_frames: int, num_channels: int) -> Tensor:
    """Encode every distance that occurs between two of ``num_frames`` frames.

    A distance k is first squeezed by a logarithm, then by an arc tangent, so that the
    resolution is high around 0 and the table works for any length; the result is
    expanded into a Fourier series. The last sine gives way to a constant.

    Args:
        num_frames: T'.
        num_channels: even number of channels.

    Returns:
        (2 T' - 1, num_channels) float32 on the CPU; row n belongs to the distance
        n - (T' - 1), source frame minus target frame.

    Source: Yao et al., "Zipformer: a faster and better encoder for automatic speech
    recognition", 2024, and its public recipe.
    """
    return _encode(
        torch.arange(1 - num_frames, num_frames, dtype=torch.float64, device="cpu"), num_channels
    )


def _encode(distance: Tensor, num_channels: int) -> Tensor:
    """Encode (K,) distances: (K, num_channels) float32, computed in the type of ``distance``."""
    scale = math.sqrt(num_channels)
    squeezed = distance.sign() * scale * ((distance.abs() + scale).log() - math.log(scale))
    angle = (squeezed * (2.0 * math.pi / num_channels)).atan()
    harmonics = torch.arange(1, num_channels // 2 + 1, dtype=distance.dtype, device=distance.device)
    phases = angle[:, None] * harmonics
    constant = torch.ones_like(angle)[:, None]
    table = torch.stack([phases.cos(), phases.sin()], dim=2).flatten(1)
    return torch.cat([table[:, :-1], constant], dim=1).to(torch.float32)


class CompactRelPositionalEncoding(nn.Module):
    """The table of ``compact_positions`` for the length of the input, with dropout.

    The table of the longest input so far is kept, but is no buffer: it is not part of
    the state dict.

    Args:
        num_channels: even number of channels.
        dropout: rate in training.
    """

    def __init__(self, num_channels: int, dropout: float = 0.15) -> None:
        super().__init__()
        self.num_channels = num_channels
        self.dropout = Dropout2(dropout)
        self._table: Tensor | None = None

    def forward(self, x: Tensor, left_context: int = 0) -> Tensor:
        """Return the encoding of all distances within ``x``, and to frames before it.

        Args:
            x: (T', N, C); only its length, device and dtype count.
            left_context: L, number of frames before ``x``.

        Returns:
            (1, 2 T' - 1 + L, num_channels).
        """
        num_frames = x.size(0)
        first = 1 - num_frames - left_context
        if is_traced():
            # Exported models keep no tables, and runtimes know no trigonometry in float64.
            distance = torch.arange(first, num_frames, dtype=torch.float32, device=x.device)
            positions = _encode(distance, self.num_channels)
        else:
            table = self._long_enough_table(num_frames + left_context, x.device)
            centre = table.size(0) // 2
            positions = table[centre + first : centre + num_frames]
        encoded: Tensor = self.dropout(positions.to(x.dtype).unsqueeze(0))
        return encoded

    def _long_enough_table(self, num_frames: int, device: torch.device) -> Tensor:
        table = self._table
        if table is None or table.device != device or table.size(0) < 2 * num_frames - 1:
            # A table made under inference mode could not be used in training later on.
            with torch.inference_mode(False):
                table = to_device(compact_positions(num_frames, self.num_channels), device)
            self._table = table
        return table


class SelfAttention(nn.Module):
    """Linear layer, weighted sum over frames in each head, linear layer.

    Args:
        num_channels: C.
        num_heads: H.
        value_head_dim: channels of the values in each head.
    """

    def __init__(self, num_channels: int, num_heads: int, value_head_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj = nn.Linear(num_channels, num_heads * value_head_dim)
        self.out_proj = scaled_linear(num_heads * value_head_dim, num_channels, initial_scale=0.05)
        self.whiten = Whiten(
            num_groups=1,
            whitening_limit=ScheduledFloat((0.0, 7.5), (20000.0, 22.5), default=7.5),
            prob=(0.025, 0.25),
            grad_scale=0.01,
        )

    def forward(self, x: Tensor, weights: AttentionWeights, memory: Cache | None = None) -> Tensor:
        """Mix frames.

        Args:
            x: (T', N, C).
            weights: (N, H, T', S) from ``RelPositionMultiheadAttentionWeights``.
            memory: values of the S - T' frames before ``x``.

        Returns:
            (T', N, C).
        """
        values = self.in_proj(x) if memory is None else memory.extend(self.in_proj(x))
        mixed = weights.mix(heads_first(values, self.num_heads)).permute(2, 0, 1, 3).flatten(2)
        result: Tensor = self.whiten(self.out_proj(mixed))
        return result


def _whiten(final_limit: float) -> Whiten:
    return Whiten(
        num_groups=1,
        whitening_limit=ScheduledFloat((0.0, 5.0), (20000.0, final_limit), default=5.0),
        prob=(0.025, 0.25),
        grad_scale=0.01,
    )


class NonlinAttention(nn.Module):
    """Gate, mix frames, gate again.

    Args:
        num_channels: C of input and output.
        hidden_channels: channels that are mixed.
    """

    def __init__(self, num_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(num_channels, 3 * hidden_channels)
        self.balancer = Balancer(
            hidden_channels,
            channel_dim=-1,
            min_positive=ScheduledFloat((0.0, 0.25), (20000.0, 0.05)),
            max_positive=ScheduledFloat((0.0, 0.75), (20000.0, 0.95)),
            min_abs=0.5,
            max_abs=5.0,
        )
        self.whiten1 = _whiten(final_limit=10.0)
        self.whiten2 = _whiten(final_limit=15.0)
        self.out_proj = scaled_linear(hidden_channels, num_channels, initial_scale=0.05)

    def forward(self, x: Tensor, weights: AttentionWeights, memory: Cache | None = None) -> Tensor:
        """Mix frames with the weights of one head.

        Args:
            x: (T', N, C).
            weights: (N, H, T', S), of which the first head is used.
            memory: gated values of the S - T' frames before ``x``.

        Returns:
            (T', N, C).
        """
        gate, value, late_gate = self.in_proj(x).chunk(3, dim=-1)
        value = self.whiten1(value) * self.balancer(gate).tanh()
        if memory is not None:
            value = memory.extend(value)
        mixed = weights.mix(value.transpose(0, 1).unsqueeze(1)).squeeze(1).transpose(0, 1)
        # The time-first factor stands first: it gives the product its memory layout.
        result: Tensor = self.whiten2(self.out_proj(late_gate * mixed))
        return result
