"""One layer of the first Zipformer: attention, convolution, feed-forward and pooling blocks."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zipasr.encoder.zipformer1.attention import (
    ALL_IN_SIGHT,
    AttentionMask,
    RelPositionMultiheadAttention,
)
from zipasr.encoder.zipformer1.config import LayerConfig
from zipasr.encoder.zipformer1.scaling import (
    ActivationBalancer,
    BasicNorm,
    DoubleSwish,
    EarlyWhiten,
)
from zipasr.nn.layers import Cache, convolve_time, scaled_conv1d, scaled_linear
from zipasr.nn.schedule import ScheduledFloat


class FeedforwardModule(nn.Module):
    """Linear layer, DoubleSwish, dropout, linear layer.

    Args:
        num_channels: C of input and output.
        hidden_channels: channels in between.
        dropout: rate in training.
    """

    def __init__(self, num_channels: int, hidden_channels: int, dropout: float) -> None:
        super().__init__()
        self.in_proj = nn.Linear(num_channels, hidden_channels)
        self.balancer = ActivationBalancer(channel_dim=-1, max_abs=10.0, min_prob=0.25)
        self.activation = DoubleSwish()
        self.dropout = nn.Dropout(dropout)
        self.out_proj = scaled_linear(hidden_channels, num_channels, initial_scale=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each frame of (T, N, C) on its own."""
        hidden = self.dropout(self.activation(self.balancer(self.in_proj(x))))
        result: Tensor = self.out_proj(hidden)
        return result


class ConvolutionModule(nn.Module):
    """Gated linear unit, depthwise convolution, DoubleSwish, linear layer.

    The linear layers are convolutions of one frame in published checkpoints, hence the names.

    Args:
        num_channels: C.
        kernel_size: K, odd number of frames.
        causal: whether frames to come are out of sight.
    """

    def __init__(self, num_channels: int, kernel_size: int, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal
        self.pointwise_conv1 = nn.Conv1d(num_channels, 2 * num_channels, kernel_size=1)
        self.deriv_balancer1 = ActivationBalancer(
            channel_dim=-1, max_abs=10.0, min_positive=0.05, max_positive=1.0
        )
        self.depthwise_conv = nn.Conv1d(
            num_channels, num_channels, kernel_size, groups=num_channels
        )
        self.deriv_balancer2 = ActivationBalancer(
            channel_dim=-1, max_abs=20.0, min_positive=0.05, max_positive=1.0
        )
        self.activation = DoubleSwish()
        self.pointwise_conv2 = scaled_conv1d(
            num_channels, num_channels, kernel_size=1, initial_scale=0.05
        )

    def forward(
        self, x: Tensor, padding_mask: Tensor | None = None, memory: Cache | None = None
    ) -> Tensor:
        """Convolve the valid frames.

        Args:
            x: (T, N, C).
            padding_mask: (N, T), True at padding, which counts as silence (zeros).
            memory: of a causal module: the K - 1 gated frames before ``x``.

        Returns:
            (T, N, C).
        """
        value, gate = self.deriv_balancer1(_pointwise(self.pointwise_conv1, x)).chunk(2, dim=-1)
        gated = value * torch.sigmoid(gate)
        if padding_mask is not None:
            gated = gated.masked_fill(padding_mask.t().unsqueeze(-1), 0.0)
        convolved = self.deriv_balancer2(self._convolved(gated, memory))
        return _pointwise(self.pointwise_conv2, self.activation(convolved))

    def _convolved(self, x: Tensor, memory: Cache | None) -> Tensor:
        conv, padding = self.depthwise_conv, 0
        past = conv.kernel_size[0] - 1
        if memory is not None:
            x = memory.extend(x)
        elif self.causal:
            x = F.pad(x, (0, 0, 0, 0, past, 0))
        else:
            padding = past // 2
        return convolve_time(x.unsqueeze(0), conv.weight, conv.bias, padding).squeeze(0)


def _pointwise(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """Apply a convolution of one frame to (T, N, C)."""
    return F.linear(x, conv.weight.squeeze(-1), conv.bias)


class MeanCache:
    """The running mean of one stream of vectors.

    Args:
        count: (N,) integers, frames averaged so far.
        mean: (N, C) of them.
    """

    def __init__(self, count: Tensor, mean: Tensor) -> None:
        self.count, self.mean = count, mean

    def extend(self, x: Tensor) -> Tensor:
        """Return the mean up to each frame of ``x`` (T, N, C), and remember the last one."""
        before = (self.mean * self.count[:, None]).to(x.dtype)
        counts = self.count + torch.arange(1, x.size(0) + 1, device=x.device)[:, None]
        means = (before + x.cumsum(dim=0)) / counts.unsqueeze(-1)
        self.count, self.mean = counts[-1], means[-1].to(self.mean.dtype)
        return means


class PoolingModule(nn.Module):
    """Mean over the valid frames, or over those so far, and a linear layer.

    Args:
        num_channels: C.
        causal: whether frames to come are out of sight.
    """

    def __init__(self, num_channels: int, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal
        self.proj = scaled_linear(num_channels, num_channels, bias=False, initial_scale=0.1)

    def forward(
        self, x: Tensor, padding_mask: Tensor | None = None, memory: MeanCache | None = None
    ) -> Tensor:
        """Average and project.

        Args:
            x: (T, N, C).
            padding_mask: (N, T), True at padding.
            memory: of a causal module: what came before, if ``x`` is one chunk of many.

        Returns:
            (1, N, C); of a causal module (T, N, C).
        """
        if memory is not None:
            return self._projected(memory.extend(x))
        valid = _valid(x, padding_mask)
        if self.causal:
            share = valid / valid.cumsum(dim=0).clamp(min=1)
            return self._projected((x * valid).cumsum(dim=0) * share.to(x.dtype))
        share = valid / valid.sum(dim=0).clamp(min=1)
        return self._projected((x * share.to(x.dtype)).sum(dim=0, keepdim=True))

    def _projected(self, x: Tensor) -> Tensor:
        result: Tensor = self.proj(x)
        return result


def _valid(x: Tensor, padding_mask: Tensor | None) -> Tensor:
    """Return (T, N or 1, 1), 1.0 at valid frames and 0.0 at padding."""
    if padding_mask is None:
        return x.new_ones(x.size(0), 1, 1)
    return padding_mask.logical_not().t().unsqueeze(-1).to(x.dtype)


#: Share of the training calls that keep the bypass within its range.
BYPASS_LIMIT_PROB = 0.9


@dataclass(slots=True)
class LayerCache:
    """What a layer of a causal model remembers of the frames before a chunk."""

    pooled: MeanCache
    keys: Cache
    values: Cache
    values2: Cache
    conv1: Cache
    conv2: Cache


class _NoMemory:
    """Stands for ``LayerCache`` where a whole utterance is there at once."""

    pooled = keys = values = values2 = conv1 = conv2 = None


def block_drop_rate(causal: bool) -> ScheduledFloat:
    """Return how often pooling, attention and convolutions are left out in training.

    The constant rate until batch 2000 is what the published models were trained with; the
    streaming ones fall linearly.
    """
    if causal:
        return ScheduledFloat((0.0, 0.2), (2000.0, 0.0))
    return ScheduledFloat((2000.0, 0.2), (2000.0 + 1e-6, 0.0))


class ZipformerEncoderLayer(nn.Module):
    """Feed-forward, pooling, attention and convolution blocks around one residual stream.

    Args:
        config: sizes.
    """

    def __init__(self, config: LayerConfig) -> None:
        super().__init__()
        dim = config.encoder_dim
        self.bypass_scale = nn.Parameter(torch.tensor(0.5))
        self.self_attn = RelPositionMultiheadAttention(dim, config.attention_dim, config.nhead)
        self.pooling = PoolingModule(dim, config.causal)
        self.feed_forward1, self.feed_forward2, self.feed_forward3 = (
            FeedforwardModule(dim, config.feedforward_dim, config.dropout) for _ in range(3)
        )
        self.conv_module1, self.conv_module2 = (
            ConvolutionModule(dim, config.cnn_module_kernel, config.causal) for _ in range(2)
        )
        self.norm_final = BasicNorm()
        self.balancer = ActivationBalancer(
            channel_dim=-1, min_positive=0.45, max_positive=0.55, max_abs=6.0
        )
        self.whiten = EarlyWhiten(1, 5.0, prob=(0.025, 0.25), grad_scale=0.01)
        self.block_drop_rate = block_drop_rate(config.causal)
        self.bypass_min = ScheduledFloat((0.0, 0.75), (20000.0, 0.25))

    def forward(
        self,
        original: Tensor,
        pos_emb: Tensor,
        sight: AttentionMask = ALL_IN_SIGHT,
        padding_mask: Tensor | None = None,
        memory: LayerCache | None = None,
    ) -> Tensor:
        """Run the layer.

        Args:
            original: (T, N, C).
            pos_emb: (T - 1 + S, C), where S counts remembered frames as well.
            sight: which sources each target may use.
            padding_mask: (N, T), True at padding.
            memory: of a causal layer: what came before, if ``original`` is one chunk of many.

        Returns:
            (T, N, C).
        """
        past = memory or _NoMemory
        pools, attends, convolves1, convolves2 = (self._is_kept() for _ in range(4))
        x = original + self.feed_forward1(original)
        if pools:
            x = x + self.pooling(x, padding_mask, past.pooled)
        weights = None
        if attends:
            mixed, weights = self.self_attn(x, pos_emb, sight, past.keys, past.values)
            x = x + mixed
        if convolves1:
            x = x + self.conv_module1(x, padding_mask, past.conv1)
        x = x + self.feed_forward2(x)
        if weights is not None:
            x = x + self.self_attn.forward2(x, weights, sight, past.values2)
        if convolves2:
            x = x + self.conv_module2(x, padding_mask, past.conv2)
        x = x + self.feed_forward3(x)
        x = self.norm_final(self.balancer(x))
        result: Tensor = self.whiten(original + (x - original) * self._bypass())
        return result

    def _is_kept(self) -> bool:
        return not self.training or random.random() >= float(self.block_drop_rate)

    def _bypass(self) -> Tensor:
        if not self.training or random.random() >= BYPASS_LIMIT_PROB:
            return self.bypass_scale
        return self.bypass_scale.clamp(float(self.bypass_min), 1.0)
