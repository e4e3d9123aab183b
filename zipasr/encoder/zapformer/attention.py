"""Gated self-attention: scores of content and position, gates before and after the mixing."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from zipasr.encoder.attention_scores import heads_first
from zipasr.encoder.chunk_masks import NO_MASKS, Masks
from zipasr.encoder.zapformer.config import LayerConfig
from zipasr.encoder.zapformer.mixing import Hidden, Inputs, mix
from zipasr.encoder.zapformer.norm import RmsNorm
from zipasr.encoder.zapformer.positions import RelativePositions
from zipasr.nn.gradients import penalize_abs_values_gt
from zipasr.nn.layers import Cache, scaled_linear
from zipasr.nn.numerics import at_least_float32

#: Of biases, see ``scaled_linear``.
BIAS_SCALE = 0.01

#: Inputs of the gates beyond this size are penalised.
MAX_GATE = 2.0

#: Weights of the penalties of scores, for each head, and of gates, in units of the layer's.
SCORE_SHARE, GATE_SHARE = 0.1 / 8.0, 0.02


class RunningSum:
    """Sum (1, N, C) of the frames so far, and their numbers (N,) int64.

    Args:
        total: the sum.
        count: the numbers.
    """

    def __init__(self, total: Tensor, count: Tensor) -> None:
        self.total = total
        self.count = count


class WeightedMean(nn.Module):
    """Mean over time with a learned factor for each channel. Key: ``weights`` (C,).

    Args:
        num_channels: C.
        causal: whether it is the mean of the frames so far, instead of the whole.
    """

    def __init__(self, num_channels: int, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.weights = nn.Parameter(0.1 * torch.randn(num_channels))

    def forward(
        self, x: Tensor, padding: Tensor | None = None, memory: RunningSum | None = None
    ) -> Tensor:
        """Average.

        Args:
            x: (T, N, C).
            padding: (N, T), True at padding, which does not count; means of the frames so far
                do not look at it, since it comes after all that matters.
            memory: of the frames before ``x``.

        Returns:
            (1, N, C); (T, N, C) where causal.
        """
        if self.causal:
            return self.weights * self._so_far(x, memory)
        if padding is None:
            return self.weights * x.mean(0, keepdim=True)
        valid = (~padding).to(x.dtype)
        share = valid / valid.sum(1, keepdim=True).clamp(min=1.0)
        return self.weights * torch.einsum("tnc,nt->nc", x, share).unsqueeze(0)

    def _so_far(self, x: Tensor, memory: RunningSum | None) -> Tensor:
        numbers = torch.arange(1, x.size(0) + 1, device=x.device).unsqueeze(-1)
        sums = at_least_float32(x).cumsum(0)
        if memory is not None:
            sums, numbers = sums + memory.total.to(sums.dtype), numbers + memory.count
            memory.total, memory.count = sums[-1:].to(memory.total.dtype), numbers[-1]
        return sums / numbers.unsqueeze(-1)


class AttentionMemory(NamedTuple):
    """What attention remembers: scaled keys and gated values of the left context, and their sum."""

    key: Cache
    value: Cache
    mean: RunningSum


class SelfAttention(nn.Module):
    """Attention in which queries and keys are made of another input than values and gates.

    Keys: ``in_norm``, ``qkp_in_proj``, ``rel_pos``, ``vg_in_proj``, ``out_proj``,
    ``weighted_mean``.
    """

    def __init__(self, config: LayerConfig) -> None:
        super().__init__()
        channels, heads = config.encoder_dim, config.num_heads
        self.num_heads = heads
        self.query_head_dim = config.query_head_dim
        query, position = heads * config.query_head_dim, heads * config.pos_head_dim
        value = heads * config.value_head_dim
        self.parts = (query, query, position)
        self.in_norm = RmsNorm()
        self.qkp_in_proj = scaled_linear(
            channels, sum(self.parts), initial_scale=0.125, bias_scale=BIAS_SCALE
        )
        self.rel_pos = RelativePositions(heads, config.pos_head_dim)
        self.vg_in_proj = scaled_linear(
            channels, 3 * value, initial_scale=0.1, bias_scale=BIAS_SCALE
        )
        self.out_proj = scaled_linear(value, channels, initial_scale=0.1, bias_scale=BIAS_SCALE)
        self.weighted_mean = WeightedMean(value, config.causal)

    def forward(
        self,
        x_qkp: Tensor,
        x_vg: Tensor,
        table: Tensor,
        masks: Masks = NO_MASKS,
        alpha: float = 0.0,
        memory: AttentionMemory | None = None,
    ) -> Tensor:
        """Mix frames.

        Args:
            x_qkp: (T', N, C) for queries, keys and positions.
            x_vg: (T', N, C) for values and gates.
            table: (T' - 1 + S, 128) of ``PositionTable``.
            masks: padding of S frames, chunks of T'.
            alpha: weight of the penalties.
            memory: of the S - T' frames before.

        Returns:
            (T', N, C).
        """
        query, key, pos_query = self.qkp_in_proj(self.in_norm(x_qkp)).split(self.parts, dim=-1)
        key = key * self.query_head_dim**-0.5
        value, gate_in, gate_out = self.vg_in_proj(x_vg).chunk(3, dim=-1)
        if alpha:
            gate_in = penalize_abs_values_gt(gate_in, MAX_GATE, GATE_SHARE * alpha)
            gate_out = penalize_abs_values_gt(gate_out, MAX_GATE, GATE_SHARE * alpha)
        value = value * torch.sigmoid(gate_in)
        past = memory.mean if memory else None
        mean = self.weighted_mean(value, masks.padding_of_last(value.size(0)), past)
        if memory is not None:
            key, value = memory.key.extend(key), memory.value.extend(value)
        inputs = Inputs(
            heads_first(query, self.num_heads),
            heads_first(key, self.num_heads),
            heads_first(pos_query, self.num_heads),
            self.rel_pos(table),
            heads_first(value, self.num_heads),
        )
        penalty = SCORE_SHARE / self.num_heads * alpha
        mixed = mix(inputs, Hidden(masks.padding, masks.chunk), penalty)
        mixed = mixed.permute(2, 0, 1, 3).flatten(2)
        result: Tensor = self.out_proj((mixed + mean) * torch.sigmoid(gate_out))
        return result
