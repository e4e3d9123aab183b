"""One Zipformer layer: nine blocks around one set of attention weights, with bypass connections.

================ ================= ==================================================
name             shape             content
================ ================= ==================================================
cached_key       (L, N, H D)       keys, before they are split into heads
cached_nonlin    (1, N, L, C_h)    gated values of the non-linear attention
cached_val1      (L, N, H V)       values of the first self-attention
cached_val2      (L, N, H V)       values of the second one
cached_conv1     (N, C, K // 2)    gated frames before the first convolution
cached_conv2     (N, C, K // 2)    gated frames before the second one
================ ================= ==================================================

L is the left context at the frame rate of the layer.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from zipasr.encoder.relative_attention import AttentionWeights
from zipasr.encoder.zipformer.attention import (
    NonlinAttention,
    RelPositionMultiheadAttentionWeights,
    SelfAttention,
)
from zipasr.encoder.zipformer.config import LayerConfig
from zipasr.encoder.zipformer.feedforward_convolution import ConvolutionModule, FeedforwardModule
from zipasr.kernels import elementwise
from zipasr.kernels.elementwise import has_kernels
from zipasr.nn.balancer import Balancer
from zipasr.nn.bias_norm import BiasNorm
from zipasr.nn.gradients import TensorFunction, limit_param_value
from zipasr.nn.layers import Cache
from zipasr.nn.numerics import no_autocast
from zipasr.nn.schedule import FloatLike, ScheduledFloat
from zipasr.nn.whiten import Whiten


def keep_mask(num_utterances: int, rate: float, like: Tensor) -> Tensor | None:
    """Draw which utterances keep a branch.

    Args:
        num_utterances: N.
        rate: probability of leaving the branch out; 0 draws nothing.
        like: gives the device and the dtype.

    Returns:
        (N, 1) ones and zeros, or ``None`` when every utterance keeps the branch (which only a CPU
        can tell without waiting). Kept
        branches are not scaled up: leaving out is a regulariser, not dropout.
    """
    if rate == 0.0:
        return None
    if like.is_cuda:
        return like.new_empty(num_utterances, 1).bernoulli_(1.0 - rate)
    keep = torch.rand(num_utterances, 1, device=like.device) > rate
    if keep.device.type == "cpu" and bool(keep.all()):
        return None
    return keep.to(like.dtype)


class _AddBranch(TensorFunction):
    """``x + branch * keep``, whose terms autocast leaves in their types."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, branch: Tensor, keep: Tensor) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.dtype = branch.dtype
        with no_autocast(x):
            return torch.addcmul(x, branch, keep)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        (keep,) = ctx.saved_tensors
        return grad, torch.mul(grad, keep, out=torch.empty_like(grad, dtype=ctx.dtype)), None


def add_branch(x: Tensor, branch: Tensor, keep: Tensor | None) -> Tensor:
    """Add a branch to the stream for the utterances that keep it.

    Args:
        x: (T', N, C), the stream.
        branch: (T', N, C), what a block made of it.
        keep: (N, 1) from ``keep_mask``.

    Returns:
        (T', N, C).
    """
    return x + branch if keep is None else _AddBranch.call(x, branch, keep)


class _BypassFunction(TensorFunction):
    """``original + (new - original) * scale``, saving no difference."""

    @staticmethod
    def forward(ctx: Any, original: Tensor, new: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(original, new, scale)
        if original.is_cuda and original.dtype == new.dtype == scale.dtype:
            return torch.lerp(original, new, scale)
        return torch.addcmul(original, new - original, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        original, new, scale = ctx.saved_tensors
        if has_kernels(grad):
            to_original, to_new, terms = elementwise.BYPASSED(original, new, scale, grad)
            return to_original, to_new, terms.sum_to_size(scale.shape)
        to_new = grad * scale
        to_scale = (new - original).mul_(grad).sum_to_size(scale.shape)
        return grad - to_new, to_new, to_scale


class BypassModule(nn.Module):
    """Mix the input and the output of a group of blocks, with one weight for each channel.

    In training the weight is pushed into a range that narrows the more the longer
    training lasts, and whole groups are left out for some utterances.

    Args:
        num_channels: C.
        skip_rate: probability that an utterance keeps the input unchanged.
    """

    def __init__(self, num_channels: int, skip_rate: FloatLike = 0.0) -> None:
        super().__init__()
        self.bypass_scale = nn.Parameter(torch.full((num_channels,), 0.5))
        self.skip_rate = skip_rate
        self.scale_min = ScheduledFloat((0.0, 0.9), (20000.0, 0.2))
        self.scale_max = 1.0

    def forward(self, original: Tensor, new: Tensor) -> Tensor:
        """Return ``original + (new - original) * scale``.

        Args:
            original: (T', N, C), the input of the group.
            new: (T', N, C), its output.

        Returns:
            (T', N, C).
        """
        return _BypassFunction.call(original, new, self._scale(original.size(1)))

    def _scale(self, num_utterances: int) -> Tensor:
        if not self.training:
            return self.bypass_scale
        scale = limit_param_value(
            self.bypass_scale, min=float(self.scale_min), max=self.scale_max, training=True
        )
        keep = keep_mask(num_utterances, float(self.skip_rate), like=scale)
        return scale if keep is None else scale * keep


class LayerCache(NamedTuple):
    """What a layer remembers of the frames before a chunk; each is time-first, (L, N, channels).

    ``key``, ``nonlin``, ``value1`` and ``value2`` reach back as far as the left context,
    ``conv1`` and ``conv2`` as far as the convolution.
    """

    key: Cache
    nonlin: Cache
    value1: Cache
    value2: Cache
    conv1: Cache
    conv2: Cache


class _NoMemory:
    """Stands for ``LayerCache`` where a whole utterance is there at once."""

    key = nonlin = value1 = value2 = conv1 = conv2 = None


def _branch_balancer(num_channels: int, min_abs: FloatLike, max_abs: float) -> Balancer:
    return Balancer(
        num_channels,
        channel_dim=-1,
        min_positive=0.3,
        max_positive=0.7,
        min_abs=min_abs,
        max_abs=max_abs,
        prob=0.05,
    )


def _stream_balancer(num_channels: int, min_abs: float) -> Balancer:
    return Balancer(
        num_channels,
        channel_dim=-1,
        min_positive=0.45,
        max_positive=0.55,
        min_abs=min_abs,
        max_abs=4.0,
    )


class Zipformer2EncoderLayer(nn.Module):
    """Feed-forward, attention and convolution blocks, each twice or more, and one norm.

    Args:
        config: sizes.
        dropout: rate inside the feed-forward blocks.
    """

    def __init__(self, config: LayerConfig, dropout: FloatLike) -> None:
        super().__init__()
        num_channels = config.encoder_dim
        # Never used, but every published checkpoint has it.
        self.bypass_scale = nn.Parameter(torch.full((num_channels,), 0.5))
        self.bypass = BypassModule(num_channels)
        self.bypass_mid = BypassModule(num_channels)
        self._add_attention(config)
        self._add_feedforward(config, dropout)
        self.conv_module1, self.conv_module2 = (
            ConvolutionModule(num_channels, config.cnn_module_kernel, config.causal)
            for _ in range(2)
        )
        self.norm = BiasNorm(num_channels)
        self._add_regularisers(num_channels)

    def _add_attention(self, config: LayerConfig) -> None:
        num_channels = config.encoder_dim
        self.self_attn_weights = RelPositionMultiheadAttentionWeights(
            num_channels,
            pos_dim=config.pos_dim,
            num_heads=config.num_heads,
            query_head_dim=config.query_head_dim,
            pos_head_dim=config.pos_head_dim,
            pos_emb_skip_rate=ScheduledFloat((0.0, 0.5), (4000.0, 0.0)),
        )
        self.self_attn1 = SelfAttention(num_channels, config.num_heads, config.value_head_dim)
        self.self_attn2 = SelfAttention(num_channels, config.num_heads, config.value_head_dim)
        self.nonlin_attention = NonlinAttention(num_channels, hidden_channels=3 * num_channels // 4)

    def _add_feedforward(self, config: LayerConfig, dropout: FloatLike) -> None:
        num_channels, hidden = config.encoder_dim, config.feedforward_dim
        self.feed_forward1 = FeedforwardModule(num_channels, hidden * 3 // 4, dropout)
        self.feed_forward2 = FeedforwardModule(num_channels, hidden, dropout)
        self.feed_forward3 = FeedforwardModule(num_channels, hidden * 5 // 4, dropout)

    def _add_regularisers(self, num_channels: int) -> None:
        self.attention_skip_rate = ScheduledFloat((0.0, 0.2), (4000.0, 0.05), (16000.0, 0.0))
        self.conv_skip_rate = ScheduledFloat((0.0, 0.2), (4000.0, 0.05), (16000.0, 0.0))
        self.ff2_skip_rate = ScheduledFloat((0.0, 0.1), (4000.0, 0.01), (50000.0, 0.0))
        self.ff3_skip_rate = ScheduledFloat((0.0, 0.1), (4000.0, 0.01), (50000.0, 0.0))
        self.const_attention_rate = ScheduledFloat((0.0, 0.25), (4000.0, 0.025))
        self.balancer_na = _branch_balancer(
            num_channels, min_abs=ScheduledFloat((0.0, 0.004), (4000.0, 0.02)), max_abs=100.0
        )
        self.balancer_ff2 = _branch_balancer(
            num_channels, min_abs=ScheduledFloat((0.0, 0.0), (4000.0, 0.1)), max_abs=2.0
        )
        self.balancer_ff3 = _branch_balancer(
            num_channels, min_abs=ScheduledFloat((0.0, 0.0), (4000.0, 0.2)), max_abs=4.0
        )
        self.balancer1 = _stream_balancer(num_channels, min_abs=0.2)
        self.balancer2 = _stream_balancer(num_channels, min_abs=0.1)
        self.whiten = Whiten(
            num_groups=1,
            whitening_limit=ScheduledFloat((0.0, 4.0), (20000.0, 12.0), default=4.0),
            prob=(0.025, 0.25),
            grad_scale=0.01,
        )

    def forward(
        self,
        original: Tensor,
        pos_emb: Tensor,
        attention_mask: Tensor | None = None,
        padding_mask: Tensor | None = None,
        chunk_size: int = -1,
        memory: LayerCache | None = None,
    ) -> Tensor:
        """Run the layer.

        Args:
            original: (T', N, C).
            pos_emb: (1, T' - 1 + S, pos_dim), where S counts the remembered frames as well.
            attention_mask: 4-D booleans that broadcast to (N, H, T', S), True where a target
                frame must not listen to a source frame.
            padding_mask: (N, T'), True at padding.
            chunk_size: of a causal layer: frames in a chunk, -1 for everything.
            memory: of a causal layer: what came before, if ``original`` is one chunk of many.

        Returns:
            (T', N, C).
        """
        x = original
        past = memory or _NoMemory
        weights = self.self_attn_weights(x, pos_emb, attention_mask, past.key)
        # The attention blocks are left out together, since they share their weights.
        keep = self._keep(x, self.attention_skip_rate)
        x = x + self.feed_forward1(x)
        mixed = self.nonlin_attention(x, self._single_head(weights), past.nonlin)
        x = add_branch(x, self.balancer_na(mixed), keep)
        x = add_branch(x, self.self_attn1(x, weights, past.value1), keep)
        convolved = self.conv_module1(x, padding_mask, chunk_size, past.conv1)
        x = add_branch(x, convolved, self._keep(x, self.conv_skip_rate))
        x = add_branch(
            x, self.balancer_ff2(self.feed_forward2(x)), self._keep(x, self.ff2_skip_rate)
        )
        x = self.bypass_mid(original, x)
        x = add_branch(x, self.self_attn2(x, weights, past.value2), keep)
        convolved = self.conv_module2(x, padding_mask, chunk_size, past.conv2)
        x = add_branch(x, convolved, self._keep(x, self.conv_skip_rate))
        x = add_branch(
            x, self.balancer_ff3(self.feed_forward3(x)), self._keep(x, self.ff3_skip_rate)
        )
        x = self.norm(self.balancer1(x))
        x = self.bypass(original, x)
        result: Tensor = self.whiten(self.balancer2(x))
        return result

    def _keep(self, x: Tensor, rate: ScheduledFloat) -> Tensor | None:
        return keep_mask(x.size(1), float(rate), like=x) if self.training else None

    def _single_head(self, weights: AttentionWeights) -> AttentionWeights:
        """Return weights whose first head is now and then uniform over the visible sources."""
        if self.training and random.random() < float(self.const_attention_rate):
            return weights.constant()
        return weights


#: Tensors per layer.
NUM_STATES = 6

#: The dimension of each tensor along which streams stand side by side.
BATCH_DIMS = (1, 1, 1, 1, 0, 0)


def initial_states(
    layer: nn.Module, left_frames: int, batch_size: int, device: torch.device | str
) -> list[Tensor]:
    """Return the memory of a layer at the beginning of a stream: zeros.

    Args:
        layer: a ``Zipformer2EncoderLayer`` of a causal model.
        left_frames: L.
        batch_size: N.
        device: of the tensors.
    """
    assert isinstance(layer, Zipformer2EncoderLayer)
    weights, attention = layer.self_attn_weights, layer.self_attn1
    channels = layer.bypass_scale.numel()
    convolved = layer.conv_module1.depthwise_conv.kernel_size
    past = (convolved if isinstance(convolved, int) else convolved[0]) // 2
    value_dim = attention.in_proj.out_features
    shapes = (
        (left_frames, batch_size, weights.num_heads * weights.query_head_dim),
        (1, batch_size, left_frames, layer.nonlin_attention.out_proj.in_features),
        (left_frames, batch_size, value_dim),
        (left_frames, batch_size, value_dim),
        (batch_size, channels, past),
        (batch_size, channels, past),
    )
    return [torch.zeros(shape, device=device) for shape in shapes]


def to_cache(states: Sequence[Tensor]) -> LayerCache:
    """Read the six tensors of a layer; they are left as they are."""
    key, nonlin, value1, value2, conv1, conv2 = states
    return LayerCache(
        Cache(key),
        Cache(nonlin.squeeze(0).transpose(0, 1)),
        Cache(value1),
        Cache(value2),
        Cache(conv1.permute(2, 0, 1)),
        Cache(conv2.permute(2, 0, 1)),
    )


def from_cache(memory: LayerCache) -> list[Tensor]:
    """Return the six tensors of a layer."""
    return [
        memory.key.frames,
        memory.nonlin.frames.transpose(0, 1).unsqueeze(0),
        memory.value1.frames,
        memory.value2.frames,
        memory.conv1.frames.permute(1, 2, 0),
        memory.conv2.frames.permute(1, 2, 0),
    ]
