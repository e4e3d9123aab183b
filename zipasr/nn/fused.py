"""Activation, dropout and linear layer in one, with the memory of the linear layer alone."""

from typing import Any

from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from zipasr.nn.activations import SWOOSHES, Swoosh, SwooshName, swoosh_slope, swoosh_value
from zipasr.nn.dropout import dropout_mask
from zipasr.nn.function import TensorFunction
from zipasr.nn.linear import scaled_linear
from zipasr.nn.precision import matmul_dtype, no_autocast
from zipasr.nn.schedule import FloatLike


def _dropped_activation(x: Tensor, mask: Tensor | None, swoosh: Swoosh) -> Tensor:
    a = swoosh_value(x, swoosh)
    return a if mask is None else a.mul_(mask)


class _FusedFunction(TensorFunction):
    """``linear(swoosh(x) * mask)``; the activation is computed again in the backward pass."""

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
        a = _dropped_activation(x, mask, swoosh).to(dtype)
        return F.linear(a, weight.to(dtype), None if bias is None else bias.to(dtype))

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, weight, mask = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad[:3]
        x_grad = weight_grad = bias_grad = None
        with no_autocast(x):
            grad = grad.to(ctx.dtype)
            flat_grad = grad.flatten(0, -2)
            if for_x:
                slope = swoosh_slope(x, ctx.swoosh)
                if mask is not None:
                    slope.mul_(mask)
                x_grad = slope.mul_(grad @ weight.to(ctx.dtype)).to(x.dtype)
            if for_weight:
                a = _dropped_activation(x, mask, ctx.swoosh).to(ctx.dtype)
                weight_grad = (flat_grad.t() @ a.flatten(0, -2)).to(weight.dtype)
            if for_bias:
                bias_grad = flat_grad.sum(0, dtype=weight.dtype)
        return x_grad, weight_grad, bias_grad, None, None


class ActivationDropoutAndLinear(nn.Module):
    """``Linear(dropout(swoosh(x)))`` that saves only ``x`` and a small mask for the backward pass.

    Under autocast the matrix products run in its type, the activation in float32; gradients
    have the types of what they belong to. Keys: ``weight`` (out, in) and ``bias`` (out,).

    Args:
        in_channels: size of the last dimension of the input, at least a matrix.
        out_channels: size of the last dimension of the output.
        activation: ``"SwooshL"`` or ``"SwooshR"``.
        dropout_p: rate of the dropout in training mode.
        dropout_shared_dim: dimension of the input along which all elements share one mask;
            None for independent elements.
        bias: whether there is a bias.
        initial_scale: of weight and bias, as in ``scaled_linear``.
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
    ) -> None:
        super().__init__()
        layer = scaled_linear(in_channels, out_channels, bias=bias, initial_scale=initial_scale)
        self.weight = layer.weight
        self.register_parameter("bias", layer.bias)
        self.swoosh = SWOOSHES[activation]
        self.dropout_p = dropout_p
        self.dropout_shared_dim = dropout_shared_dim

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_channels) to (..., out_channels)."""
        p = float(self.dropout_p) if self.training else 0.0
        mask = dropout_mask(x, p, self.dropout_shared_dim) if p > 0.0 else None
        return _FusedFunction.call(x, self.weight, self.bias, mask, self.swoosh)
