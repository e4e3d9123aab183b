"""Logits of the transducer losses as loops that numba compiles: each is read once each way.

Rows hold the vocabulary. They are float32, or bfloat16 given as its bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zipasr.kernels.numba.math import (
    F32,
    compiled,
    exp,
    exp_or_zero,
    highest,
    inlined,
    load,
    log,
    store,
)

# --- from logits to arcs -------------------------------------------------------------------------


@compiled
def _exp_sum(row: Any, top: Any) -> Any:
    total = F32(0.0)
    for v in range(row.size):
        total += exp_or_zero(load(row, v) - top)
    return total


@compiled
def _softmax_grad(row: Any, lse: Any, weight: Any, out: Any) -> None:
    for v in range(row.size):
        store(out, v, weight * exp_or_zero(load(row, v) - lse))


@compiled
def softmax_arcs(logits: Any, targets: Any, blank: Any, lse: Any, px: Any, py: Any) -> None:
    """Write log-normaliser and log-probabilities of target and blank for each row (n, V).

    Rows whose target is negative are not read: no path comes there.
    """
    for n in range(targets.size):
        if targets[n] < 0:
            lse[n], px[n], py[n] = F32(0.0), F32(-np.inf), F32(-np.inf)
            continue
        row = logits[n]
        top = highest(row)
        lse[n] = top + log(_exp_sum(row, top))
        px[n] = load(row, targets[n]) - lse[n]
        py[n] = load(row, blank) - lse[n]


@compiled
def softmax_arcs_grad(
    logits: Any, lse: Any, targets: Any, blank: Any, px_grad: Any, py_grad: Any, out: Any
) -> None:
    """Write the gradient of the logits; ``out`` may be the logits themselves."""
    for n in range(targets.size):
        row = out[n]
        if targets[n] < 0 or (px_grad[n] == 0 and py_grad[n] == 0):
            row[:] = 0
            continue
        # Read before they are overwritten, and rounded only once.
        weight = -(px_grad[n] + py_grad[n])
        symbol = weight * exp_or_zero(load(logits[n], targets[n]) - lse[n]) + px_grad[n]
        empty = weight * exp_or_zero(load(logits[n], blank) - lse[n]) + py_grad[n]
        _softmax_grad(logits[n], lse[n], weight, row)
        if targets[n] == blank:
            empty += px_grad[n]
        else:
            store(row, targets[n], symbol)
        store(row, blank, empty)


# --- the simple joiner ---------------------------------------------------------------------------


@compiled
def exp_rows(x: Any, x_exp: Any, top: Any, total: Any) -> None:
    """Write exp(x - max), the maximum and the sum of exponentials of each row (n, V)."""
    for n in range(top.size):
        top[n] = highest(x[n])
        total[n] = _exp_row(x[n], top[n], x_exp[n])


@compiled
def _exp_row(row: Any, top: Any, out: Any) -> Any:
    total = F32(0.0)
    for v in range(row.size):
        out[v] = exp_or_zero(row[v] - top)
        total += out[v]
    return total


@compiled
def _over_joint(gx: Any, gy: Any, joint: Any, weight: Any, tiny: Any, out: Any) -> None:
    for s in range(gx.size):
        out[s] = weight * (gx[s] + gy[s]) / (joint[s] + tiny)


@compiled
def joint_grad(
    px_grad: Any, py_grad: Any, joint: Any, num_frames: Any, weight: Any, out: Any
) -> None:
    """Write ``weight (px_grad + py_grad) / joint`` (T, S + 1) of one utterance."""
    num_symbols = px_grad.shape[1]
    tiny = F32(np.finfo(np.float32).tiny)
    for t in range(num_frames):
        _over_joint(px_grad[t], py_grad[t], joint[t], weight, tiny, out[t])
        last = weight * py_grad[t, num_symbols]
        out[t, num_symbols] = last / (joint[t, num_symbols] + tiny)
    out[num_frames:] = F32(0.0)


@compiled
def _scale_row(row: Any, x_exp: Any, more: Any) -> None:
    for v in range(row.size):
        row[v] = -x_exp[v] * (row[v] + more)


@compiled
def finish_am_grad(
    grad: Any, am_exp: Any, px_grad: Any, py_grad: Any, labels: Any, blank: Any, weight: Any
) -> None:
    """Turn products (T, V) into the gradient of one utterance's encoder logits, in place."""
    for t in range(grad.shape[0]):
        _scale_row(grad[t], am_exp[t], F32(0.0))
        for s in range(labels.size):
            grad[t, labels[s]] += weight * px_grad[t, s]
        total = F32(0.0)
        for s in range(labels.size + 1):
            total += py_grad[t, s]
        grad[t, blank] += weight * total


@compiled
def finish_lm_grad(
    grad: Any,
    lm_exp: Any,
    lm_total: Any,
    symbol_mass: Any,
    blank_mass: Any,
    labels: Any,
    blank: Any,
    lm_weight: Any,
    weight: Any,
) -> None:
    """Turn products (S + 1, V) into the gradient of one utterance's predictor logits, in place.

    ``symbol_mass`` (S,) and ``blank_mass`` (S + 1,) are occupations summed over the frames.
    """
    for s in range(grad.shape[0]):
        mass = blank_mass[s] + (symbol_mass[s] if s < symbol_mass.size else F32(0.0))
        _scale_row(grad[s], lm_exp[s], lm_weight * mass / lm_total[s])
        if s < labels.size:
            grad[s, labels[s]] += weight * symbol_mass[s]
        grad[s, blank] += weight * blank_mass[s]


# --- the joiner's input --------------------------------------------------------------------------


@inlined
def _tanh(x: Any) -> Any:
    z = exp(F32(-2.0) * abs(x))
    far = (F32(1.0) - z) / (F32(1.0) + z)
    u = x * x
    p = F32(62.0 / 2835.0)
    p = p * u - F32(17.0 / 315.0)
    p = p * u + F32(2.0 / 15.0)
    p = p * u - F32(1.0 / 3.0)
    near = x + x * u * p
    return near if u < F32(0.0625) else (far if x > F32(0.0) else -far)


@compiled
def _tanh_row(am: Any, lm: Any, out: Any) -> None:
    for c in range(am.size):
        store(out, c, _tanh(load(am, c) + load(lm, c)))


@compiled
def tanh_of_sums(am: Any, lm: Any, ranges: Any, out: Any) -> None:
    """Write tanh(am + lm) (T, R, C) of one utterance: am (T, C), lm (S + 1, C), ranges (T, R)."""
    for t in range(ranges.shape[0]):
        for k in range(ranges.shape[1]):
            _tanh_row(am[t], lm[ranges[t, k]], out[t, k])


@compiled
def _tanh_grad_row(out: Any, grad: Any, am_grad: Any, lm_grad: Any) -> None:
    for c in range(am_grad.size):
        y = load(out, c)
        g = load(grad, c) * (F32(1.0) - y * y)
        am_grad[c] += g
        lm_grad[c] += g


@compiled
def tanh_of_sums_grad(out: Any, grad: Any, ranges: Any, am_grad: Any, lm_grad: Any) -> None:
    """Write the gradients of one utterance; ``am_grad`` (T, C), ``lm_grad`` (S + 1, C)."""
    am_grad[:] = F32(0.0)
    lm_grad[:] = F32(0.0)
    for t in range(ranges.shape[0]):
        for k in range(ranges.shape[1]):
            _tanh_grad_row(out[t, k], grad[t, k], am_grad[t], lm_grad[ranges[t, k]])
