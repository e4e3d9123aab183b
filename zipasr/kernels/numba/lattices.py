"""Transducer lattices as loops that numba compiles for the CPU: score and occupations.

A lattice is swept by diagonals: the nodes (s, t) that are d arcs from the start form a row, lane
s, and none of them needs another, so a row is vector work. ``x[d, s]`` and ``y[d, s]`` hold the
log-weights of the symbol and the blank arc that lead *into* lane s of row d. In the regular type
d = s + t; in the others each arc takes a frame, and d = t.

Minus infinity is ``CLOSED`` inside, which may be added to itself and subtracted; a NaN stays one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zipasr.kernels.numba.math import F32, compiled, exp, highest, inlined, log, log1p

CLOSED = F32(-1e30)
DEAD = F32(-5e29)  # what cannot be reached lies below this


@inlined
def _weight(value: Any) -> Any:
    return CLOSED if value < CLOSED else value


@inlined
def _normal(occupation: Any) -> Any:
    """Drop what is next to nothing: arithmetic on denormal numbers takes many times as long."""
    return F32(0.0) if occupation < F32(1e-30) else occupation


@inlined
def _merge(symbol: Any, blank: Any) -> Any:
    """Return log(e^symbol + e^blank), and the share that the symbol has of that sum."""
    lead = symbol - blank
    # Below e^-40 there is nothing to add, and the series would meet denormal numbers.
    z = F32(0.0) if abs(lead) > F32(40.0) else exp(-abs(lead))
    larger = F32(1.0) / (F32(1.0) + z)
    share = larger if lead > F32(0.0) else z * larger
    return (symbol if lead > F32(0.0) else blank) + log1p(z), share


# --- the whole lattice -------------------------------------------------------------------------


@compiled
def _enter(px: Any, py: Any, num_symbols: Any, num_frames: Any, x: Any, y: Any) -> Any:
    """Lay (S, T) weights out by rows; return the number of rows."""
    rise = 1 if px.shape[1] > py.shape[1] else 0  # rows by which an arc is later per symbol
    for s in range(num_symbols):
        for t in range(num_frames + rise):
            x[t + 1 + s * rise, s + 1] = _weight(px[s, t])
    for s in range(num_symbols + 1):
        for t in range(num_frames):
            y[t + 1 + s * rise, s] = _weight(py[s, t])
    return num_frames + num_symbols * rise


@compiled
def _leave(x: Any, y: Any, num_symbols: Any, num_frames: Any, px_grad: Any, py_grad: Any) -> None:
    """Bring what ``_sweep`` left in ``x`` and ``y`` back to (S, T), zero outside."""
    rise = 1 if px_grad.shape[1] > py_grad.shape[1] else 0
    px_grad[num_symbols:] = F32(0.0)
    px_grad[:num_symbols, num_frames + rise :] = F32(0.0)
    py_grad[num_symbols + 1 :] = F32(0.0)
    py_grad[: num_symbols + 1, num_frames:] = F32(0.0)
    for s in range(num_symbols):
        for t in range(num_frames + rise):
            px_grad[s, t] = x[t + 1 + s * rise, s + 1]
    for s in range(num_symbols + 1):
        for t in range(num_frames):
            py_grad[s, t] = y[t + 1 + s * rise, s]


# Loops count from 0 over slices: of an index that might be negative no vector loop can be made.


@compiled
def _merge_row(below: Any, same: Any, x: Any, y: Any, node: Any, share: Any) -> None:
    for s in range(node.size):
        node[s], share[s] = _merge(below[s] + x[s], same[s] + y[s])


@compiled
def _lower(node: Any, by: Any) -> None:
    for s in range(node.size):
        node[s] -= by


@compiled
def _split_row(node: Any, share: Any, x: Any, y: Any) -> None:
    for s in range(node.size):
        x[s] = _normal(node[s] * share[s])
        y[s] = node[s] - x[s]


@compiled
def _join_row(above: Any, y: Any, node: Any) -> None:
    for s in range(node.size):
        node[s] = _normal(y[s] + above[s])


@compiled
def _sweep(
    x: Any, y: Any, num_symbols: Any, num_rows: Any, last_frame: Any, share: Any, rows: Any
) -> Any:
    """Return the score of a lattice; ``x`` and ``y`` become the occupations of their arcs.

    Args:
        x: (D + 1, S + 1), log-weights of symbols; row 0 is not used.
        y: (D + 1, S + 1), log-weights of blanks.
        num_symbols: S of this utterance.
        num_rows: number of arcs of a complete path.
        last_frame: t of the last node, beyond which there are none; D if d = t.
        share: (D + 1, S + 1) scratch.
        rows: (2, S + 3) scratch.
    """
    # What no path takes still takes part in sums and products.
    for d in range(1, num_rows + 1):
        x[d, 0] = F32(0.0)
        if d <= num_symbols and last_frame < num_rows:
            y[d, d] = F32(0.0)
    rows[:] = CLOSED
    rows[0, 1] = F32(0.0)
    shift = np.float64(0.0)
    for d in range(1, num_rows + 1):
        start, stop = max(0, d - last_frame), min(d, num_symbols) + 1
        lanes, next_lanes = slice(start, stop), slice(start + 1, stop + 1)
        old, node = rows[(d - 1) & 1], rows[d & 1, next_lanes]
        _merge_row(old[lanes], old[next_lanes], x[d, lanes], y[d, lanes], node, share[d, lanes])
        # Every complete path passes through this row: a shift of the row changes no share, and
        # keeps the sums small, hence exact.
        top = highest(node)
        if top > DEAD:
            _lower(node, top)
            shift += top
    score = rows[num_rows & 1, num_symbols + 1]
    if score < DEAD:
        x[: num_rows + 1] = F32(0.0)
        y[: num_rows + 1] = F32(0.0)
        return F32(-np.inf)
    # Each node hands its own occupation to its two arcs by their shares.
    rows[:] = F32(0.0)
    rows[num_rows & 1, num_symbols] = F32(1.0)
    for d in range(num_rows, 0, -1):
        start, stop = max(0, d - last_frame), min(d, num_symbols) + 1
        lanes, inner = slice(start, stop), slice(start, stop - 1)
        new = rows[(d - 1) & 1]
        _split_row(rows[d & 1, lanes], share[d, lanes], x[d, lanes], y[d, lanes])
        x[d, stop:] = F32(0.0)  # lanes that no path can have reached by now
        y[d, stop:] = F32(0.0)
        new[:] = F32(0.0)
        _join_row(x[d, start + 1 : stop], y[d, inner], new[inner])
        new[stop - 1] = y[d, stop - 1]
        if start > 0:
            new[start - 1] = x[d, start]
    return F32(score + shift)


@compiled
def full_lattice(
    px: Any, py: Any, num_symbols: Any, num_frames: Any, px_grad: Any, py_grad: Any
) -> Any:
    """Return the score of one utterance and write its occupations.

    Args:
        px: (S, T + 1) for the regular type, else (S, T); any strides.
        py: (S + 1, T).
        num_symbols: of this utterance, at most S.
        num_frames: of this utterance, 1 to T.
        px_grad: like ``px``, takes the occupations, 0 outside.
        py_grad: likewise.
    """
    regular = px.shape[1] > py.shape[1]
    num_rows = num_frames + (num_symbols if regular else 0)
    size = (num_rows + 1, num_symbols + 1)
    x, y, share = np.empty(size, F32), np.empty(size, F32), np.empty(size, F32)
    rows = np.empty((2, num_symbols + 3), F32)
    _enter(px, py, num_symbols, num_frames, x, y)
    score = _sweep(x, y, num_symbols, num_rows, num_frames, share, rows)
    _leave(x, y, num_symbols, num_frames, px_grad, py_grad)
    return score


# --- the band ------------------------------------------------------------------------------------


# Lane k of frame t holds label starts[t] + k; one frame earlier the same label was in lane
# k + rise, if the band held it at all.


@inlined
def _blank_into(node: Any, py: Any, t: Any, lane: Any) -> Any:
    """Return the weight of coming from a lane of frame t with a blank."""
    if 0 <= lane < py.shape[1]:
        return node[t, lane] + _weight(py[t, lane])
    return CLOSED


@inlined
def _symbol_into(node: Any, px: Any, t: Any, lane: Any) -> Any:
    """Return the weight of coming from a lane of frame t with a symbol."""
    if 0 <= lane < px.shape[1]:
        return node[t, lane] + _weight(px[t, lane])
    return CLOSED


@inlined
def _rise(starts: Any, t: Any) -> Any:
    return starts[t] - starts[t - 1] if t > 0 else 0


@compiled
def _band_forward(
    px: Any, py: Any, starts: Any, num_symbols: Any, regular: Any, node: Any, share: Any
) -> Any:
    """Fill log-weights and symbol shares of the nodes (T_b, R); return what was taken off."""
    shift = np.float64(0.0)
    for t in range(node.shape[0]):
        rise, top = _rise(starts, t), CLOSED
        for k in range(node.shape[1]):
            node[t, k], share[t, k] = CLOSED, F32(0.0)
            if starts[t] + k > num_symbols:
                continue
            if t > 0:
                blank = _blank_into(node, py, t - 1, k + rise)
            else:
                blank = F32(0.0) if starts[0] + k == 0 else CLOSED
            if regular:
                symbol = _symbol_into(node, px, t, k - 1)
            else:
                symbol = _symbol_into(node, px, t - 1, k + rise - 1) if t > 0 else CLOSED
            node[t, k], share[t, k] = _merge(symbol, blank)
            top = max(top, node[t, k])
        if top > DEAD:  # as for the rows of the whole lattice
            node[t] -= top
            shift += top
    return shift


@compiled
def _band_backward(starts: Any, regular: Any, share: Any, px_grad: Any, py_grad: Any) -> None:
    """Pass occupations on, from those of the arcs that leave the last frame."""
    num_frames, width = share.shape
    for t in range(num_frames - 1, -1, -1):
        rise = _rise(starts, t)
        for k in range(width - 1, -1, -1):
            # Both arcs that leave the node are known; it hands their sum to those that enter.
            occupation = _normal(px_grad[t, k] + py_grad[t, k])
            symbol = _normal(occupation * share[t, k])
            before = k + rise
            if t > 0 and before < width:
                py_grad[t - 1, before] = occupation - symbol
            if regular and k > 0:
                px_grad[t, k - 1] = symbol
            elif not regular and t > 0 and 1 <= before <= width:
                px_grad[t - 1, before - 1] = symbol


@compiled
def band_lattice(
    px: Any,
    py: Any,
    starts: Any,
    num_symbols: Any,
    num_frames: Any,
    regular: Any,
    px_grad: Any,
    py_grad: Any,
) -> Any:
    """Return the score of one utterance on its band and write its occupations.

    Args:
        px: (T, R) log-weights of symbols.
        py: (T, R) log-weights of blanks.
        starts: (T,), the labels of lane 0; must not fall below ``num_frames``.
        num_symbols: of this utterance.
        num_frames: of this utterance.
        regular: a symbol keeps the frame; otherwise it takes one.
        px_grad: (T, R), takes the occupations, 0 outside.
        py_grad: (T, R), likewise.
    """
    size, last = (num_frames, px.shape[1]), num_frames - 1
    node, share = np.empty(size, F32), np.empty(size, F32)
    px_grad[:] = F32(0.0)
    py_grad[:] = F32(0.0)
    shift = _band_forward(px, py, starts, num_symbols, regular, node, share)
    end = num_symbols - starts[last]
    symbol = CLOSED if regular else _symbol_into(node, px, last, end - 1)
    score, symbol_share = _merge(symbol, _blank_into(node, py, last, end))
    if score < DEAD:
        return F32(-np.inf)
    if not regular and 1 <= end <= px.shape[1]:
        px_grad[last, end - 1] = symbol_share
    if 0 <= end < px.shape[1]:
        py_grad[last, end] = F32(1.0) - symbol_share
    _band_backward(starts, regular, share, px_grad, py_grad)
    return F32(score + shift)


# --- the lattice of the simple joiner ------------------------------------------------------------


@compiled
def _log_row(joint: Any, tiny: Any, scale: Any, out: Any) -> None:
    for s in range(out.size):
        out[s] = -scale * log(joint[s] + tiny)


@compiled
def simple_lattice(
    am: Any,
    am_top: Any,
    joint: Any,
    labels: Any,
    symbol_terms: Any,
    blank_terms: Any,
    num_frames: Any,
    blank: Any,
    scale: Any,
    delay_penalty: Any,
    px_grad: Any,
    py_grad: Any,
) -> Any:
    """Return the score of one utterance of the regular type and write its occupations.

    The weight of a symbol arc is ``scale (am - am_top - log joint) + symbol_terms + penalty``,
    that of a blank arc likewise without the penalty.

    Args:
        am: (T, V) logits of the encoder.
        am_top: (T,), their maxima.
        joint: (T, S + 1), sums of products of both exponentials.
        labels: (S_b,), the symbols of this utterance.
        symbol_terms: (S + 1,), what does not depend on the frame.
        blank_terms: (S + 1,), likewise.
        num_frames: T_b.
        blank: id of blank.
        scale: share of the joint log-probabilities.
        delay_penalty: nats per frame.
        px_grad: (T + 1, S), by frames; takes the occupations, 0 outside.
        py_grad: (T, S + 1), likewise.
    """
    num_symbols = labels.size
    num_rows = num_symbols + num_frames
    size = (num_rows + 1, num_symbols + 1)
    x, y, share = np.empty(size, F32), np.empty(size, F32), np.empty(size, F32)
    rows = np.empty((2, num_symbols + 3), F32)
    norm = np.empty(num_symbols + 1, F32)
    tiny = F32(np.finfo(np.float32).tiny)
    for t in range(num_frames):
        _log_row(joint[t, : num_symbols + 1], tiny, scale, norm)
        late = F32(delay_penalty * (F32(0.5) * F32(num_frames - 1) - F32(t)))
        for s in range(num_symbols):
            heard = scale * (am[t, labels[s]] - am_top[t]) + late
            x[t + 1 + s, s + 1] = _weight(heard + norm[s] + symbol_terms[s])
        heard = scale * (am[t, blank] - am_top[t])
        for s in range(num_symbols + 1):
            y[t + 1 + s, s] = _weight(heard + norm[s] + blank_terms[s])
    for s in range(num_symbols):  # no symbol after the last frame
        x[num_frames + 1 + s, s + 1] = CLOSED
    score = _sweep(x, y, num_symbols, num_rows, num_frames, share, rows)
    px_grad[:] = F32(0.0)
    py_grad[:] = F32(0.0)
    for t in range(num_frames):
        for s in range(num_symbols):
            px_grad[t, s] = x[t + 1 + s, s + 1]
        for s in range(num_symbols + 1):
            py_grad[t, s] = y[t + 1 + s, s]
    return score
