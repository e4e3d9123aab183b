"""SwooshL and SwooshR: a shifted softplus with a slight downward tilt."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from zipasr.nn.blocks import in_memory_order, is_traced, row_blocks
from zipasr.nn.function import TensorFunction
from zipasr.nn.swoosh import SWOOSHES, Swoosh, swoosh_gradient, swoosh_value


def _blockwise(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Apply an elementwise function block by block in the order of memory.

    Args:
        function: takes vectors of equal length and returns one of that length.
        tensors: of equal shape and layout, the first of them giving the type of the result.
    """
    x = tensors[0]
    if is_traced():
        return function(*tensors)
    result = torch.empty_like(x)
    flat = [in_memory_order(t) for t in (result, *tensors)]
    if any(t is None for t in flat):
        return function(*tensors)
    out, *parts = (t for t in flat if t is not None)
    for block in row_blocks(out.size(0), 4, out.device):
        out[block] = function(*(part[block] for part in parts))
    return result


class _SwooshFunction(TensorFunction):
    """The activation with its exact derivative; only the input is saved."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, swoosh: Swoosh) -> Tensor:
        ctx.save_for_backward(x)
        ctx.swoosh = swoosh
        return _blockwise(lambda part: swoosh_value(part, swoosh, dtype=x.dtype), x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        if grad.stride() != x.stride():
            grad = torch.empty_like(x, dtype=grad.dtype).copy_(grad)
        return _blockwise(lambda part, g: swoosh_gradient(part, ctx.swoosh, g), x, grad), None


def swoosh_l(x: Tensor) -> Tensor:
    """Return ``ln(1 + exp(x - 4)) - 0.08 x - 0.035``, of any shape, in the type of ``x``."""
    return _SwooshFunction.call(x, SWOOSHES["SwooshL"])


def swoosh_r(x: Tensor) -> Tensor:
    """Return ``ln(1 + exp(x - 1)) - 0.08 x - 0.313261687``, of any shape, in the type of ``x``."""
    return _SwooshFunction.call(x, SWOOSHES["SwooshR"])


class SwooshL(nn.Module):
    """``swoosh_l`` as a layer; for values that are mostly negative, as inside feed-forwards."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of ``x``, of any shape."""
        return swoosh_l(x)


class SwooshR(nn.Module):
    """``swoosh_r`` as a layer; nearly zero at zero, for convolutions."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of ``x``, of any shape."""
        return swoosh_r(x)
