"""Swoosh and Swash: a shifted softplus with a slight downward tilt, and their gradients.

On a CPU with numba the loops of ``kernels.numba.swoosh`` are used, on a GPU the kernels of
``kernels.elementwise``, elsewhere torch operations.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from zipasr.kernels import elementwise
from zipasr.kernels.availability import compiled_module
from zipasr.kernels.elementwise import has_kernels
from zipasr.nn.gradients import TensorFunction
from zipasr.nn.numerics import at_least_float32, in_memory_order, is_traced, row_blocks

SLOPE: Final = 0.08
# From here on softplus(t) equals t to the last bit, in float64 too.
LINEAR_FROM: Final = 40.0

#: The loops run in one thread: with more than this many, torch operations are as fast.
MOST_THREADS: Final = 4

#: Below this number of elements it does not pay to leave torch.
FEWEST_ELEMENTS: Final = 2048


class Swoosh(NamedTuple):
    """The constants of ``ln(1 + exp(gain x - shift)) / gain - 0.08 x - offset``."""

    shift: float
    offset: float
    gain: float = 1.0


SwooshName: TypeAlias = Literal["SwooshL", "SwooshR", "SwashL", "SwashR"]
SWOOSHES: Final[dict[SwooshName, Swoosh]] = {
    "SwooshL": Swoosh(shift=4.0, offset=0.035),
    "SwooshR": Swoosh(shift=1.0, offset=0.313261687),
    # Those of the Zapformer are a quarter of the Swoosh of four times the input.
    "SwashL": Swoosh(shift=4.0, offset=0.035 / 4.0, gain=4.0),
    "SwashR": Swoosh(shift=1.0, offset=0.313261687 / 4.0, gain=4.0),
}


def swoosh_value(
    x: Tensor,
    swoosh: Swoosh,
    mask: Tensor | None = None,
    dtype: torch.dtype | None = None,
    scale: float = 1.0,
) -> Tensor:
    """Return the activation times a mask and a number, as a new tensor without history.

    Args:
        x: any shape.
        swoosh: which one.
        mask: factors that broadcast to ``x``.
        dtype: of the result; by default that of ``x``, but float32 at least. The arithmetic
            is in float32 at least in any case.
        scale: other than 1 on a CUDA device only, with a mask.
    """
    dtype = dtype or at_least_float32(x[:0]).dtype
    if has_kernels(x):
        return _on_cuda(x, swoosh, mask, scale).to(dtype)
    y = torch.empty_like(x, dtype=dtype)
    kernels, rows = _kernels_for(x, y), _rows(x, mask)
    if kernels is not None and rows is not None:
        kernels.value(_array(x), rows, _array(y), *_constants(swoosh))
        return y
    return _value(x, swoosh, _scaled(mask, scale)).to(dtype)


def swoosh_gradient(x: Tensor, swoosh: Swoosh, grad: Tensor) -> Tensor:
    """Return the derivative at ``x`` times ``grad``, of the same shape, in the type of ``x``."""
    if has_kernels(x):
        numbers = {"gain": swoosh.gain, "shift": swoosh.shift, "slope": SLOPE}
        (gradient,) = elementwise.SWOOSH_GRADIENT(x, grad, **numbers)
        return gradient.to(x.dtype)
    out = torch.empty_like(x)
    if (kernels := _kernels_for(x, grad, out)) is not None:
        kernels.gradient(_array(x), _array(grad), _array(out), *_constants(swoosh)[:2])
        return out
    return _slope(x, swoosh, None).mul_(grad).to(x.dtype)


def swoosh_value_and_gradient(
    x: Tensor,
    swoosh: Swoosh,
    mask: Tensor | None,
    grad: Tensor,
    out: Tensor | None = None,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Return ``swoosh(x) * mask`` in the type of ``grad``, and its derivative times ``grad``.

    Args:
        x: any shape.
        swoosh: which one.
        mask: factors that broadcast to ``x``.
        grad: of the shape of ``x``.
        out: takes the gradient for ``x``, in the type of ``x``; new if not given.
        scale: as for ``swoosh_value``.
    """
    if has_kernels(x):
        value, gradient = _both_on_cuda(x, swoosh, mask, grad, scale)
        gradient = gradient.to(x.dtype) if out is None else out.copy_(gradient)
        return value.to(grad.dtype), gradient
    out = torch.empty_like(x) if out is None else out
    y = torch.empty_like(x, dtype=grad.dtype)
    kernels, rows = _kernels_for(x, grad, y, out), _rows(x, mask)
    if kernels is not None and rows is not None:
        arrays = (_array(x), rows, _array(grad), _array(y), _array(out))
        kernels.value_and_gradient(*arrays, *_constants(swoosh))
        return y, out
    mask = _scaled(mask, scale)
    out.copy_(_slope(x, swoosh, mask).mul_(grad))
    return _value(x, swoosh, mask).to(grad.dtype), out


def _on_cuda(x: Tensor, swoosh: Swoosh, mask: Tensor | None, scale: float) -> Tensor:
    numbers = _numbers(swoosh)
    if mask is None:
        return elementwise.SWOOSH(x, **numbers)[0]
    return elementwise.KEPT_SWOOSH(x, mask.to(x.dtype), **numbers, scale=scale)[0]


def _both_on_cuda(
    x: Tensor, swoosh: Swoosh, mask: Tensor | None, grad: Tensor, scale: float
) -> tuple[Tensor, ...]:
    numbers = _numbers(swoosh)
    if mask is None:
        return elementwise.SWOOSH_BOTH(x, grad, **numbers)
    mask = mask.to(torch.promote_types(x.dtype, grad.dtype))
    return elementwise.KEPT_SWOOSH_BOTH(x, grad, mask, **numbers, scale=scale)


def _numbers(swoosh: Swoosh) -> dict[str, float]:
    return {"gain": swoosh.gain, "shift": swoosh.shift, "offset": swoosh.offset, "slope": SLOPE}


def _scaled(mask: Tensor | None, scale: float) -> Tensor | None:
    return mask if mask is None or scale == 1.0 else at_least_float32(mask) * scale


def _value(x: Tensor, swoosh: Swoosh, mask: Tensor | None) -> Tensor:
    # The gain is the ``beta`` of softplus: ln(1 + exp(beta y)) / beta.
    y = at_least_float32(x) - swoosh.shift / swoosh.gain
    if is_traced():
        y = torch.add(softplus(y, swoosh.gain, LINEAR_FROM), x, alpha=-SLOPE) - swoosh.offset
        return y if mask is None else y * mask
    # In place: for the large maps of the front end, touching new memory costs more than the maths.
    torch.ops.aten.softplus.out(y, swoosh.gain, LINEAR_FROM, out=y)
    y.add_(x, alpha=-SLOPE).sub_(swoosh.offset)
    return y if mask is None else y.mul_(mask)


def _slope(x: Tensor, swoosh: Swoosh, mask: Tensor | None) -> Tensor:
    slope = at_least_float32(x) - swoosh.shift / swoosh.gain
    if swoosh.gain != 1.0:
        slope.mul_(swoosh.gain)
    slope.sigmoid_().sub_(SLOPE)
    return slope if mask is None else slope.mul_(mask)


def compiled_loops() -> ModuleType | None:
    """Return the compiled loops, or ``None`` where they cannot be used."""
    return compiled_module("zipasr.kernels.numba.swoosh")


def _kernels_for(*tensors: Tensor) -> ModuleType | None:
    """Return the compiled loops if they can work on these tensors and are worth it."""
    usable = not is_traced() and all(
        t.device.type == "cpu"
        and t.dtype in (torch.float32, torch.bfloat16)
        and t.is_contiguous()
        and type(t) in (Tensor, torch.nn.Parameter)
        for t in tensors
    )
    if not usable or tensors[0].numel() < FEWEST_ELEMENTS:
        return None
    return compiled_loops() if torch.get_num_threads() <= MOST_THREADS else None


def _array(x: Tensor) -> Any:
    """Return the elements of a contiguous tensor, (numel,); of bfloat16 the bits as integers."""
    flat = x.detach().view(-1)
    if x.dtype == torch.bfloat16:
        return flat.view(torch.int16).numpy().view(np.uint16)
    return flat.numpy()


def _rows(x: Tensor, mask: Tensor | None) -> Any:
    """Return the mask as one row that repeats over the first dimension; ``None`` if it does not."""
    if mask is None:
        return np.empty(0, dtype=np.float32)
    readable = mask.dtype == torch.float32 and mask.is_contiguous() and mask.device.type == "cpu"
    repeats = readable and mask.shape == (1, *x.shape[1:])
    return mask.view(-1).numpy() if repeats else None


def _constants(swoosh: Swoosh) -> tuple[Any, Any, Any]:
    return np.float32(swoosh.gain), np.float32(swoosh.shift), np.float32(swoosh.offset)


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


class SwashR(nn.Module):
    """``ln(1 + exp(4 x - 1)) / 4 - 0.08 x - 0.0783``: a sharper SwooshR."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of ``x``, of any shape."""
        return _SwooshFunction.call(x, SWOOSHES["SwashR"])
