"""Shared by all numba loops: compiler settings, bfloat16 load and store, exp and log.

Arrays are float32, or uint16 that holds the bits of bfloat16, which is widened and rounded on
the way; all arithmetic is float32. The series are exact to about one unit in the last place of
a float32. Import this only where numba is installed.
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
# A cache on disk does not see changes in the functions of another module: after a change here,
# remove the __pycache__ folders of the rooms that have loops.
compiled = njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
# Small functions: ``inlined`` ones follow the settings of the loop that they become a part of;
# in the others the order of sums matters.
inlined = njit(inline="always")
small = njit(fastmath={"contract", "nsz"}, error_model="numpy")
LOG2_E = F32(1.4426950408889634)
LN_2 = F32(0.6931471805599453)
LN_2_HIGH = F32(0.693359375)  # so few bits that its product with a whole number is exact
LN_2_LOW = F32(-2.12194440e-4)


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


def load(array: Any, i: Any) -> Any:
    """Read element ``i`` as a float32; 16-bit integers are the bits of bfloat16."""
    raise NotImplementedError


def store(array: Any, i: Any, value: Any) -> None:
    """Write element ``i``, rounded to even if the array holds bfloat16."""
    raise NotImplementedError


@overload(load)
def _load_overload(array: Any, i: Any) -> Any:  # noqa: ARG001
    if array.dtype == types.uint16:

        def load_half(array: Any, i: Any) -> Any:
            return _float_of_bits(I32(array[i]) << I32(16))

        return load_half

    def load_single(array: Any, i: Any) -> Any:
        return array[i]

    return load_single


@overload(store)
def _store_overload(array: Any, i: Any, value: Any) -> Any:  # noqa: ARG001
    if array.dtype == types.uint16:

        def store_half(array: Any, i: Any, value: Any) -> None:
            bits = _bits_of_float(value)
            rounded = (bits + U32(0x7FFF) + ((bits >> U32(16)) & U32(1))) >> U32(16)
            array[i] = np.uint16(rounded)

        return store_half

    def store_single(array: Any, i: Any, value: Any) -> None:
        array[i] = value

    return store_single


@small
def exp(x: Any) -> Any:
    """Return e^x for x <= 0: 2^k with a whole k, times a series for what is left.

    Below -87.3 it stays at the smallest normal number.
    """
    v = F32(-87.33) if x < F32(-87.33) else x  # a NaN stays one
    k = np.floor(v * LOG2_E + F32(0.5))
    f = (v - k * LN_2_HIGH) - k * LN_2_LOW
    p = F32(1.0 / 5040.0)
    p = p * f + F32(1.0 / 720.0)
    p = p * f + F32(1.0 / 120.0)
    p = p * f + F32(1.0 / 24.0)
    p = p * f + F32(1.0 / 6.0)
    p = p * f + F32(0.5)
    p = p * f + F32(1.0)
    p = p * f + F32(1.0)
    return p * _float_of_bits((I32(k) + I32(127)) << I32(23))


@inlined
def exp_or_zero(x: Any) -> Any:
    """Return e^x for x <= 0, and exactly 0 where it is no normal number."""
    return F32(0.0) if x < F32(-87.3) else exp(x)


@inlined
def log1p(z: Any) -> Any:
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


@inlined
def log(x: Any) -> Any:
    """Return ln(x) of a positive normal number: its exponent, and 2 artanh for its mantissa."""
    bits = I32(_bits_of_float(x))
    # Mantissa in sqrt(1/2) .. sqrt(2), so that the series is short and 1 gives exactly 0.
    exponent = (bits - I32(0x3F3504F3)) >> I32(23)
    m = _float_of_bits(bits - (exponent << I32(23)))
    w = (m - F32(1.0)) / (m + F32(1.0))
    u = w * w
    q = F32(2.0 / 9.0)
    q = q * u + F32(2.0 / 7.0)
    q = q * u + F32(2.0 / 5.0)
    q = q * u + F32(2.0 / 3.0)
    q = q * u + F32(2.0)
    return w * q + F32(exponent) * LN_2


@inlined
def highest(x: Any) -> Any:
    """Return the largest element of ``x``; a NaN counts as larger than any number.

    Floats are compared as integers of the same order, which, unlike a maximum of floats, may be
    done in any order and hence on a whole vector at a time.
    """
    best = I32(-0x80000000)
    for i in range(x.size):
        bits = I32(_bits_of_float(load(x, i)))
        key = bits ^ ((bits >> I32(31)) & I32(0x7FFFFFFF))
        best = max(best, key)
    return _float_of_bits(best ^ ((best >> I32(31)) & I32(0x7FFFFFFF)))
