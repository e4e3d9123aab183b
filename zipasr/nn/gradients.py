"""Identities in the forward pass that penalise, limit or scale gradients in the backward pass."""

import random
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from zipasr.kernels import elementwise
from zipasr.kernels.elementwise import has_kernels
from zipasr.nn.schedule import FloatLike


class _NoContext:
    """Autograd context for calls without gradients: saves nothing."""

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep nothing: there will be no backward pass."""


class TensorFunction(torch.autograd.Function):
    """An autograd function with one output: subclasses define ``forward`` and ``backward``."""

    @classmethod
    def call(cls, *args: object) -> Tensor:
        """Run the forward pass and record the backward pass; arguments as for ``forward``."""
        if not torch.is_grad_enabled():
            # Plain operations, so that tracing and export see what is inside.
            return cast(Tensor, cls.forward(_NoContext(), *args))
        return cast(Tensor, cls.apply(*args))  # type: ignore[no-untyped-call]


class _PenalizeAbsValuesGt(TensorFunction):
    """Identity with the gradient of ``penalty * relu(|x| - limit)`` added."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, limit: float, penalty: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.limit, ctx.penalty = limit, penalty
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return grad.add(abs_penalty_gradient(x, ctx.limit, ctx.penalty)), None, None


def abs_penalty_gradient(x: Tensor, limit: float, penalty: float) -> Tensor:
    """Return the gradient of ``penalty * relu(|x| - limit)``, of the shape of ``x``."""
    return F.softshrink(x, limit).sign_().mul_(penalty)


def penalize_abs_values_gt(x: Tensor, limit: float, penalty: float) -> Tensor:
    """Return ``x`` and penalize what lies beyond plus or minus ``limit``.

    The gradient becomes ``g + penalty * sign(x) * [|x| > limit]``, whatever the outer scale.
    """
    return _PenalizeAbsValuesGt.call(x, limit, penalty)


class _LimitParamValue(TensorFunction):
    """Identity whose gradient never lets a step lead further out of the range."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, lowest: float, highest: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.lowest, ctx.highest = lowest, highest
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        if has_kernels(x):
            (held,) = elementwise.HELD(x, grad, lowest=ctx.lowest, highest=ctx.highest)
            return held, None, None
        # A step goes against the gradient: below the range it has to be negative.
        size = grad.abs()
        grad = torch.where(x < ctx.lowest, -size, grad)
        return torch.where(x > ctx.highest, size, grad), None, None


def limit_param_value(
    x: Tensor,
    min: FloatLike,
    max: FloatLike,
    prob: float = 0.6,
    training: bool = True,
) -> Tensor:
    """Return ``x``; outside [min, max] flip gradients that would drive it further out.

    Args:
        x: a parameter, any shape.
        min: below it, positive gradients change their sign.
        max: above it, negative gradients change their sign.
        prob: probability that this call acts.
        training: False gives ``x`` itself, without drawing a coin.
    """
    if not training or random.random() >= prob:
        return x
    return _LimitParamValue.call(x, float(min), float(max))


class _ScaleGradFunction(TensorFunction):
    """Identity with the gradient multiplied by a constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: float) -> Tensor:
        ctx.alpha = alpha
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.alpha, None


class ScaleGrad(nn.Module):
    """The identity; in training mode the gradient is multiplied by ``alpha``."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x``, of any shape."""
        if not self.training:
            return x
        return _ScaleGradFunction.call(x, self.alpha)
