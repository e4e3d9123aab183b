"""DoubleSwish, whose derivative is kept in eight bits while training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from zipasr.nn.gradients import TensorFunction
from zipasr.nn.precision import at_least_float32

# The derivative lies between these bounds; 255 steps divide them.
LOWEST, HIGHEST = -0.043637, 1.2
STEP = (HIGHEST - LOWEST) / 255.0


def double_swish(x: Tensor) -> Tensor:
    """Return ``x * sigmoid(x - 1)``, of any shape, in the type of ``x``."""
    wide = at_least_float32(x)
    return (wide * torch.sigmoid(wide - 1.0)).to(x.dtype)


def double_swish_slope(x: Tensor) -> Tensor:
    """Return the derivative of ``double_swish``, in float32 at least."""
    wide = at_least_float32(x)
    gate = torch.sigmoid(wide - 1.0)
    return wide * gate * (1.0 - gate) + gate


class _EightBitDoubleSwish(TensorFunction):
    """The activation; its derivative is rounded at random, so that its mean is exact."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        slope = double_swish_slope(x)
        steps = (slope - LOWEST).div_(STEP).add_(torch.rand_like(slope))
        ctx.save_for_backward(steps.to(torch.uint8))
        return double_swish(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (steps,) = ctx.saved_tensors
        slope: Tensor = (
            steps.to(torch.promote_types(grad.dtype, torch.float32)).mul_(STEP).add_(LOWEST)
        )
        return (slope * grad).to(grad.dtype)


class DoubleSwish(nn.Module):
    """``double_swish`` as a layer; in training mode it remembers one byte per element.

    The byte costs an error of at most one step, 0.0049, in the derivative, without a bias.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of ``x``, of any shape."""
        return _EightBitDoubleSwish.call(x) if self.training else double_swish(x)
