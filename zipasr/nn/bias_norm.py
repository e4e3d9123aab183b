"""BiasNorm: divide by the RMS of ``x - bias``, keeping the length of ``x`` as information."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from zipasr.nn import triton_bias_norm
from zipasr.nn.gradients import TensorFunction, limit_param_value
from zipasr.nn.numerics import at_least_float32


class _BiasNormFunction(TensorFunction):
    """``x * exp(log_scale) / rms(x - bias)``, saving ``x`` and one factor per vector.

    With ``s`` that factor, ``d = x - bias`` and ``k = -sum_c(g x) s / sum_c(d^2)``, the gradients
    are ``g s + k d`` for x, minus the sum of ``k d`` for the bias, and the sum of ``g x s``
    for log_scale.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, log_scale: Tensor, dim: int) -> Tensor:
        """Normalise; ``bias`` has the rank of ``x`` and size 1 except at ``dim``."""
        if triton_bias_norm.suits(x, dim):
            y, length, factor = triton_bias_norm.normalized(x, bias, log_scale)
        else:
            y, length, factor = normalized(x, bias, log_scale, dim)
        ctx.save_for_backward(x, bias, length, factor)
        ctx.dim = dim
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, bias, length, factor = ctx.saved_tensors
        if triton_bias_norm.suits(x, ctx.dim):
            return *triton_bias_norm.gradients(grad, x, bias, length, factor), None
        return *gradients(grad, x, bias, length, factor, ctx.dim), None


def normalized(
    x: Tensor, bias: Tensor, log_scale: Tensor, dim: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the normalised ``x``, the lengths of ``x - bias``, and the factors on ``x``."""
    wide = at_least_float32(x)
    length = torch.linalg.vector_norm(wide - bias, dim=dim, keepdim=True)
    factor = log_scale.exp() * math.sqrt(x.shape[dim]) / length
    return wide * factor, length, factor


def gradients(
    grad: Tensor, x: Tensor, bias: Tensor, length: Tensor, factor: Tensor, dim: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of ``x``, bias and log_scale from that of the normalised ``x``."""
    wide = at_least_float32(x)
    inner = (grad * wide).sum(dim, keepdim=True).mul_(factor)
    x_grad = (wide - bias).mul_(-inner / length.square())
    bias_grad = -x_grad.sum_to_size(bias.shape)
    return x_grad.addcmul_(grad, factor).to(x.dtype), bias_grad, inner.sum()


class BiasNorm(nn.Module):
    """Normalisation of each vector by one number, with a learned bias inside that number only.

    ``y = x * exp(log_scale) / sqrt(mean((x - bias)^2))``: the numerator is ``x``, there is no
    epsilon, and the initial gain is e. The result has at least the precision of the
    parameters, so under autocast it leads the residual stream back to float32.
    Keys: ``bias`` (C,) and ``log_scale`` ().

    Args:
        num_channels: C.
        channel_dim: dimension of the input that has size C.
        log_scale: initial value.
        log_scale_min: below it, training pushes ``log_scale`` upwards.
        log_scale_max: above it, training pushes ``log_scale`` downwards.

    Source: Yao et al., "Zipformer", ICLR 2024.
    """

    def __init__(
        self,
        num_channels: int,
        channel_dim: int = -1,
        log_scale: float = 1.0,
        log_scale_min: float = -1.5,
        log_scale_max: float = 1.5,
    ) -> None:
        super().__init__()
        self.num_channels = num_channels
        self.channel_dim = channel_dim
        self.log_scale_min = log_scale_min
        self.log_scale_max = log_scale_max
        self.bias = nn.Parameter(torch.empty(num_channels).normal_(mean=0.0, std=1e-4))
        self.log_scale = nn.Parameter(torch.tensor(float(log_scale)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised ``x``, of the same shape."""
        shape = [1] * x.ndim
        shape[self.channel_dim] = self.num_channels
        log_scale = limit_param_value(
            self.log_scale, self.log_scale_min, self.log_scale_max, training=self.training
        )
        return _BiasNormFunction.call(x, self.bias.view(shape), log_scale, self.channel_dim)
