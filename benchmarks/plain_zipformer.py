"""The Zipformer written the plain way, one formula after another: a peer, and an oracle.

It reads the parameters of our model by their published names and shares nothing else with it:
activations by ``logaddexp``, channels-first convolutions with transposed copies, relative
positions by a padded copy, Balancer and Whiten by automatic differentiation inside the backward
pass, as the public recipe does. Sources: Yao et al., "Zipformer", ICLR 2024; /docs/zipformer.md.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zipasr.encoder.zipformer.config import ZipformerConfig


class Plain:
    """Front end and encoder of a non-causal model.

    Args:
        parameters: of an ``AsrModel``, by name.
        config: its shape.
        training: whether Balancer, Whiten, dropout and skips are on, at the rates that hold
            after ``batch_count`` batches.
        batch_count: position in all schedules.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        config: ZipformerConfig,
        training: bool = False,
        batch_count: float = 50000.0,
    ) -> None:
        self.parameters = parameters
        self.config = config
        self.training = training
        self.batch_count = batch_count

    # -- numbers that follow a schedule -----------------------------------------------------

    def scheduled(self, *points: tuple[float, float], default: float = 0.0) -> float:
        """Interpolate between (batch count, value) points."""
        if not self.training:
            return default
        (x0, y0), *rest = points
        for x1, y1 in rest:
            if self.batch_count < x1:
                return y0 + (y1 - y0) * max(0.0, self.batch_count - x0) / (x1 - x0)
            x0, y0 = x1, y1
        return y0

    def steers(self, x: Tensor) -> bool:
        """Say whether Balancer and Whiten may act."""
        return self.training and x.requires_grad

    def balance(
        self,
        x: Tensor,
        dim: int,
        positive: tuple[float, float],
        size: tuple[float, float],
        prob: float | None = None,
    ) -> Tensor:
        """Keep the share of positive values and the size of each channel within limits."""
        prob = self.scheduled((0, 0.5), (8000, 0.125)) if prob is None else prob
        if not self.steers(x) or random.random() >= prob:
            return x
        result: Tensor = _Balance.apply(x, dim, positive, size)  # type: ignore[no-untyped-call]
        return result

    def whiten(self, x: Tensor, groups: int, limit: float, scale: float) -> Tensor:
        """Keep the covariance of the channels (last axis) near white."""
        if not self.steers(x) or random.random() > 0.25:
            return x
        result: Tensor = _Whiten.apply(x, groups, limit, scale)  # type: ignore[no-untyped-call]
        return result

    # -- small parts ------------------------------------------------------------------------

    def linear(self, name: str, x: Tensor) -> Tensor:
        """Apply the linear layer ``name``."""
        return F.linear(x, self.parameters[name + ".weight"], self.parameters.get(name + ".bias"))

    def swoosh_linear(self, name: str, x: Tensor, kind: str, dropout: float) -> Tensor:
        """Activation, dropout shared over time, linear layer; the activation is recomputed."""
        mask = None
        if self.training and dropout > 0:
            mask = (torch.rand(1, *x.shape[1:]) > dropout).to(x.dtype) / (1 - dropout)
        weight, bias = self.parameters[name + ".weight"], self.parameters[name + ".bias"]
        result: Tensor = _SwooshLinear.apply(x, weight, bias, mask, kind)  # type: ignore[no-untyped-call]
        return result

    def bias_norm(self, name: str, x: Tensor) -> Tensor:
        """Divide by the root mean square of ``x - bias``."""
        bias, log_scale = self.parameters[name + ".bias"], self.parameters[name + ".log_scale"]
        scales = torch.mean((x - bias) ** 2, dim=-1, keepdim=True) ** -0.5 * log_scale.exp()
        return x * scales

    def bypass(self, name: str, original: Tensor, new: Tensor, skip: float = 0.0) -> Tensor:
        """Mix input and output of a group of blocks."""
        scale = self.parameters[name + ".bypass_scale"]
        if self.training and skip > 0:
            scale = scale * (torch.rand(x_batch(original), 1) > skip)
        return original + (new - original) * scale

    def drop_utterances(self, x: Tensor, rate: float) -> Tensor:
        """Leave out a branch for some utterances."""
        if not self.training or rate == 0.0:
            return x
        return x * (torch.rand(x_batch(x), 1) > rate)

    # -- front end --------------------------------------------------------------------------

    def embed(self, features: Tensor) -> Tensor:
        """(N, T, 80) -> (N, T1, C)."""
        p, name = self.parameters, "encoder_embed."
        x = features.unsqueeze(1)
        strides: tuple[tuple[int, Any, Any, float], ...] = (
            (0, 1, (0, 1), 1.0),
            (4, 2, 0, 4.0),
            (7, (1, 2), 0, 4.0),
        )
        for index, stride, padding, largest in strides:
            key = f"{name}conv.{index}"
            x = F.conv2d(x, p[key + ".weight"], p[key + ".bias"], stride, padding)
            if index == 0 and self.training:
                x = _ScaleGrad.apply(x, 0.2)  # type: ignore[no-untyped-call]
            x = self.balance(x, 1, (0.05, 0.95), (0.2, largest))
            x = swoosh(x, "R")
        x = self.convnext(name + "convnext.", x)
        x = self.linear(name + "out", x.transpose(1, 2).reshape(len(x), x.size(2), -1))
        x = self.whiten(x, 1, self.scheduled((0, 4), (20000, 8)), 0.02)
        x = self.bias_norm(name + "out_norm", x)
        rate = self.dropout_rate()
        if rate > 0:
            x = x * ((torch.rand(len(x), 1, x.size(2)) > rate).to(x.dtype) / (1 - rate))
        return x

    def dropout_rate(self) -> float:
        """Return the rate of the front end and of the feed-forward blocks."""
        return self.scheduled((0, 0.3), (20000, 0.1))

    def convnext(self, name: str, x: Tensor) -> Tensor:
        """Depthwise and pointwise convolutions beside a residual connection."""
        p = self.parameters
        key = name + "depthwise_conv"
        y = F.conv2d(x, p[key + ".weight"], p[key + ".bias"], padding=3, groups=x.size(1))
        y = F.conv2d(y, p[name + "pointwise_conv1.weight"], p[name + "pointwise_conv1.bias"])
        y = swoosh(self.balance(y, 1, (0.3, 1.0), (0.75, 5.0)), "L")
        y = F.conv2d(y, p[name + "pointwise_conv2.weight"], p[name + "pointwise_conv2.bias"])
        if self.training:
            rate = self.scheduled((0, 0.2), (20000, 0.015))
            y = y * (torch.rand(len(y), 1, 1, 1) > rate)
        x = self.balance(x + y, 1, (0.4, 0.6), (1.0, 6.0))
        return self.whiten(x.transpose(1, 3), 1, 5.0, 0.01).transpose(1, 3)

    # -- encoder ----------------------------------------------------------------------------

    def encode(self, features: Tensor, feature_lens: Tensor) -> Tensor:
        """(N, T, 80), (N,) -> (N, T', C)."""
        config = self.config
        x = self.embed(features).transpose(0, 1)
        lens = (feature_lens - 7) // 2
        padding = torch.arange(x.size(0)) >= lens.unsqueeze(1)
        masks = self.feature_masks(x_batch(x))
        outputs = []
        for i, factor in enumerate(config.downsampling_factor):
            dim = config.per_stack("encoder_dim")[i]
            x = x[..., :dim] if x.size(-1) >= dim else F.pad(x, (0, dim - x.size(-1)))
            x = self.stack(i, x, masks[i], padding[:, ::factor])
            outputs.append(x)
        full = outputs[-1]
        for output in reversed(outputs[:-1]):
            full = torch.cat([full, output[..., full.size(-1) :]], dim=-1)
        return self.downsample("encoder.downsample_output", full, 2).transpose(0, 1)

    def feature_masks(self, num_utterances: int) -> list[Tensor | float]:
        """Draw which channels the stacks must do without."""
        config = self.config
        if not self.training:
            return [1.0] * config.num_stacks
        first = (torch.rand(1, num_utterances, 1) > 0.125).float()
        second = first * (torch.rand(1, num_utterances, 1) > 0.125)
        masks: list[Tensor | float] = []
        for i in range(config.num_stacks):
            dim = config.per_stack("encoder_dim")[i]
            kept = config.per_stack("encoder_unmasked_dim")[i]
            mask = torch.ones(1, num_utterances, dim)
            mask[..., kept:] *= first
            mask[..., kept + (dim - kept) // 2 :] *= second
            masks.append(mask)
        return masks

    def downsample(self, name: str, x: Tensor, factor: int) -> Tensor:
        """Average groups of frames with learned weights."""
        missing = -x.size(0) % factor
        x = torch.cat([x, x[-1:].expand(missing, -1, -1)]) if missing else x
        x = x.reshape(-1, factor, *x.shape[1:])
        weights = self.parameters[name + ".bias"].softmax(dim=0)[:, None, None]
        return (x * weights).sum(dim=1)

    def stack(self, index: int, x: Tensor, mask: Tensor | float, padding: Tensor) -> Tensor:
        """Layers of one stack, at its own frame rate."""
        factor = self.config.downsampling_factor[index]
        name = f"encoder.encoders.{index}."
        if factor == 1:
            return self.layers(index, name, x, mask, padding)
        low = self.downsample(name + "downsample", x, factor)
        low = self.layers(index, name + "encoder.", low, mask, padding)
        new = low.repeat_interleave(factor, dim=0)[: len(x)]
        return self.bypass(name + "out_combiner", x, new)

    def layers(
        self, index: int, name: str, x: Tensor, mask: Tensor | float, padding: Tensor
    ) -> Tensor:
        """All layers of a stack."""
        positions = relative_positions(x.size(0), self.config.pos_dim)
        if self.training:
            positions = F.dropout(positions, 0.15)
        skip = 0.035 * self.config.downsampling_factor[index] ** 0.5 if self.training else 0.0
        x = x * mask
        for j in range(self.config.per_stack("num_encoder_layers")[index]):
            x = self.layer(index, f"{name}layers.{j}.", x, positions, padding, skip) * mask
        return x

    def layer(
        self, index: int, name: str, x: Tensor, positions: Tensor, padding: Tensor, skip: float
    ) -> Tensor:
        """One layer."""
        original = x
        weights = self.attention_weights(index, name + "self_attn_weights.", x, positions, padding)
        attention_skip = self.scheduled((0, 0.2), (4000, 0.05), (16000, 0))
        ff_skip = self.scheduled((0, 0.1), (4000, 0.01), (50000, 0))
        keep: Tensor | float = 1.0
        if attention_skip > 0:
            keep = (torch.rand(x_batch(x), 1) > attention_skip).to(x.dtype)
        x = x + self.feed_forward(name + "feed_forward1.", x)
        single = weights[0:1]
        if self.training and random.random() < self.scheduled((0, 0.25), (4000, 0.025)):
            single = (single > 0).to(x.dtype)
            single = single / single.sum(dim=-1, keepdim=True)
        na = self.nonlin_attention(name + "nonlin_attention.", x, single)
        low = self.scheduled((0, 0.004), (4000, 0.02))
        x = x + self.balance(na, -1, (0.3, 0.7), (low, 100.0), 0.05) * keep
        x = x + self.self_attention(name + "self_attn1.", x, weights) * keep
        x = x + self.drop_utterances(
            self.convolution(name + "conv_module1.", x, padding), attention_skip
        )
        ff2 = self.feed_forward(name + "feed_forward2.", x)
        ff2 = self.balance(ff2, -1, (0.3, 0.7), (self.scheduled((0, 0), (4000, 0.1)), 2.0), 0.05)
        x = x + self.drop_utterances(ff2, ff_skip)
        x = self.bypass(name + "bypass_mid", original, x)
        x = x + self.self_attention(name + "self_attn2.", x, weights) * keep
        x = x + self.drop_utterances(
            self.convolution(name + "conv_module2.", x, padding), attention_skip
        )
        ff3 = self.feed_forward(name + "feed_forward3.", x)
        ff3 = self.balance(ff3, -1, (0.3, 0.7), (self.scheduled((0, 0), (4000, 0.2)), 4.0), 0.05)
        x = x + self.drop_utterances(ff3, ff_skip)
        x = self.bias_norm(name + "norm", self.balance(x, -1, (0.45, 0.55), (0.2, 4.0)))
        x = self.bypass(name + "bypass", original, x, skip)
        x = self.balance(x, -1, (0.45, 0.55), (0.1, 4.0))
        return self.whiten(x, 1, self.scheduled((0, 4), (20000, 12)), 0.01)

    def feed_forward(self, name: str, x: Tensor) -> Tensor:
        """Linear, SwooshL, dropout, linear."""
        hidden = self.balance(self.linear(name + "in_proj", x), -1, (0.3, 1.0), (0.75, 5.0))
        y = self.swoosh_linear(name + "out_proj", hidden, "L", self.dropout_rate())
        return self.whiten(y, 1, self.scheduled((0, 7.5), (20000, 15)), 0.01)

    def attention_weights(
        self, index: int, name: str, x: Tensor, positions: Tensor, padding: Tensor
    ) -> Tensor:
        """Return (H, N, T, T)."""
        num_frames, batch, _ = x.shape
        heads = self.config.per_stack("num_heads")[index]
        q_dim = self.config.per_stack("query_head_dim")[index]
        p_dim = self.config.per_stack("pos_head_dim")[index]
        sizes = (heads * q_dim, heads * q_dim, heads * p_dim)
        q, k, p = self.linear(name + "in_proj", x).split(sizes, dim=-1)
        k = self.balance(k, -1, (0.4, 0.6), (0.0, 100.0), 0.025)
        k = self.whiten(k, heads, self.scheduled((0, 3), (20000, 6)), 0.025)
        q = q.reshape(num_frames, batch, heads, q_dim).permute(2, 1, 0, 3)
        k = k.reshape(num_frames, batch, heads, q_dim).permute(2, 1, 3, 0)
        p = p.reshape(num_frames, batch, heads, p_dim).permute(2, 1, 0, 3)
        scores = torch.matmul(q, k)
        r = self.linear(name + "linear_pos", positions)
        r = r.reshape(1, 2 * num_frames - 1, heads, p_dim).permute(2, 0, 3, 1)
        by_distance = torch.matmul(p, r)
        # Row i is shifted by i: a column of zeros, and the buffer read with another width.
        padded = F.pad(by_distance, (0, 1)).flatten(2)
        shifted = padded[..., num_frames - 1 : -1].reshape(heads, batch, num_frames, -1)
        scores = scores + shifted[..., :num_frames]
        if self.training and random.random() < 0.1:
            scores = _Penalize.apply(scores)  # type: ignore[no-untyped-call]
        return scores.masked_fill(padding.unsqueeze(1), -1000.0).softmax(dim=-1)

    def self_attention(self, name: str, x: Tensor, weights: Tensor) -> Tensor:
        """Weighted sums of values, per head."""
        num_frames, batch, _ = x.shape
        v = self.linear(name + "in_proj", x).reshape(num_frames, batch, len(weights), -1)
        y = torch.matmul(weights, v.permute(2, 1, 0, 3)).permute(2, 1, 0, 3)
        y = self.linear(name + "out_proj", y.reshape(num_frames, batch, -1))
        return self.whiten(y, 1, self.scheduled((0, 7.5), (20000, 22.5)), 0.01)

    def nonlin_attention(self, name: str, x: Tensor, weights: Tensor) -> Tensor:
        """Gate, mix frames with one head, gate again."""
        s, v, y = self.linear(name + "in_proj", x).chunk(3, dim=-1)
        positive = (
            self.scheduled((0, 0.25), (20000, 0.05)),
            self.scheduled((0, 0.75), (20000, 0.95)),
        )
        s = torch.tanh(self.balance(s, -1, positive, (0.5, 5.0)))
        v = self.whiten(v, 1, self.scheduled((0, 5), (20000, 10)), 0.01) * s
        o = torch.matmul(weights[0], v.transpose(0, 1)).transpose(0, 1)
        o = self.linear(name + "out_proj", o * y)
        return self.whiten(o, 1, self.scheduled((0, 5), (20000, 15)), 0.01)

    def convolution(self, name: str, x: Tensor, padding: Tensor) -> Tensor:
        """Gated linear unit, depthwise convolution, SwooshR, linear."""
        a, g = self.linear(name + "in_proj", x).chunk(2, dim=-1)
        low = self.scheduled((0, 0.05), (8000, 0.025))
        g = self.balance(g, -1, (low, 1.0), (1.5, self.scheduled((0, 5), (8000, 10), default=1.0)))
        y = (a * torch.sigmoid(g)).permute(1, 2, 0)
        y = y.masked_fill(padding.unsqueeze(1), 0.0)
        kernel, bias = (
            self.parameters[f"{name}depthwise_conv.{part}"] for part in ("weight", "bias")
        )
        y = F.conv1d(y, kernel, bias, padding=kernel.size(2) // 2, groups=y.size(1))
        smallest = self.scheduled((0, 0.2), (20000, 0.5))
        y = self.balance(y, 1, (self.scheduled((0, 0.1), (8000, 0.05)), 1.0), (smallest, 10.0))
        y = self.whiten(y.permute(2, 0, 1), 1, self.scheduled((0, 7.5), (20000, 15)), 0.01)
        return self.swoosh_linear(name + "out_proj", y, "R", 0.0)


def x_batch(x: Tensor) -> int:
    """Return N of a time-first (T, N, C) tensor."""
    return x.size(1)


def relative_positions(num_frames: int, dim: int) -> Tensor:
    """Return (1, 2 T - 1, dim)."""
    k = torch.arange(-(num_frames - 1), num_frames, dtype=torch.float32)
    root = math.sqrt(dim)
    z = root * k.sign() * ((k.abs() + root).log() - math.log(root))
    angle = (z / (dim / (2 * math.pi))).atan()
    m = torch.arange(1, dim // 2 + 1)
    table = torch.zeros(2 * num_frames - 1, dim)
    table[:, 0::2], table[:, 1::2] = (angle[:, None] * m).cos(), (angle[:, None] * m).sin()
    table[:, -1] = 1.0
    return table.unsqueeze(0)


def swoosh(x: Tensor, kind: str) -> Tensor:
    """Return SwooshL or SwooshR, keeping only the input."""
    result: Tensor = _Swoosh.apply(x, kind)  # type: ignore[no-untyped-call]
    return result


def _swoosh_value(x: Tensor, kind: str) -> Tensor:
    shift, offset = (4.0, 0.035) if kind == "L" else (1.0, 0.313261687)
    return torch.logaddexp(torch.zeros((), dtype=x.dtype), x - shift) - 0.08 * x - offset


def _swoosh_slope(x: Tensor, kind: str) -> Tensor:
    return torch.sigmoid(x - (4.0 if kind == "L" else 1.0)) - 0.08


class _Swoosh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.kind = kind
        return _swoosh_value(x, kind)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grad * _swoosh_slope(x, ctx.kind), None


class _SwooshLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None, kind: str
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mask)
        ctx.kind = kind
        y = _swoosh_value(x, kind)
        return F.linear(y if mask is None else y * mask, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mask = ctx.saved_tensors
        y, slope = _swoosh_value(x, ctx.kind), _swoosh_slope(x, ctx.kind)
        if mask is not None:
            y, slope = y * mask, slope * mask
        rows = grad.reshape(-1, grad.size(-1))
        weight_grad = rows.t() @ y.reshape(-1, y.size(-1))
        return (grad @ weight) * slope, weight_grad, rows.sum(dim=0), None, None


class _ScaleGrad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: float) -> Tensor:
        ctx.alpha = alpha
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.alpha, None


class _Penalize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad + 1.0e-4 * x.sign() * (x.abs() > 25.0)


class _Balance(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dim: int, positive: tuple[float, float], size: tuple[float, float]
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.rest = dim % x.ndim, positive, size
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        dim, positive, size = ctx.rest
        with torch.enable_grad():
            x = x.detach().float().requires_grad_()
            others = [d for d in range(x.ndim) if d != dim]
            square = (x**2).mean(others, keepdim=True)
            mean = x.mean(others, keepdim=True)
            std = (square - mean * mean).clamp(min=1e-20).sqrt()
            rms = square.clamp(min=1e-20).sqrt()
            ratio = mean / std
            lowest, highest = (_mean_limit(p) for p in positive)
            ratio_loss = (ratio - ratio.clamp(lowest, highest)).abs()
            smallest, largest = (1.25331413732 * s for s in size)
            rms_loss = (rms.clamp(smallest, largest) / rms).log().abs()
            (push,) = torch.autograd.grad((ratio_loss + rms_loss).sum(), x)
        push_rms = (push**2).mean(others, keepdim=True).sqrt().clamp(min=1e-20)
        return grad + grad.abs() * (push * (0.04 / push_rms)), None, None, None


def _mean_limit(positive: float) -> float:
    z = 2 * positive - 1
    return 0.8139535143 * (math.log(1 + z + 1e-10) - math.log(1 - z + 1e-10)) / 2


class _Whiten(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, groups: int, limit: float, scale: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.rest = groups, limit, scale
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        groups, limit, scale = ctx.rest
        with torch.enable_grad():
            x = x.detach().float().requires_grad_()
            metric = _whitening_metric(x, groups)
            if metric < limit:
                return grad, None, None, None
            (push,) = torch.autograd.grad(metric, x)
        push = push * (scale * grad.norm() / (push.norm() + 1e-20))
        return grad + push, None, None, None


def _whitening_metric(x: Tensor, groups: int) -> Tensor:
    x = x.reshape(-1, x.size(-1))
    num_channels = x.size(-1)
    x = x.reshape(len(x), groups, -1).transpose(0, 1)
    x = x - x.mean(dim=1, keepdim=True)
    covariance = torch.matmul(x.transpose(1, 2), x)
    mean_diagonal = covariance.diagonal(dim1=1, dim2=2).mean()
    mean_square = (covariance**2).sum() / num_channels
    return mean_square / (mean_diagonal**2 + 1e-20)
