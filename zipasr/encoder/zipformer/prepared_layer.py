"""A Zipformer layer prepared for recognition: few operations, nothing computed twice.

On one utterance the operations of a layer are so small that starting them takes as long as
computing them. So projections of the same frames are joined, constants of activations and norms
are folded into biases, and positions are projected once. Results are those of
``layer.Zipformer2EncoderLayer`` in evaluation mode, up to rounding.

Frames are rows, (T' N, C): the streams of a moment side by side, then the next moment.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zipasr.encoder.attention_scores import Inputs
from zipasr.encoder.relative_attention import AttentionWeights, attention_weights
from zipasr.encoder.zipformer.attention import (
    NonlinAttention,
    SelfAttention,
    compact_positions,
)
from zipasr.encoder.zipformer.feedforward_convolution import ConvolutionModule, FeedforwardModule
from zipasr.encoder.zipformer.layer import LayerCache, Zipformer2EncoderLayer
from zipasr.nn.activations import SLOPE, SWOOSHES, SwooshName
from zipasr.nn.bias_norm import BiasNorm
from zipasr.nn.layers import Cache, ChunkCausalDepthwiseConv1d

#: The exponential of more than this has no room in float32.
_LARGEST = 80.0

#: Products of a convolution up to which it is faster to write them down than to start oneDNN.
_FEW_PRODUCTS = 200_000

#: Elements that stay in the cache of a core while one operation after the other visits them.
_CACHED = 1 << 16


class Call(NamedTuple):
    """What all layers of a stack are called with.

    Attributes:
        frames: T'.
        streams: N.
        mask: 4-D booleans as for ``attention_weights``, or ``None``.
        padding: (N, T'), True at padding, or ``None``.
        chunk_size: of a causal model: frames in a chunk, -1 for everything.
    """

    frames: int
    streams: int
    mask: Tensor | None = None
    padding: Tensor | None = None
    chunk_size: int = -1


class Linear(NamedTuple):
    """A linear layer: weight (C', C) in the type of products, bias (C',) float32."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., C') float32."""
        if self.weight.dtype == torch.float32:
            return F.linear(x, self.weight, self.bias)
        return F.linear(x.to(self.weight.dtype), self.weight) + self.bias


def linear(layer: nn.Linear, dtype: torch.dtype) -> Linear:
    """Prepare a layer; in float32 the weights are shared with it."""
    bias = layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias
    return Linear(layer.weight.detach().to(dtype), bias.detach())


def folded(first: Linear, second: Linear, activation: SwooshName) -> tuple[Linear, Linear]:
    """Return linear layers with ``tilted_softplus`` between them for those with a swoosh.

    With t = x - shift a swoosh is ``ln(1 + exp(t)) - 0.08 t - c``. The shift goes into the first
    bias, and c into the second.
    """
    shift, offset = SWOOSHES[activation].shift, SWOOSHES[activation].offset
    sums = second.weight.float().flatten(1).sum(dim=1)
    return (
        first._replace(bias=first.bias - shift),
        second._replace(bias=second.bias - (SLOPE * shift + offset) * sums),
    )


def tilted_softplus(t: Tensor) -> Tensor:
    """Return ``ln(1 + exp(t)) - 0.08 t`` of a float32 matrix, in its own memory.

    The exponential is added to 1, which loses what is below 1e-7 of it: torch's ``softplus``, which
    keeps that, takes twice as long.
    """
    if t.numel() > _CACHED:
        rows = max(1, _CACHED // t.size(1))
        for start in range(0, t.size(0), rows):
            tilted_softplus(t[start : start + rows])
        return t
    softplus = t.clamp(max=_LARGEST).exp_().add_(1.0).log_()
    torch.maximum(softplus, t, out=softplus)
    torch.sub(softplus, t, alpha=SLOPE, out=t)
    return t


class PreparedNorm:
    """``BiasNorm`` with its gain computed."""

    def __init__(self, norm: BiasNorm) -> None:
        self.bias = norm.bias.detach()
        self.gain = float(norm.log_scale.detach().exp()) * math.sqrt(norm.num_channels)

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise (..., C) float32."""
        length = torch.linalg.vector_norm(x - self.bias, dim=-1, keepdim=True)
        normalised: Tensor = x * length.reciprocal_().mul_(self.gain)
        return normalised


class _Attention:
    """Both self-attentions and the non-linear one share the weights; here is one of the former."""

    def __init__(self, module: SelfAttention, dtype: torch.dtype) -> None:
        self.heads = module.num_heads
        self.first, self.second = linear(module.in_proj, dtype), linear(module.out_proj, dtype)

    def __call__(
        self, x: Tensor, weights: AttentionWeights, call: Call, past: Cache | None
    ) -> Tensor:
        values = _extended(self.first(x), call, past)
        by_head = values.view(-1, call.streams, self.heads, values.size(-1) // self.heads)
        mixed = weights.mix(by_head.permute(1, 2, 0, 3).to(weights.matrix.dtype))
        return self.second(mixed.permute(2, 0, 1, 3).reshape(x.size(0), -1))


class _NonlinAttention:
    def __init__(self, module: NonlinAttention, dtype: torch.dtype) -> None:
        self.first, self.second = linear(module.in_proj, dtype), linear(module.out_proj, dtype)

    def __call__(
        self, x: Tensor, weights: AttentionWeights, call: Call, past: Cache | None
    ) -> Tensor:
        gate, value, late_gate = self.first(x).chunk(3, dim=1)
        values = _extended(gate.tanh().mul_(value), call, past)
        mixed = weights.mix(values.transpose(0, 1).unsqueeze(1).to(weights.matrix.dtype))
        return self.second(late_gate * mixed.squeeze(1).transpose(0, 1).reshape(x.size(0), -1))


class _Convolution:
    def __init__(self, module: ConvolutionModule, dtype: torch.dtype) -> None:
        self.first = linear(module.in_proj, dtype)
        out = module.out_proj
        assert out.bias is not None
        last = Linear(out.weight.detach().to(dtype), out.bias.detach())
        conv = module.depthwise_conv
        self.causal = conv if isinstance(conv, ChunkCausalDepthwiseConv1d) else None
        whole = conv.causal_conv if isinstance(conv, ChunkCausalDepthwiseConv1d) else conv
        assert whole.bias is not None
        kernel = Linear(_kernel(whole.weight), whole.bias.detach())
        self.kernel, self.second = folded(kernel, last, "SwooshR")
        self.padding = 0 if self.causal else whole.kernel_size[0] // 2
        if self.causal is not None:
            inner = self.causal.chunkwise_conv
            assert inner.bias is not None
            self.inner = Linear(_kernel(inner.weight), inner.bias.detach())
            self._edges = inner.bias.new_empty(0)

    def __call__(self, x: Tensor, call: Call, past: Cache | None) -> Tensor:
        gated = F.glu(self.first(x), dim=1).view(call.frames, call.streams, -1)
        if call.padding is not None:
            gated.masked_fill_(call.padding.t().unsqueeze(-1), 0.0)
        if self.causal is None:
            y = _convolved(gated, self.kernel, self.padding)
        else:
            half = self.causal.kernel_size // 2
            seen = F.pad(gated, (0, 0, 0, 0, half, 0)) if past is None else past.extend(gated)
            y = _convolved(seen, self.kernel, 0)
            if past is None:
                y += self.causal.inside_chunks(gated, call.chunk_size)
            else:
                y += _convolved(gated, self.inner, half).mul_(self._edge_scale(call.frames))
        return self.second(tilted_softplus(y.reshape(x.size(0), -1)))

    def _edge_scale(self, frames: int) -> Tensor:
        """Return (T', 1, C), how much the inner convolution counts at each frame of a chunk."""
        assert self.causal is not None
        if self._edges.size(0) != frames:
            self._edges = self.causal.edge_scale(frames).t().unsqueeze(1).contiguous()
        return self._edges


def _kernel(weight: Tensor) -> Tensor:
    """Return weights (C, 1, K) of a convolution over time for pictures of height T and width N."""
    return weight.detach().unsqueeze(-1)


def _convolved(x: Tensor, kernel: Linear, padding: int) -> Tensor:
    """Convolve (T, N, C) over time, each channel on its own."""
    size = kernel.weight.size(2)
    if x.size(1) == 1 and x.numel() * size <= _FEW_PRODUCTS:
        seen = F.pad(x, (0, 0, 0, 0, padding, padding)) if padding else x.contiguous()
        num, width = seen.size(0) + 1 - size, x.size(2)
        windows = seen.as_strided((num, size, 1, width), (width, width, width, 1))
        return (windows * kernel.weight.flatten(1).t()[:, None]).sum(dim=1).add_(kernel.bias)
    pictures = x.unsqueeze(0).permute(0, 3, 1, 2)
    y = F.conv2d(pictures, kernel.weight, kernel.bias, padding=(padding, 0), groups=x.size(2))
    return y.permute(0, 2, 3, 1).squeeze(0)


def _extended(x: Tensor, call: Call, past: Cache | None) -> Tensor:
    """Return rows as (T', N, C), or (S, N, C) with what is remembered before them."""
    frames = x.view(call.frames, call.streams, -1)
    return frames if past is None else past.extend(frames)


class PreparedLayer:
    """A layer with its weights as they are now.

    Args:
        layer: whose weights are used.
        dtype: of matrix products.
    """

    def __init__(self, layer: Zipformer2EncoderLayer, dtype: torch.dtype) -> None:
        attention = layer.self_attn_weights
        self.heads, self.dtype = attention.num_heads, dtype
        hidden, self.feedforward1 = _feedforward(layer.feed_forward1, dtype)
        own = linear(attention.in_proj, dtype)
        self.first = Linear(*(torch.cat(pair) for pair in zip(own, hidden, strict=True)))
        self.parts = [*attention.parts, len(hidden.bias)]
        self.positions = attention.linear_pos.weight.detach()
        self._projected = self.positions.new_empty(0)
        self.nonlin = _NonlinAttention(layer.nonlin_attention, dtype)
        self.attention1 = _Attention(layer.self_attn1, dtype)
        self.attention2 = _Attention(layer.self_attn2, dtype)
        self.convolution1 = _Convolution(layer.conv_module1, dtype)
        self.convolution2 = _Convolution(layer.conv_module2, dtype)
        self.feedforward2 = _feedforward(layer.feed_forward2, dtype)
        self.feedforward3 = _feedforward(layer.feed_forward3, dtype)
        self.middle = layer.bypass_mid.bypass_scale.detach()
        self.end = layer.bypass.bypass_scale.detach()
        self.norm = PreparedNorm(layer.norm)

    def __call__(self, original: Tensor, call: Call, past: LayerCache | None) -> Tensor:
        """Run the layer on rows (T' N, C), which stay as they are."""
        key, nonlin, value1, value2, conv1, conv2 = past or (None,) * 6
        query, keys, pos_query, hidden = torch.split(self.first(original), self.parts, dim=1)
        weights = self._weights(query, _extended(keys, call, key), pos_query, call)
        x = original + self.feedforward1(tilted_softplus(hidden))
        x += self.nonlin(x, weights, call, nonlin)
        x += self.attention1(x, weights, call, value1)
        x += self.convolution1(x, call, conv1)
        x += _fed_forward(x, self.feedforward2)
        x = torch.lerp(original, x, self.middle)
        x += self.attention2(x, weights, call, value2)
        x += self.convolution2(x, call, conv2)
        x += _fed_forward(x, self.feedforward3)
        return torch.lerp(original, self.norm(x), self.end)

    def _weights(
        self, query: Tensor, keys: Tensor, pos_query: Tensor, call: Call
    ) -> AttentionWeights:
        pos_key = self._pos_key(call.frames, keys.size(0) - call.frames)
        inputs = Inputs(
            self._heads_first(query, call),
            self._heads_first(keys, call),
            self._heads_first(pos_query, call),
            pos_key.to(self.dtype),
            call.mask,
        )
        return attention_weights(inputs)

    def _heads_first(self, x: Tensor, call: Call) -> Tensor:
        by_head = x.view(-1, call.streams, self.heads, x.size(-1) // self.heads)
        return by_head.permute(1, 2, 0, 3).to(self.dtype)

    def _pos_key(self, frames: int, left: int) -> Tensor:
        """Return (H, 2 T' - 1 + L, P), a part of those for the longest input so far."""
        longest = frames + left
        if self._projected.size(0) < 2 * longest - 1:
            table = compact_positions(longest, self.positions.size(1))
            self._projected = F.linear(table, self.positions)
        centre = self._projected.size(0) // 2
        part = self._projected[centre + 1 - longest : centre + frames]
        return part.view(part.size(0), self.heads, -1).transpose(0, 1)


def _feedforward(module: FeedforwardModule, dtype: torch.dtype) -> tuple[Linear, Linear]:
    out = module.out_proj
    assert out.bias is not None
    second = Linear(out.weight.detach().to(dtype), out.bias.detach())
    return folded(linear(module.in_proj, dtype), second, "SwooshL")


def _fed_forward(x: Tensor, layers: tuple[Linear, Linear]) -> Tensor:
    first, second = layers
    return second(tilted_softplus(first(x)))
