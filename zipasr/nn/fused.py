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
from zipasr.nn.schedule import FloatLike, dropout_mask


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
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mask)
        ctx.swoosh = swoosh
        ctx.dtype = dtype = matmul_dtype(weight)
        weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
        blocks = list(_blocks(x))
        if len(blocks) == 1:
            return F.linear(swoosh_value(x, swoosh, mask, dtype), weight, bias)
        y = weight.new_empty(*x.shape[:-1], len(weight))
        for block in blocks:
            a = swoosh_value(x[block], swoosh, _part(mask, block), dtype)
            linear_into(y[block], a, weight, bias)
        return y

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, weight, mask = ctx.saved_tensors
        x_grad, weight_grad = torch.empty_like(x), torch.zeros_like(weight)
        with no_autocast(x):
            grad, narrow = grad.to(ctx.dtype), weight.to(ctx.dtype)
            for block in _blocks(x):
                a = swoosh_value_and_gradient(
                    x[block], ctx.swoosh, _part(mask, block), grad[block] @ narrow, x_grad[block]
                )
                _add_product(weight_grad, grad[block].flatten(0, -2), a.flatten(0, -2))
            bias_grad = grad.flatten(0, -2).sum(0, dtype=weight.dtype)
        return x_grad, weight_grad, bias_grad if ctx.needs_input_grad[2] else None, None, None


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
    x: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor | None, activation: SwooshName
) -> Tensor:
    """Return ``linear(swoosh(x) * mask)``.

    Args:
        x: (..., C), at least a matrix.
        weight: (C', C).
        bias: (C',) or ``None``.
        mask: factors that broadcast to ``x``, with as many dimensions; or ``None``.
        activation: which swoosh.

    Returns:
        (..., C'), in the type of autocast if that is on.
    """
    return _FusedFunction.call(x, weight, bias, mask, SWOOSHES[activation])


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
        mask = dropout_mask(x, p, self.dropout_shared_dim) if p > 0.0 else None
        return activation_dropout_linear(x, self.weight, self.bias, mask, self.activation)
