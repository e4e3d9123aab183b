"""Self-attention with relative positions, its weights used for two sets of values."""

from __future__ import annotations

import math
import random
from typing import NamedTuple

import torch
from torch import Tensor, nn

from zipasr.encoder.attention_scores import Inputs, heads_first
from zipasr.encoder.chunk_masks import Masks
from zipasr.encoder.relative_attention import AttentionWeights, attention_weights
from zipasr.encoder.zipformer1.config import POS_HEAD_DIM
from zipasr.encoder.zipformer1.scaling import EarlyWhiten
from zipasr.nn.layers import Cache, scaled_linear
from zipasr.nn.numerics import is_traced

#: Share of the training calls in which large scores are penalised.
PENALTY_PROB = 0.1


class AttentionMask(NamedTuple):
    """Which sources a target frame may use.

    Attributes:
        hidden: booleans that broadcast to (N, H, T, S), True where it must not; ``None`` where
            all are in sight.
        any: (T, N or 1, 1), 0 for targets without a source, else 1; ``None`` if all have one.
    """

    hidden: Tensor | None = None
    any: Tensor | None = None

    @staticmethod
    def through(masks: Masks) -> AttentionMask:
        """Return what is in sight through masks of padding and chunks."""
        hidden = masks.attention()
        if hidden is None or hidden.size(2) == 1:
            return AttentionMask(hidden)
        return AttentionMask(hidden, torch.logical_not(hidden.all(dim=-1)).permute(2, 0, 1))


#: Every target may use every source.
ALL_IN_SIGHT = AttentionMask()


class RelPositionMultiheadAttention(nn.Module):
    """Attention by content and distance; ``forward`` and ``forward2`` share its weights.

    Scores are not divided by the root of the head size: the initial scale of ``in_proj`` takes
    care of that.

    Args:
        num_channels: C.
        attention_dim: A, channels of all queries, or keys; the values have half as many.
        num_heads: H, a divisor of A / 2.
    """

    def __init__(self, num_channels: int, attention_dim: int, num_heads: int) -> None:
        super().__init__()
        self.attention_dim = attention_dim
        self.num_heads = num_heads
        value_dim = attention_dim // 2
        self.parts = (attention_dim, attention_dim, value_dim, POS_HEAD_DIM * num_heads)
        head_dim = attention_dim // num_heads
        self.in_proj = scaled_linear(num_channels, sum(self.parts), initial_scale=head_dim**-0.25)
        self.linear_pos = scaled_linear(
            num_channels, POS_HEAD_DIM * num_heads, bias=False, initial_scale=0.05
        )
        self.out_proj = scaled_linear(value_dim, num_channels, initial_scale=0.05)
        self.in_proj2 = nn.Linear(num_channels, value_dim, bias=False)
        self.out_proj2 = scaled_linear(value_dim, num_channels, initial_scale=0.05)
        self.whiten_keys, self.whiten_values, self.whiten_values2 = (
            EarlyWhiten(num_heads, 2.0, prob=(0.025, 0.25), grad_scale=0.025) for _ in range(3)
        )

    def forward(
        self,
        x: Tensor,
        pos_emb: Tensor,
        sight: AttentionMask = ALL_IN_SIGHT,
        past_keys: Cache | None = None,
        past_values: Cache | None = None,
    ) -> tuple[Tensor, AttentionWeights]:
        """Mix frames.

        Args:
            x: (T, N, C).
            pos_emb: (T - 1 + S, C), where S counts remembered frames as well.
            sight: which sources each target may use; one without any takes nothing.
            past_keys: keys of the S - T frames before ``x``.
            past_values: values of them.

        Returns:
            (T, N, C), and the weights (N, H, T, S) for ``forward2``.
        """
        query, key, value, position = self.in_proj(x).split(self.parts, dim=-1)
        key = self.whiten_keys(key)
        value = self.whiten_values(value)
        if past_keys is not None and past_values is not None:
            key, value = past_keys.extend(key), past_values.extend(value)
        pos_key = self.linear_pos(pos_emb).view(-1, self.num_heads, POS_HEAD_DIM).transpose(0, 1)
        inputs = Inputs(
            heads_first(query, self.num_heads),
            heads_first(key, self.num_heads),
            heads_first(position, self.num_heads),
            pos_key,
            sight.hidden,
        )
        weights = attention_weights(
            inputs, penalize=self.training and random.random() < PENALTY_PROB
        )
        return self.out_proj(self._mix(weights, value, sight)), weights

    def forward2(
        self,
        x: Tensor,
        weights: AttentionWeights,
        sight: AttentionMask = ALL_IN_SIGHT,
        past_values: Cache | None = None,
    ) -> Tensor:
        """Mix frames with weights that ``forward`` returned.

        Args:
            x: (T, N, C).
            weights: (N, H, T, S).
            sight: as for ``forward``.
            past_values: second values of the S - T frames before ``x``.

        Returns:
            (T, N, C).
        """
        value = self.whiten_values2(self.in_proj2(x))
        if past_values is not None:
            value = past_values.extend(value)
        result: Tensor = self.out_proj2(self._mix(weights, value, sight))
        return result

    def _mix(self, weights: AttentionWeights, value: Tensor, sight: AttentionMask) -> Tensor:
        mixed = weights.mix(heads_first(value, self.num_heads)).permute(2, 0, 1, 3).flatten(2)
        return mixed if sight.any is None else mixed * sight.any


def sinusoids(num_frames: int, num_channels: int) -> Tensor:
    """Encode every distance that occurs between two of ``num_frames`` frames.

    Args:
        num_frames: T.
        num_channels: C, even.

    Returns:
        (2 T - 1, C) float32 on the CPU; row r belongs to the offset T - 1 - r, target frame minus
        source frame.

    Source: Dai et al., "Transformer-XL", 2019, appendix B.
    """
    offset = torch.arange(num_frames - 1, -num_frames, -1, dtype=torch.float32, device="cpu")
    return _encode(offset, num_channels)


def _encode(offset: Tensor, num_channels: int) -> Tensor:
    """Encode (K,) offsets: (K, num_channels) in their type."""
    exponent = torch.arange(0, num_channels, 2, dtype=offset.dtype, device=offset.device)
    phase = offset[:, None] * torch.exp(exponent * -(math.log(10000.0) / num_channels))
    return torch.stack([phase.sin(), phase.cos()], dim=2).flatten(1)


class RelPositionalEncoding(nn.Module):
    """The table of ``sinusoids`` for the length of the input, with dropout.

    The table of the longest input so far is kept, but is no buffer.

    Args:
        num_channels: C, even.
        dropout: rate in training.
    """

    def __init__(self, num_channels: int, dropout: float) -> None:
        super().__init__()
        self.num_channels = num_channels
        self.dropout = nn.Dropout(dropout)
        self._table: Tensor | None = None

    def forward(self, x: Tensor, left_context: int = 0) -> Tensor:
        """Return the encoding of all offsets within ``x``, and to frames before it.

        Args:
            x: (T, N, C); only its length, device and type count.
            left_context: L, number of frames before ``x``.

        Returns:
            (2 T - 1 + L, C), from the offset T + L - 1 down to 1 - T.
        """
        num_frames = x.size(0)
        first = num_frames + left_context - 1
        if is_traced():
            # Exported models keep no tables.
            rows = _encode(
                torch.arange(first, -num_frames, -1, dtype=torch.float32, device=x.device),
                self.num_channels,
            )
        else:
            table = self._long_enough_table(num_frames + left_context, x.device)
            centre = table.size(0) // 2
            rows = table[centre - first : centre + num_frames]
        encoded: Tensor = self.dropout(rows.to(x.dtype))
        return encoded

    def _long_enough_table(self, num_frames: int, device: torch.device) -> Tensor:
        table = self._table
        if table is None or table.device != device or table.size(0) < 2 * num_frames - 1:
            # A table made under inference mode could not be used in training later on.
            with torch.inference_mode(False):
                table = sinusoids(num_frames, self.num_channels).to(device)
            self._table = table
        return table
