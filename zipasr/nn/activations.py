"""SwooshL and SwooshR: a shifted softplus with a slight downward tilt."""

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from zipasr.nn.blocks import in_memory_order, is_traced, row_blocks
from zipasr.nn.function import TensorFunction
from zipasr.nn.precision import at_least_float32

SLOPE: Final = 0.08
# From here on softplus(t) equals t to the last bit, in float64 too.
LINEAR_FROM: Final = 40.0


class Swoosh(NamedTuple):
    """The constants of ``ln(1 + exp(x - shift)) - 0.08 x - offset``."""

    shift: float
    offset: float


SwooshName: TypeAlias = Literal["SwooshL", "SwooshR"]
SWOOSHES: Final[dict[SwooshName, Swoosh]] = {
    "SwooshL": Swoosh(shift=4.0, offset=0.035),
    "SwooshR": Swoosh(shift=1.0, offset=0.313261687),
}


def swoosh_value(x: Tensor, swoosh: Swoosh) -> Tensor:
    """Return the activation of ``x``, in float32 at least, as a new tensor without history."""
    y = at_least_float32(x) - swoosh.shift
    # In place: for the large maps of the front end, touching new memory costs more than the maths.
    torch.ops.aten.softplus.out(y, 1, LINEAR_FROM, out=y)
    return y.add_(x, alpha=-SLOPE).sub_(swoosh.offset)


def swoosh_slope(x: Tensor, swoosh: Swoosh) -> Tensor:
    """Return the derivative at ``x``, in float32 at least, as a new tensor without history."""
    return (at_least_float32(x) - swoosh.shift).sigmoid_().sub_(SLOPE)


def _blockwise(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Apply an elementwise function block by block in the order of memory.

    Args:
        function: takes equally shaped tensors and returns one of the same shape.
        tensors: of equal shape, the first of them giving type and layout of the result.
    """
    if is_traced():
        return function(*tensors).to(tensors[0].dtype)
    result = torch.empty_like(tensors[0])
    flat = [in_memory_order(t) for t in (result, *tensors)]
    if result.is_meta or any(t is None or t.stride() != result.stride() for t in tensors):
        return function(*tensors).to(result.dtype)
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
        return _blockwise(lambda part: swoosh_value(part, swoosh), x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        if grad.stride() != x.stride():
            grad = torch.empty_like(x, dtype=grad.dtype).copy_(grad)
        return _blockwise(lambda part, g: swoosh_slope(part, ctx.swoosh).mul_(g), x, grad), None


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
