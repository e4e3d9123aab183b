"""Activation, dropout and linear layer fused, so that the backward pass keeps only the input."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from zipasr.nn.activations import (
    SWOOSHES,
    Swoosh,
    SwooshName,
    swoosh_value,
    swoosh_value_and_gradient,
)
from zipasr.nn.gradients import TensorFunction
from zipasr.nn.layers import scaled_linear
from zipasr.nn.numerics import matmul_dtype, no_autocast, row_blocks
from zipasr.nn.schedule import FloatLike, dropout_mask, kept


def _part(mask: Tensor | None, block: slice) -> Tensor | None:
    """Return the mask of some of the first dimension, along which it may be shared."""
    return mask if mask is None or mask.size(0) == 1 else mask[block]


class _FusedFunction(TensorFunction):
    """``linear(swoosh(x) * mask)``; the activation is computed again in the backward pass.

    Both passes work block by block along the first dimension, so that the activation goes from
    one step to the next inside the cache.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        mask: Tensor | None,
        swoosh: Swoosh,
        scale: float = 1.0,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mask)
        ctx.swoosh, ctx.scale = swoosh, scale
        ctx.dtype = dtype = matmul_dtype(weight)
        weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
        blocks = list(_blocks(x))
        if len(blocks) == 1:
            return F.linear(swoosh_value(x, swoosh, mask, dtype, scale), weight, bias)
        y = weight.new_empty(*x.shape[:-1], len(weight))
        for block in blocks:
            a = swoosh_value(x[block], swoosh, _part(mask, block), dtype, scale)
            linear_into(y[block], a, weight, bias)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mask = ctx.saved_tensors
        with no_autocast(x):
            grad, narrow = grad.to(ctx.dtype), weight.to(ctx.dtype)
            blocks = list(_blocks(x))
            if len(blocks) == 1:
                a, x_grad = swoosh_value_and_gradient(
                    x, ctx.swoosh, mask, grad @ narrow, scale=ctx.scale
                )
                product = grad.flatten(0, -2).t() @ a.flatten(0, -2)
                weight_grad = product.to(weight.dtype)
            else:
                x_grad, weight_grad = torch.empty_like(x), torch.zeros_like(weight)
                for block in blocks:
                    part = (x[block], ctx.swoosh, _part(mask, block), grad[block] @ narrow)
                    a, _ = swoosh_value_and_gradient(*part, x_grad[block], ctx.scale)
                    _add_product(weight_grad, grad[block].flatten(0, -2), a.flatten(0, -2))
            bias_grad = grad.flatten(0, -2).sum(0, dtype=weight.dtype)
        wanted = bias_grad if ctx.needs_input_grad[2] else None
        return x_grad, weight_grad, wanted, None, None, None


def linear_into(out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Write ``linear(x)`` into ``out``, contiguous; all of one type."""
    rows, out_rows = x.flatten(0, -2), out.flatten(0, -2)
    if bias is None:
        torch.mm(rows, weight.t(), out=out_rows)
    else:
        torch.addmm(bias, rows, weight.t(), out=out_rows)


def _blocks(x: Tensor) -> Iterator[slice]:
    return row_blocks(x.shape[0], 4 * math.prod(x.shape[1:]), x.device)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add ``left^T right`` to ``total``, which may be more precise than the product."""
    if total.dtype == left.dtype:
        total.addmm_(left.t(), right)
    else:
        total.add_(left.t() @ right)


def activation_dropout_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    activation: SwooshName,
    scale: float = 1.0,
) -> Tensor:
    """Return ``linear(swoosh(x) * mask * scale)``.

    Args:
        x: (..., C), at least a matrix.
        weight: (C', C).
        bias: (C',) or ``None``.
        mask: factors that broadcast to ``x``, with as many dimensions; or ``None``.
        activation: which swoosh.
        scale: other than 1 on a CUDA device only, with a mask.

    Returns:
        (..., C'), in the type of autocast if that is on.
    """
    return _FusedFunction.call(x, weight, bias, mask, SWOOSHES[activation], scale)


class ActivationDropoutAndLinear(nn.Module):
    """``Linear(dropout(swoosh(x)))`` that saves only ``x`` and a small mask for the backward pass.

    Under autocast the matrix products run in its type, the activation in float32; gradients
    have the types of what they belong to. Keys: ``weight`` (out, in) and ``bias`` (out,).

    Args:
        in_channels: size of the last dimension of the input, at least a matrix.
        out_channels: size of the last dimension of the output.
        activation: which swoosh.
        dropout_p: rate of the dropout in training mode.
        dropout_shared_dim: dimension of the input along which all elements share one mask;
            None for independent elements.
        bias: whether there is a bias.
        initial_scale: of weight and bias, as in ``scaled_linear``.
        bias_scale: of the bias, as in ``scaled_linear``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        activation: SwooshName,
        dropout_p: FloatLike = 0.0,
        dropout_shared_dim: int | None = -1,
        bias: bool = True,
        initial_scale: float = 1.0,
        bias_scale: float = 0.1,
    ) -> None:
        super().__init__()
        layer = scaled_linear(in_channels, out_channels, bias, initial_scale, bias_scale)
        self.weight = layer.weight
        self.bias: nn.Parameter | None = layer.bias
        self.activation: SwooshName = activation
        self.dropout_p = dropout_p
        self.dropout_shared_dim = dropout_shared_dim

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_channels) to (..., out_channels)."""
        p = float(self.dropout_p) if self.training else 0.0
        if p > 0.0 and x.is_cuda:
            keep, scale = kept(x, p, self.dropout_shared_dim), 1.0 / (1.0 - p)
            layer = (self.weight, self.bias, keep, self.activation, scale)
            return activation_dropout_linear(x, *layer)
        mask = dropout_mask(x, p, self.dropout_shared_dim) if p > 0.0 else None
        return activation_dropout_linear(x, self.weight, self.bias, mask, self.activation)
