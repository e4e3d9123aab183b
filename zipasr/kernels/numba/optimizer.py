"""The two sweeps of a step compiled for the CPU: each reads and writes every element once.

Memory bounds the speed of an optimizer, so what counts is how often an element is fetched. The
tensors are given by their addresses: to hand over hundreds of arrays would take longer than to
work on them. All are contiguous float32; an address of 0 stands for a missing gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numba.np.numpy_support import carray

from zipasr.kernels.numba.math import F32, compiled, inlined

# Here nothing is reordered: a small factor squared may be no number of float32, its product with
# a large gradient is.
elementwise = njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
VALUE, GRAD, SECOND, DELTA = 0, 1, 2, 3  # rows of the table of addresses


def _typed_pointer(_typing_context: Any, address: Any) -> Any:  # noqa: ARG001
    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.PointerType(ir.FloatType()))

    return types.CPointer(types.float32)(types.int64), generate  # type: ignore[no-untyped-call]


_pointer: Any = intrinsic(_typed_pointer)


@inlined
def _floats(address: Any, start: Any, size: Any) -> Any:
    return carray(_pointer(address + 4 * start), (size,))


@compiled
def _sums(value: Any, grad: Any, out: Any) -> None:
    squares = products = sizes = F32(0.0)
    for i in range(value.size):
        squares += grad[i] * grad[i]
        products += value[i] * grad[i]
        sizes += value[i] * value[i]
    out[0], out[1], out[2] = squares, products, sizes


@compiled
def _size(value: Any) -> Any:
    size = F32(0.0)
    for i in range(value.size):
        size += value[i] * value[i]
    return size


@compiled
def measure(addresses: Any, blocks: Any, with_sizes: Any, sums: Any) -> None:
    """Write the sums of g*g, p*g and p*p of each block.

    Args:
        addresses: (4, P) int64, rows as named above.
        blocks: (C, 3) int64, index of the parameter, first element and number of elements.
        with_sizes: whether p*p is wanted where there is no gradient.
        sums: (C, 3) float32, takes the sums.
    """
    for c in range(blocks.shape[0]):
        i, start, size = blocks[c, 0], blocks[c, 1], blocks[c, 2]
        value = _floats(addresses[VALUE, i], start, size)
        if addresses[GRAD, i] != 0:
            _sums(value, _floats(addresses[GRAD, i], start, size), sums[c])
        else:
            sums[c, 0] = sums[c, 1] = F32(0.0)
            sums[c, 2] = _size(value) if with_sizes else F32(0.0)


@elementwise
def _move(
    value: Any, grad: Any, second: Any, delta: Any, constants: Any, rate: Any, growth: Any
) -> None:
    beta1, beta2, rest2, factor, eps = constants
    for i in range(value.size):
        g = factor * grad[i]
        v = beta2 * second[i] + rest2 * (g * g)
        second[i] = v
        m = beta1 * delta[i] + rate * g / (np.sqrt(v) + eps) + growth * value[i]
        delta[i] = m
        value[i] += m


@elementwise
def _drift(value: Any, second: Any, delta: Any, constants: Any, growth: Any) -> None:
    """Do as ``_move`` does with a gradient of zeros."""
    beta1, beta2 = constants[0], constants[1]
    for i in range(value.size):
        second[i] = beta2 * second[i]
        m = beta1 * delta[i] + growth * value[i]
        delta[i] = m
        value[i] += m


@elementwise
def move(
    addresses: Any, blocks: Any, asleep: Any, constants: Any, rates: Any, growths: Any
) -> None:
    """Update second moments, smoothed steps and values.

    Args:
        addresses: (4, P) int64.
        blocks: (C, 3) int64, as for ``measure``.
        asleep: (P,) bool, parameters that stay as they are.
        constants: float32: beta1, beta2, 1 - beta2, factor of the gradients, eps.
        rates: (P,) float32, multiply gradient / (root of second moment + eps).
        growths: (P,) float32, multiply the values.
    """
    for c in range(blocks.shape[0]):
        i, start, size = blocks[c, 0], blocks[c, 1], blocks[c, 2]
        if asleep[i]:
            continue
        value = _floats(addresses[VALUE, i], start, size)
        second = _floats(addresses[SECOND, i], start, size)
        delta = _floats(addresses[DELTA, i], start, size)
        if addresses[GRAD, i] == 0:
            _drift(value, second, delta, constants, growths[i])
        else:
            grad = _floats(addresses[GRAD, i], start, size)
            _move(value, grad, second, delta, constants, rates[i], growths[i])
