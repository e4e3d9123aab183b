"""One layer of the Zapformer: feed-forward, attention, convolution, feed-forward, one norm.

What is remembered of N streams between chunks, nine tensors:

============================ ================= ===============================================
name                         shape             content
============================ ================= ===============================================
cached_key                   (L, N, H D)       scaled keys, before they are split into heads
cached_value                 (L, N, H V)       gated values
cached_conv                  (N, C, K - 1)     frames before the convolution
cached_norm_stats            (N,)              sum of mean squares, that of the ballast as well
cached_norm_len              (N,)              their number, likewise
cached_attn_wm_sum           (1, N, H V)       sum of the gated values
cached_attn_wm_num_frames    (N,) int64        their number
cached_conv_wm_sum           (1, N, C)         sum of the frames of the convolution
cached_conv_wm_num_frames    (N,) int64        their number
============================ ================= ===============================================

L is the left context at the frame rate of the layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zipasr.encoder.chunk_masks import NO_MASKS, Masks
from zipasr.encoder.zapformer.attention import (
    BIAS_SCALE,
    AttentionMemory,
    RunningSum,
    SelfAttention,
    WeightedMean,
)
from zipasr.encoder.zapformer.config import LayerConfig
from zipasr.encoder.zapformer.norm import CausalSequenceNorm, SequenceNorm, SquareSums
from zipasr.encoder.zapformer.penalties import limit_correlation, limit_scale
from zipasr.nn.fused import ActivationDropoutAndLinear
from zipasr.nn.layers import Cache, convolve_time, scaled_linear

#: Share of what the blocks of a layer add to its input.
RESIDUAL_SCALE = 0.25

#: Size beyond which the output of a layer is cut.
MAX_OUTPUT = 5.0

#: Factor of the input of the convolution module.
CONVOLUTION_GAIN = 3.0

#: Weights of the penalties of a layer, in units of the layer's.
CORRELATION_SHARE, ATTENTION_SHARE = 2.0, 0.1


class FeedForward(nn.Module):
    """Linear layer, SwashR, linear layer. Keys: ``in_proj``, ``out_proj``."""

    def __init__(self, num_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.in_proj = scaled_linear(num_channels, hidden_channels, bias_scale=BIAS_SCALE)
        self.out_proj = ActivationDropoutAndLinear(
            hidden_channels,
            num_channels,
            activation="SwashR",
            initial_scale=0.5,
            bias_scale=BIAS_SCALE,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Transform each frame of (T', N, C) on its own."""
        result: Tensor = self.out_proj(self.in_proj(x))
        return result


class DepthwiseConv(nn.Module):
    """Convolution over time of each channel on its own, without bias. Key: ``weight`` (C, 1, K).

    The outer taps begin small, so that it looks at the K // 2 frames in the middle first.

    Args:
        num_channels: C.
        kernel_size: K.
        causal: whether it sees the frame itself and K - 1 before it, instead of K around it.
    """

    def __init__(self, num_channels: int, kernel_size: int, causal: bool) -> None:
        super().__init__()
        self.kernel_size, self.causal = kernel_size, causal
        bound = kernel_size**-0.5
        weight = torch.empty(num_channels, 1, kernel_size).uniform_(-bound, bound)
        if half := kernel_size // 2:
            weight[:, :, :half] *= 0.1
            weight[:, :, -half:] *= 0.1
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor, memory: Cache | None = None) -> Tensor:
        """Convolve (T', N, C), with zeros or the memory before it; the length stays."""
        padding = 0 if self.causal else self.kernel_size // 2
        if memory is not None:
            x = memory.extend(x)
        elif self.causal:
            x = F.pad(x, (0, 0, 0, 0, self.kernel_size - 1, 0))
        return convolve_time(x.unsqueeze(0), self.weight, None, padding).squeeze(0)


class ConvolutionModule(nn.Module):
    """Depthwise convolution and mean over time, gated, SwashR, linear layer.

    Keys: ``in_proj``, ``depthwise_conv``, ``weighted_mean``, ``out_proj``.
    """

    def __init__(self, config: LayerConfig) -> None:
        super().__init__()
        channels = config.encoder_dim
        self.in_proj = nn.Linear(channels, 2 * channels)
        self.depthwise_conv = DepthwiseConv(channels, config.conv_params, config.causal)
        self.weighted_mean = WeightedMean(channels, config.causal)
        self.out_proj = ActivationDropoutAndLinear(
            channels, channels, activation="SwashR", initial_scale=0.05, bias_scale=BIAS_SCALE
        )

    def forward(
        self,
        x: Tensor,
        padding: Tensor | None = None,
        memory: tuple[Cache, RunningSum] | None = None,
    ) -> Tensor:
        """Convolve the valid frames.

        Args:
            x: (T', N, C).
            padding: (N, T'), True at padding, which counts as silence (zeros).
            memory: of the frames before ``x``.

        Returns:
            (T', N, C).
        """
        # The gain is that of the input; the weights are smaller than the input.
        projected = F.linear(x, CONVOLUTION_GAIN * self.in_proj.weight, self.in_proj.bias)
        frames, gate = projected.chunk(2, dim=-1)
        if padding is not None:
            frames = frames.masked_fill(padding.t().unsqueeze(-1), 0.0)
        past, sums = memory or (None, None)
        mean = self.weighted_mean(frames, padding, sums)
        mixed = self.depthwise_conv(frames, past) + mean
        result: Tensor = self.out_proj(mixed * torch.sigmoid(gate))
        return result


class LayerMemory(NamedTuple):
    """What a layer remembers of the frames before a chunk; see ``to_memory``."""

    attention: AttentionMemory
    convolution: tuple[Cache, RunningSum]
    norm: SquareSums


class ZapformerLayer(nn.Module):
    """Feed-forward, attention, convolution, feed-forward and a norm.

    Keys: ``self_attn``, ``feed_forward1``, ``feed_forward2``, ``conv_module``, ``norm``.
    """

    def __init__(self, config: LayerConfig) -> None:
        super().__init__()
        channels, hidden = config.encoder_dim, config.feedforward_dim
        self.self_attn = SelfAttention(config)
        self.feed_forward1 = FeedForward(channels, hidden)
        self.feed_forward2 = FeedForward(channels, hidden)
        self.conv_module = ConvolutionModule(config)
        self.norm = CausalSequenceNorm() if config.causal else SequenceNorm()

    def forward(
        self,
        original: Tensor,
        table: Tensor,
        masks: Masks = NO_MASKS,
        alpha: float = 0.0,
        memory: LayerMemory | None = None,
    ) -> Tensor:
        """Run the layer.

        Args:
            original: (T', N, C).
            table: (T' - 1 + S, 128) of ``PositionTable``.
            masks: padding of the S remembered and new frames, chunks of T'.
            alpha: weight of the penalties.
            memory: what came before, if ``original`` is one chunk of many.

        Returns:
            (T', N, C).
        """
        padding = masks.padding_of_last(original.size(0))
        original = limit_correlation(original, padding, CORRELATION_SHARE * alpha)
        attention, convolution, sums = memory or (None, None, None)
        x = original + self.feed_forward1(original)
        x = x + self.self_attn(original, x, table, masks, ATTENTION_SHARE * alpha, attention)
        x = x + self.conv_module(x, padding, convolution)
        x = x + self.feed_forward2(x)
        x = original + limit_scale(RESIDUAL_SCALE * (x - original), alpha)
        if isinstance(self.norm, CausalSequenceNorm):
            x = self.norm(x, sums)
        else:
            x = self.norm(x, padding)
        clamped: Tensor = x.clamp(-MAX_OUTPUT, MAX_OUTPUT)
        return clamped


#: Tensors per layer.
NUM_STATES = 9

#: The dimension of each tensor along which streams stand side by side.
BATCH_DIMS = (1, 1, 0, 0, 0, 1, 0, 1, 0)


def initial_states(
    layer: nn.Module, left_frames: int, batch_size: int, device: torch.device | str
) -> list[Tensor]:
    """Return the memory of a causal layer at the beginning of a stream.

    Args:
        layer: a ``ZapformerLayer``.
        left_frames: L.
        batch_size: N.
        device: of the tensors.
    """
    assert isinstance(layer, ZapformerLayer)
    assert isinstance(layer.norm, CausalSequenceNorm)
    attention, convolution = layer.self_attn, layer.conv_module
    channels, value = convolution.weighted_mean.weights.numel(), attention.out_proj.in_features
    past = convolution.depthwise_conv.kernel_size - 1
    sums = layer.norm.initial_sums(batch_size, device)

    def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=device)

    return [
        zeros(left_frames, batch_size, attention.num_heads * attention.query_head_dim),
        zeros(left_frames, batch_size, value),
        zeros(batch_size, channels, past),
        sums.total,
        sums.count,
        zeros(1, batch_size, value),
        zeros(batch_size, dtype=torch.int64),
        zeros(1, batch_size, channels),
        zeros(batch_size, dtype=torch.int64),
    ]


def to_memory(states: Sequence[Tensor]) -> LayerMemory:
    """Read the nine tensors of a layer; they are left as they are."""
    key, value, conv, total, count, value_sum, num_values, conv_sum, num_conv = states
    return LayerMemory(
        AttentionMemory(Cache(key), Cache(value), RunningSum(value_sum, num_values)),
        (Cache(conv.permute(2, 0, 1)), RunningSum(conv_sum, num_conv)),
        SquareSums(total, count),
    )


def from_memory(memory: LayerMemory) -> list[Tensor]:
    """Return the nine tensors of a layer."""
    attention, (conv, conv_sum), norm = memory
    return [
        attention.key.frames,
        attention.value.frames,
        conv.frames.permute(1, 2, 0),
        norm.total,
        norm.count,
        attention.mean.total,
        attention.mean.count,
        conv_sum.total,
        conv_sum.count,
    ]
