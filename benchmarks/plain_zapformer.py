"""The Zapformer written the plain way, one formula after another: a peer, and an oracle.

It reads the parameters of our model by their published names. Only the table of positions is the
same, for it is a constant: activations by ``logaddexp``, channels-first convolutions, all scores in
memory, relative positions by a padded copy, and penalties by automatic differentiation inside the
backward pass, as the public recipe does. Source: icefall's pull request 2082; /docs/zapformer.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zipasr.encoder.zapformer.config import ZapformerConfig
from zipasr.encoder.zapformer.positions import position_table

Penalty = Callable[[Tensor], Tensor]


class PlainZapformer:
    """Front end and encoder of a non-causal model.

    Args:
        parameters: of an ``AsrModel``, by name.
        config: its shape.
        training: whether there is noise, and penalties of the weight that they have after
            ``batch_count`` updates.
        batch_count: see above.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        config: ZapformerConfig,
        training: bool = False,
        batch_count: float = 50000.0,
    ) -> None:
        self.parameters = parameters
        self.config = config
        self.training = training
        share = 1.0 if batch_count < 2000.0 else 0.25
        self.alpha = share * config.aux_loss_scale if training else 0.0

    # -- small parts ------------------------------------------------------------------------

    def linear(self, name: str, x: Tensor) -> Tensor:
        """Apply the linear layer ``name``."""
        return F.linear(x, self.parameters[name + ".weight"], self.parameters.get(name + ".bias"))

    def held(self, name: str, low: float, high: float, always: bool = False) -> Tensor:
        """Return a parameter whose gradient does not lead further out of a range."""
        value = self.parameters[name]
        return _hold(value, low, high) if self.training or always else value

    def rms_norm(self, name: str, x: Tensor) -> Tensor:
        """Divide each frame by its size."""
        scale, eps = self.held(name + ".scale", 0.05, 1.0), self.held(name + ".eps", 0.0, 10.0)
        return x * scale * ((x**2).mean(-1, keepdim=True) + eps**2) ** -0.5

    def sequence_norm(self, name: str, x: Tensor, valid: Tensor) -> Tensor:
        """Divide (T, N, C) by the size of the valid frames (T, N, 1) of each utterance."""
        scale = self.held(name + ".scale", 0.05, 2.0)
        offset = self.held(name + ".offset", 0.0, 10.0)
        power = ((x**2).mean(-1, keepdim=True) * valid).sum(0) / valid.sum(0)
        return x * (scale * (power + 1e-20) ** -0.5 + offset)

    def weighted_mean(self, name: str, x: Tensor, valid: Tensor) -> Tensor:
        """Mean of the valid frames, with a weight for each channel: (N, C)."""
        return self.parameters[name + ".weights"] * ((x * valid).sum(0) / valid.sum(0))

    def orthogonal(self, name: str) -> Tensor:
        """Return a matrix (out, in) that its gradient keeps nearly orthogonal."""
        weight = self.parameters[name + ".weight"]
        matrix = weight * (weight.size(1) ** -0.5 / 0.3)
        if self.training:
            matrix = _Penalized.apply(matrix, _orthogonality, True)  # type: ignore[no-untyped-call]
        return matrix

    # -- front end --------------------------------------------------------------------------

    def embed(self, features: Tensor) -> Tensor:
        """(N, T, 80) -> (N, T1, C)."""
        p, x = self.parameters, features.unsqueeze(1)
        strides: tuple[tuple[int, Any, Any], ...] = ((0, 1, (0, 1)), (3, 2, 0), (5, (1, 2), 0))
        for index, stride, padding in strides:
            key = f"encoder_embed.conv.{index}"
            x = F.conv2d(x, p[key + ".weight"], p[key + ".bias"], stride, padding)
            if index == 0 and self.training:
                size = ((x**2).mean(dim=(1, 2, 3), keepdim=True) + 3e-8).sqrt()
                x = x + 0.005 * size * torch.randn_like(x)
            x = swash(x, "R")
        key = "encoder_embed.convnext."
        kernel, bias = (p[f"{key}depthwise_conv.{part}"] for part in ("weight", "bias"))
        y = F.conv2d(x, kernel, bias, padding=3, groups=x.size(1))
        y = F.conv2d(y, p[key + "pointwise_conv1.weight"], p[key + "pointwise_conv1.bias"])
        y = swash(y, "L")
        y = F.conv2d(y, p[key + "pointwise_conv2.weight"], p[key + "pointwise_conv2.bias"])
        x = (x + y).transpose(1, 2)
        return 0.15 * self.linear("encoder_embed.out", x.reshape(*x.shape[:2], -1))

    # -- encoder ----------------------------------------------------------------------------

    def encode(self, features: Tensor, feature_lens: Tensor) -> Tensor:
        """(N, T, 80), (N,) -> (N, T', C)."""
        x = self.embed(features).transpose(0, 1)
        num_frames, slowest = len(x), max(self.config.downsampling_factor)
        padding = torch.arange(num_frames) >= ((feature_lens - 7) // 2).unsqueeze(1)
        missing = -num_frames % slowest
        x = torch.cat([x, x[-1:].expand(missing, -1, -1)])
        padding = F.pad(padding, (0, missing), value=True)
        for i, factor in enumerate(self.config.downsampling_factor):
            x = beside(self.stack(i, beside(x, factor), padding[:, ::factor]), 1 / factor)
        out = self.rms_norm("encoder.out_norm", beside(x, 2))
        return out[: (num_frames + 1) // 2].transpose(0, 1)

    def stack(self, index: int, x: Tensor, padding: Tensor) -> Tensor:
        """Layers of one stack, between a projection and its transpose."""
        name = f"encoder.encoders.{index}."
        count = self.config.per_stack("num_encoder_layers")[index]
        stacks = len(self.config.downsampling_factor)
        alpha = self.alpha * self.config.downsampling_factor[index] / (2 * stacks) / count
        scales = self.parameters[name + "residual_scales"]
        ranges = [(-1.0, -0.5), *[(0.0, 1.0)] * (count - 1), (min(0.5, 1.0 / count), 1.0)]
        limited = [_hold(scale, *limits) for scale, limits in zip(scales, ranges, strict=True)]
        projected = x @ self.orthogonal(name + "proj").t()
        total = limited[0] * projected
        x_layer = self.held(name + "input_scale", 0.5, 2.0, always=True) * projected
        table = position_table(1 - len(x), len(x) - 1)
        for j in range(count):
            x_layer = self.layer(index, f"{name}layers.{j}.", x_layer, table, padding, alpha)
            total = total + limited[1 + j] * x_layer
        return x + total @ self.orthogonal(name + "proj")

    def layer(
        self, index: int, name: str, x: Tensor, table: Tensor, padding: Tensor, alpha: float
    ) -> Tensor:
        """One layer."""
        valid = (~padding).t().unsqueeze(-1).to(x.dtype)
        if alpha and x.size(1) >= 4:
            weight = 2.0 * alpha * x.size(0) * x.size(1)
            x = penalized(x, lambda x: weight * F.relu(_correlation(x, valid) - 0.25))
        start = x
        x = x + self.feed_forward(name + "feed_forward1.", x)
        x = x + self.attention(index, name + "self_attn.", start, x, table, padding, 0.1 * alpha)
        x = x + self.convolution(name + "conv_module.", x, valid)
        x = x + self.feed_forward(name + "feed_forward2.", x)
        change = 0.25 * (x - start)
        if alpha:
            change = penalized(change, lambda x: alpha * F.relu((x**2).mean(-1).sqrt() - 1.0).sum())
        return self.sequence_norm(name + "norm", start + change, valid).clamp(-5.0, 5.0)

    def feed_forward(self, name: str, x: Tensor) -> Tensor:
        """Linear, SwashR, linear."""
        return self.linear(name + "out_proj", swash(self.linear(name + "in_proj", x), "R"))

    def attention(
        self,
        index: int,
        name: str,
        x_qkp: Tensor,
        x_vg: Tensor,
        table: Tensor,
        padding: Tensor,
        alpha: float,
    ) -> Tensor:
        """Gated attention over (T, N, C)."""
        num_frames, batch, _ = x_vg.shape
        sizes = ("num_heads", "query_head_dim", "pos_head_dim")
        heads, q_dim, p_dim = (self.config.per_stack(size)[index] for size in sizes)
        x = self.linear(name + "qkp_in_proj", self.rms_norm(name + "in_norm", x_qkp))
        q, k, p = x.split((heads * q_dim, heads * q_dim, heads * p_dim), dim=-1)
        v, gate_in, gate_out = self.linear(name + "vg_in_proj", x_vg).chunk(3, dim=-1)
        if alpha:
            gate_in, gate_out = (
                penalized(g, lambda g: 0.02 * alpha * F.relu(g.abs() - 2.0).sum())
                for g in (gate_in, gate_out)
            )
        v = v * torch.sigmoid(gate_in)
        mean = self.weighted_mean(name + "weighted_mean", v, (~padding).t().unsqueeze(-1).float())
        q, k, p, v = (
            t.reshape(num_frames, batch, heads, -1).permute(1, 2, 0, 3) for t in (q, k, p, v)
        )
        scores = q @ (k * q_dim**-0.5).transpose(2, 3)
        by_distance = p @ (table @ self.parameters[name + "rel_pos.weight"].transpose(1, 2)).mT
        # Row i is shifted by i: a column of zeros, and the buffer read with another width.
        padded = F.pad(by_distance, (0, 1)).flatten(2)
        shifted = padded[..., num_frames - 1 : -1].reshape(batch, heads, num_frames, -1)
        scores = (scores + shifted[..., :num_frames]).masked_fill(
            padding[:, None, None, :], -1000.0
        )
        if alpha:
            weight, asked = 0.1 / 8.0 / heads * alpha, (~padding)[:, None, :].float()
            scores = penalized(
                scores,
                lambda s: weight * (F.relu((s.softmax(-1) * s.abs()).sum(-1) - 8.0) * asked).sum(),
            )
        mixed = (scores.softmax(-1) @ v).permute(2, 0, 1, 3).flatten(2)
        return self.linear(name + "out_proj", (mixed + mean) * torch.sigmoid(gate_out))

    def convolution(self, name: str, x: Tensor, valid: Tensor) -> Tensor:
        """Convolution and mean of (T, N, C), gated, SwashR, linear."""
        weight, bias = (self.parameters[f"{name}in_proj.{part}"] for part in ("weight", "bias"))
        frames, gate = F.linear(3.0 * x, weight, bias).chunk(2, dim=-1)
        frames = frames * valid
        kernel = self.parameters[name + "depthwise_conv.weight"]
        y = F.conv1d(
            frames.permute(1, 2, 0), kernel, padding=kernel.size(2) // 2, groups=kernel.size(0)
        )
        y = y.permute(2, 0, 1) + self.weighted_mean(name + "weighted_mean", frames, valid)
        return self.linear(name + "out_proj", swash(y * torch.sigmoid(gate), "R"))


def beside(x: Tensor, factor: float) -> Tensor:
    """Put neighbours of (T, N, C) side by side, or, for 1 / factor, below each other again."""
    if factor >= 1:
        groups = x.reshape(-1, int(factor), *x.shape[1:])
        return groups.transpose(1, 2).flatten(2)
    groups = x.reshape(*x.shape[:2], round(1 / factor), -1)
    return groups.transpose(1, 2).flatten(0, 1)


def swash(x: Tensor, kind: str) -> Tensor:
    """Return SwashL or SwashR: a Swoosh of ``4 x``, divided by 4."""
    shift, offset = (4.0, 0.035) if kind == "L" else (1.0, 0.313261687)
    zero = torch.zeros((), dtype=x.dtype)
    return (torch.logaddexp(zero, 4.0 * x - shift) - 0.32 * x - offset) / 4.0


def penalized(x: Tensor, penalty: Penalty) -> Tensor:
    """Return ``x``; the gradient of a penalty of it is added to its own."""
    result: Tensor = _Penalized.apply(x, penalty, False)  # type: ignore[no-untyped-call]
    return result


class _Penalized(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, penalty: Penalty, in_units_of_gradient: bool) -> Tensor:
        ctx.save_for_backward(x)
        ctx.rest = penalty, in_units_of_gradient
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        penalty, in_units_of_gradient = ctx.rest
        with torch.enable_grad():
            x = x.detach().float().requires_grad_()
            (extra,) = torch.autograd.grad(penalty(x), x)
        return grad + extra * (grad.abs().mean() if in_units_of_gradient else 1.0), None, None


def _orthogonality(matrix: Tensor) -> Tensor:
    """Penalty whose gradient is ``2 * 20 (M M' - I) M``, of the shorter of the two products."""
    is_wide = matrix.size(0) <= matrix.size(1)
    product = matrix @ matrix.t() if is_wide else matrix.t() @ matrix
    return 10.0 * ((product - torch.eye(len(product))) ** 2).sum()


def _correlation(x: Tensor, valid: Tensor) -> Tensor:
    """Mean product of the second moments of every second utterance and of the others."""
    units = x * ((x**2).mean(-1, keepdim=True) + 1e-20) ** -0.5 * valid
    first, second = (
        (half := units[:, start::2].flatten(0, 1)).t() @ half / valid[:, start::2].sum()
        for start in (0, 1)
    )
    return (first * second).mean()


def _hold(value: Tensor, low: float, high: float) -> Tensor:
    result: Tensor = _Hold.apply(value, low, high)  # type: ignore[no-untyped-call]
    return result


class _Hold(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.range = low, high
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        low, high = ctx.range
        grad = torch.where(x < low, -grad.abs(), grad)
        return torch.where(x > high, grad.abs(), grad), None, None
