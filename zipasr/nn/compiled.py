"""Swoosh compiled for the CPU: value, slope and dropout of an element in one visit to memory.

Numba turns the loops into vector instructions; where it is not installed, the functions in
``activations`` do the same with several torch operations. Tensors are float32, or bfloat16 which
is widened and rounded on the way; all arithmetic is float32. ``exp`` and ``log1p`` are series
that are exact to about one unit in the last place of a float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

F32 = np.float32
I32 = np.int32
U32 = np.uint32
# Sums may be reordered and multiply-adds fused; infinities and NaN stay what they are.
FAST = {"contract", "nsz", "reassoc"}
_compiled = njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
LOG2_E = F32(1.4426950408889634)
SLOPE = F32(0.08)


def _typed_float_of_bits(_typing_context: Any, bits: Any) -> Any:  # noqa: ARG001
    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), generate


def _typed_bits_of_float(_typing_context: Any, value: Any) -> Any:  # noqa: ARG001
    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.uint32(types.float32), generate


# The same 32 bits, read as the other type.
_float_of_bits: Any = intrinsic(_typed_float_of_bits)
_bits_of_float: Any = intrinsic(_typed_bits_of_float)


def _load(array: Any, i: Any) -> Any:
    """Read element ``i`` as a float32; 16-bit integers are the bits of bfloat16."""
    raise NotImplementedError


def _store(array: Any, i: Any, value: Any) -> None:
    """Write element ``i``, rounded to even if the array holds bfloat16."""
    raise NotImplementedError


@overload(_load)
def _load_overload(array: Any, i: Any) -> Any:  # noqa: ARG001
    if array.dtype == types.uint16:

        def load_half(array: Any, i: Any) -> Any:
            return _float_of_bits(I32(array[i]) << I32(16))

        return load_half

    def load(array: Any, i: Any) -> Any:
        return array[i]

    return load


@overload(_store)
def _store_overload(array: Any, i: Any, value: Any) -> Any:  # noqa: ARG001
    if array.dtype == types.uint16:

        def store_half(array: Any, i: Any, value: Any) -> None:
            bits = _bits_of_float(value)
            rounded = (bits + U32(0x7FFF) + ((bits >> U32(16)) & U32(1))) >> U32(16)
            array[i] = np.uint16(rounded)

        return store_half

    def store(array: Any, i: Any, value: Any) -> None:
        array[i] = value

    return store


@njit(inline="always")
def _exp(x: Any) -> Any:
    """Return e^x for x <= 0: 2^k with a whole k, times a series for what is left."""
    v = x * LOG2_E
    v = F32(-126.0) if v < F32(-126.0) else v  # a NaN stays one
    k = np.floor(v + F32(0.5))
    f = (v - k) * F32(0.6931471805599453)
    p = F32(1.0 / 5040.0)
    p = p * f + F32(1.0 / 720.0)
    p = p * f + F32(1.0 / 120.0)
    p = p * f + F32(1.0 / 24.0)
    p = p * f + F32(1.0 / 6.0)
    p = p * f + F32(0.5)
    p = p * f + F32(1.0)
    p = p * f + F32(1.0)
    return p * _float_of_bits((I32(k) + I32(127)) << I32(23))


@njit(inline="always")
def _log1p(z: Any) -> Any:
    """Return ln(1 + z) for 0 <= z <= 1, as 2 artanh(z / (2 + z))."""
    w = z / (F32(2.0) + z)
    u = w * w
    q = F32(2.0 / 15.0)
    q = q * u + F32(2.0 / 13.0)
    q = q * u + F32(2.0 / 11.0)
    q = q * u + F32(2.0 / 9.0)
    q = q * u + F32(2.0 / 7.0)
    q = q * u + F32(2.0 / 5.0)
    q = q * u + F32(2.0 / 3.0)
    q = q * u + F32(2.0)
    return w * q


@njit(inline="always")
def _value(x: Any, t: Any, z: Any, offset: Any) -> Any:
    # softplus(t) = max(t, 0) + ln(1 + e^-|t|); a NaN goes through x.
    return (t if t > F32(0.0) else F32(0.0)) + _log1p(z) - SLOPE * x - offset


@njit(inline="always")
def _slope(t: Any, z: Any) -> Any:
    r = F32(1.0) / (F32(1.0) + z)
    return (r if t > F32(0.0) else z * r) - SLOPE


@_compiled
def _masked_value(x: Any, mask: Any, y: Any, shift: Any, offset: Any) -> None:
    for i in range(mask.size):
        t = _load(x, i) - shift
        _store(y, i, _value(_load(x, i), t, _exp(-abs(t)), offset) * mask[i])


@_compiled
def _masked_both(
    x: Any, mask: Any, grad: Any, y: Any, x_grad: Any, shift: Any, offset: Any
) -> None:
    for i in range(mask.size):
        t = _load(x, i) - shift
        z = _exp(-abs(t))
        _store(y, i, _value(_load(x, i), t, z, offset) * mask[i])
        _store(x_grad, i, _slope(t, z) * _load(grad, i) * mask[i])


@_compiled
def value(x: Any, mask: Any, y: Any, shift: Any, offset: Any) -> None:
    """Write ``swoosh(x) * mask``; ``mask`` (m,) repeats over ``x`` (rows * m,), or is empty."""
    if not mask.size:
        for i in range(x.size):
            t = _load(x, i) - shift
            _store(y, i, _value(_load(x, i), t, _exp(-abs(t)), offset))
        return
    for start in range(0, x.size, mask.size):
        rows = slice(start, start + mask.size)
        _masked_value(x[rows], mask, y[rows], shift, offset)


@_compiled
def value_and_gradient(
    x: Any, mask: Any, grad: Any, y: Any, x_grad: Any, shift: Any, offset: Any
) -> None:
    """Write ``swoosh(x) * mask`` and its gradient times ``grad``; sizes as for ``value``."""
    if not mask.size:
        for i in range(x.size):
            t = _load(x, i) - shift
            z = _exp(-abs(t))
            _store(y, i, _value(_load(x, i), t, z, offset))
            _store(x_grad, i, _slope(t, z) * _load(grad, i))
        return
    for start in range(0, x.size, mask.size):
        rows = slice(start, start + mask.size)
        _masked_both(x[rows], mask, grad[rows], y[rows], x_grad[rows], shift, offset)


@_compiled
def gradient(x: Any, grad: Any, x_grad: Any, shift: Any) -> None:
    """Write the gradient of ``swoosh(x)`` times ``grad``; all (n,)."""
    for i in range(x.size):
        t = _load(x, i) - shift
        _store(x_grad, i, _slope(t, _exp(-abs(t))) * _load(grad, i))
