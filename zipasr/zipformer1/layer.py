"""One layer: eight residual blocks, a norm and a way around all of them."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zipasr.nn.cache import Cache
from zipasr.nn.schedule import ScheduledFloat
from zipasr.zipformer1.attention import ALL_IN_SIGHT, RelPositionMultiheadAttention, Sight
from zipasr.zipformer1.balancer import ActivationBalancer
from zipasr.zipformer1.convolution import ConvolutionModule
from zipasr.zipformer1.feedforward import FeedforwardModule
from zipasr.zipformer1.norm import BasicNorm
from zipasr.zipformer1.pooling import MeanMemory, PoolingModule
from zipasr.zipformer1.whiten import EarlyWhiten

#: Share of the training calls that keep the bypass within its range.
BYPASS_LIMIT_PROB = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerConfig:
    """Sizes of a layer; the names are those of ``Zipformer1Config``, for one stack."""

    encoder_dim: int
    attention_dim: int
    nhead: int
    feedforward_dim: int
    cnn_module_kernel: int
    dropout: float
    causal: bool


@dataclass(slots=True)
class LayerMemory:
    """What a layer of a causal model remembers of the frames before a chunk."""

    pooled: MeanMemory
    keys: Cache
    values: Cache
    values2: Cache
    conv1: Cache
    conv2: Cache


class _NoMemory:
    """Stands for ``LayerMemory`` where a whole utterance is there at once."""

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
        sight: Sight = ALL_IN_SIGHT,
        padding_mask: Tensor | None = None,
        memory: LayerMemory | None = None,
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
