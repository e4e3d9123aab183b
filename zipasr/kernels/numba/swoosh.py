"""Swoosh compiled for the CPU: value, slope and dropout of an element in one visit to memory.

Numba turns the loops into vector instructions; where it is not installed, the functions in
``nn.activations`` does the same with several torch operations.
"""

from __future__ import annotations

from typing import Any

from zipasr.kernels.numba.math import F32, compiled, exp, inlined, load, log1p, store

SLOPE = F32(0.08)


@inlined
def _value(x: Any, t: Any, z: Any, share: Any, offset: Any) -> Any:
    # softplus(t) = max(t, 0) + ln(1 + e^-|t|); a NaN goes through x.
    return share * ((t if t > F32(0.0) else F32(0.0)) + log1p(z)) - SLOPE * x - offset


@inlined
def _slope(t: Any, z: Any) -> Any:
    r = F32(1.0) / (F32(1.0) + z)
    return (r if t > F32(0.0) else z * r) - SLOPE


@compiled
def _masked_value(x: Any, mask: Any, y: Any, gain: Any, shift: Any, offset: Any) -> None:
    share = F32(1.0) / gain
    for i in range(mask.size):
        t = gain * load(x, i) - shift
        store(y, i, _value(load(x, i), t, exp(-abs(t)), share, offset) * mask[i])


@compiled
def _masked_both(
    x: Any, mask: Any, grad: Any, y: Any, x_grad: Any, gain: Any, shift: Any, offset: Any
) -> None:
    share = F32(1.0) / gain
    for i in range(mask.size):
        t = gain * load(x, i) - shift
        z = exp(-abs(t))
        store(y, i, _value(load(x, i), t, z, share, offset) * mask[i])
        store(x_grad, i, _slope(t, z) * load(grad, i) * mask[i])


@compiled
def value(x: Any, mask: Any, y: Any, gain: Any, shift: Any, offset: Any) -> None:
    """Write ``swoosh(x) * mask``; ``mask`` (m,) repeats over ``x`` (rows * m,), or is empty."""
    share = F32(1.0) / gain
    if not mask.size:
        for i in range(x.size):
            t = gain * load(x, i) - shift
            store(y, i, _value(load(x, i), t, exp(-abs(t)), share, offset))
        return
    for start in range(0, x.size, mask.size):
        rows = slice(start, start + mask.size)
        _masked_value(x[rows], mask, y[rows], gain, shift, offset)


@compiled
def value_and_gradient(
    x: Any, mask: Any, grad: Any, y: Any, x_grad: Any, gain: Any, shift: Any, offset: Any
) -> None:
    """Write ``swoosh(x) * mask`` and its gradient times ``grad``; sizes as for ``value``."""
    share = F32(1.0) / gain
    if not mask.size:
        for i in range(x.size):
            t = gain * load(x, i) - shift
            z = exp(-abs(t))
            store(y, i, _value(load(x, i), t, z, share, offset))
            store(x_grad, i, _slope(t, z) * load(grad, i))
        return
    for start in range(0, x.size, mask.size):
        rows = slice(start, start + mask.size)
        _masked_both(x[rows], mask, grad[rows], y[rows], x_grad[rows], gain, shift, offset)


@compiled
def gradient(x: Any, grad: Any, x_grad: Any, gain: Any, shift: Any) -> None:
    """Write the gradient of ``swoosh(x)`` times ``grad``; all (n,)."""
    for i in range(x.size):
        t = gain * load(x, i) - shift
        store(x_grad, i, _slope(t, exp(-abs(t))) * load(grad, i))
