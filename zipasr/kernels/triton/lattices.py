"""GPU kernels of the transducer losses, in Triton: lattice sums, and softmax rows to arcs and back.

Launched by ``losses.triton_backend``; import this only where triton is installed.
"""

# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

import triton
import triton.language as tl

# Sizes and strides that differ from batch to batch; no compilation for each kind of them.
_VARYING = (
    *("num_steps", "num_frames", "width"),
    *("px_batch", "px_label", "px_frame", "py_batch", "py_label", "py_frame"),
)


@triton.jit
def rotate(values: tl.tensor, row: tl.tensor, lane: tl.tensor, source: tl.tensor) -> tl.tensor:
    """Give each lane the value of the lane ``source``, by way of a row in global memory.

    Lanes are held by different threads, so the row may be read only after all of them have
    written: that is the barrier, which also makes their writes visible within the program. The
    caller alternates between two rows. So the row read here is next written after the barrier of
    the next call, which no thread passes before all have finished reading.
    """
    tl.store(row + lane, values)
    tl.debug_barrier()
    return tl.load(row + source)


@triton.jit
def _frame_up(top: tl.tensor, step: tl.tensor, starts: tl.tensor, t_len: tl.tensor) -> tl.tensor:
    """The highest frame of the band on an anti-diagonal, given that of the one before.

    It is the largest t with start(t) + t <= step, which grows by at most one per step.
    """
    after = top + 1
    start = tl.load(starts + after, mask=after < t_len, other=1 << 30).to(tl.int32)
    return top + (start + after <= step).to(tl.int32)


@triton.jit
def _frame_down(top: tl.tensor, step: tl.tensor, starts: tl.tensor) -> tl.tensor:
    """The highest frame of the band on an anti-diagonal, given that of the one after."""
    start = tl.load(starts + top).to(tl.int32)
    return top - ((start + top > step) & (top > 0)).to(tl.int32)


@triton.jit
def _band_nodes(
    step: tl.tensor,
    top: tl.tensor,
    lane: tl.tensor,
    starts: tl.tensor,
    s_len: tl.tensor,
    t_len: tl.tensor,
    width: tl.tensor,
    regular: tl.constexpr,
    lanes: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Cell in the band and frame of each lane's node, and whether its two arcs lead to a node.

    Label s is in lane s mod ``lanes``. The labels of a step are consecutive and at most ``width``,
    which is less than ``lanes``, from ``lowest`` up.
    """
    if regular:
        lowest = step - top
        label = lowest + ((lane - lowest) & (lanes - 1))
        frame = step - label
    else:
        lowest = tl.load(starts + step, mask=step < t_len, other=0).to(tl.int32)
        label = lowest + ((lane - lowest) & (lanes - 1))
        frame = step + 0 * lane
    in_frames = (frame >= 0) & (frame < t_len)
    bottom = tl.load(starts + frame, mask=in_frames, other=0).to(tl.int32)
    is_last = frame == t_len - 1
    has_next = in_frames & (frame < t_len - 1)
    bottom_next = tl.load(starts + frame + 1, mask=has_next, other=0).to(tl.int32)
    cell = label - bottom
    is_node = in_frames & (cell >= 0) & (cell < width) & (label <= s_len)
    above = label + 1 - bottom_next  # cell on the next frame of the label above
    blank_arrives = (is_last & (label == s_len)) | (has_next & (above >= 1) & (above <= width))
    if regular:
        symbol_arrives = cell < width - 1
    else:
        symbol_arrives = (is_last & (label + 1 == s_len)) | (
            has_next & (above >= 0) & (above < width)
        )
    return cell, frame, is_node & (label < s_len) & symbol_arrives, is_node & blank_arrives


@triton.jit
def _nodes(
    step: tl.tensor,
    top: tl.tensor,
    lane: tl.tensor,
    starts: tl.tensor,
    s_len: tl.tensor,
    t_len: tl.tensor,
    width: tl.tensor,
    band: tl.constexpr,
    regular: tl.constexpr,
    lanes: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Label (in a band: cell) and frame of each lane's node, and whether its arcs can be taken."""
    if band:
        label, frame, symbol_open, blank_open = _band_nodes(
            step, top, lane, starts, s_len, t_len, width, regular, lanes
        )
    elif regular:
        label = lane
        frame = step - lane
        symbol_open = (frame >= 0) & (frame <= t_len) & (lane < s_len)
        blank_open = (frame >= 0) & (frame < t_len) & (lane <= s_len)
    else:
        label = lane
        frame = step + 0 * lane
        symbol_open = (frame < t_len) & (lane < s_len)
        blank_open = (frame < t_len) & (lane <= s_len)
    return label, frame, symbol_open, blank_open


@triton.jit(do_not_specialize=_VARYING)
def recursion_kernel(  # noqa: PLR0915 - two sweeps over one set of variables
    px: tl.tensor,
    py: tl.tensor,
    starts: tl.tensor,
    s_lens: tl.tensor,
    t_lens: tl.tensor,
    score: tl.tensor,
    px_grad: tl.tensor,
    py_grad: tl.tensor,
    leads: tl.tensor,
    rows: tl.tensor,
    num_steps: tl.tensor,
    num_frames: tl.tensor,
    width: tl.tensor,
    px_batch: tl.tensor,
    px_label: tl.tensor,
    px_frame: tl.tensor,
    py_batch: tl.tensor,
    py_label: tl.tensor,
    py_frame: tl.tensor,
    band: tl.constexpr,
    regular: tl.constexpr,
    lanes: tl.constexpr,
) -> None:
    """Score and occupations of one utterance's lattice. Grid: (N,).

    A step is an anti-diagonal s + t, or a frame where a symbol takes one: every path has one node
    per step, and a node depends on the step before only. A lane is a label, so a blank arc stays
    in its lane and a symbol arc leads to the next.

    Args:
        px: symbol arcs, float32, at n ``px_batch`` + s ``px_label`` + t ``px_frame``; in a band
            s counts from the bottom of the frame. Same layout for ``px_grad``; py alike.
        py: blank arcs.
        starts: (N, ``num_frames``) bottoms of the band; not read without ``band``.
        s_lens: (N,) contiguous.
        t_lens: (N,) contiguous.
        score: (N,) float32.
        px_grad: filled with zeros before; arcs that cannot be taken are not written.
        py_grad: likewise.
        leads: (N, ``num_steps``, ``lanes``) float32 scratch: log-weight of arriving at a node by
            its symbol arc minus that by its blank arc.
        rows: (N, 4, ``lanes``) float32 scratch.
        num_steps: steps of the longest path at least.
        num_frames: row length of ``starts``.
        width: labels per frame of the band.
        px_batch: stride of ``px``, like the five that follow.
        px_label: see above.
        px_frame: see above.
        py_batch: see above.
        py_label: see above.
        py_frame: see above.
        band: paths stay in a band.
        regular: a symbol keeps the frame.
        lanes: power of two, more than S, or more than ``width`` in a band.
    """
    n = tl.program_id(0).to(tl.int64)  # offsets of utterances may exceed 2^31
    lane = tl.arange(0, lanes)
    s_len, t_len = tl.load(s_lens + n).to(tl.int32), tl.load(t_lens + n).to(tl.int32)
    px += n * px_batch
    px_grad += n * px_batch
    py += n * py_batch
    py_grad += n * py_batch
    starts += n * num_frames
    leads += n * num_steps * lanes
    rows += n * 4 * lanes
    steps = t_len
    if regular:
        steps += s_len

    node = tl.where(lane == 0, 0.0, float("-inf"))  # log-weight of reaching a node, less ``total``
    if band:
        node = tl.where(tl.load(starts) == 0, node, float("-inf"))
    total = tl.zeros((1,), tl.float64)
    top = 0
    label, frame, symbol_open, blank_open = _nodes(
        0, top, lane, starts, s_len, t_len, width, band, regular, lanes
    )
    x = tl.load(px + label * px_label + frame * px_frame, mask=symbol_open, other=float("-inf"))
    y = tl.load(py + label * py_label + frame * py_frame, mask=blank_open, other=float("-inf"))
    step = 0
    while step < steps:  # a plain loop: no loads may be moved across its barriers
        # Shifting all nodes of a step changes no share; it keeps the sums small, hence exact.
        shift = tl.max(node, axis=0)
        shift = tl.where((shift > float("-inf")) & (shift < float("inf")), shift, 0.0)
        total += shift.to(tl.float64)
        node -= shift
        symbol = node + x
        blank = node + y
        # The arcs of the next step are requested before they are needed, to hide the latency.
        if band and regular:
            top = _frame_up(top, step + 1, starts, t_len)
        label, frame, symbol_open, blank_open = _nodes(
            step + 1, top, lane, starts, s_len, t_len, width, band, regular, lanes
        )
        x = tl.load(px + label * px_label + frame * px_frame, mask=symbol_open, other=float("-inf"))
        y = tl.load(py + label * py_label + frame * py_frame, mask=blank_open, other=float("-inf"))
        symbol = rotate(symbol, rows + (step % 2) * lanes, lane, (lane - 1) & (lanes - 1))
        is_dead = (symbol == float("-inf")) & (blank == float("-inf"))  # the lead would be nan
        lead = tl.where(is_dead, 0.0, symbol - blank)
        tl.store(leads + step * lanes + lane, lead)
        larger = tl.where(lead > 0, symbol, blank)  # tl.maximum may swallow a nan
        node = tl.where(is_dead, float("-inf"), larger + tl.log(1 + tl.exp(-tl.abs(lead))))
        step += 1

    is_end = lane == (s_len & (lanes - 1))
    end = tl.sum(tl.where(is_end, node, 0.0), axis=0)
    tl.store(score + n + tl.arange(0, 1), (total + end).to(tl.float32))

    # Each node hands its occupation on to its two arcs by their shares, which sum to one. A dead
    # node gets none: its arcs have share 0 in live nodes. Only the end needs a look.
    node = tl.where(is_end & (node != float("-inf")), 1.0, 0.0)
    tl.debug_barrier()  # leads may be read by other threads than wrote them
    step = steps - 1
    lead = tl.load(leads + step * lanes + lane, mask=(lane >= 0) & (step >= 0), other=0.0)
    while step >= 0:
        if band and regular:
            top = _frame_down(top, step, starts)
        label, frame, symbol_open, blank_open = _nodes(
            step, top, lane, starts, s_len, t_len, width, band, regular, lanes
        )
        odds = tl.exp(-tl.abs(lead))
        symbol = node * tl.where(lead > 0, 1.0, odds) / (1 + odds)
        blank = node * tl.where(lead > 0, odds, 1.0) / (1 + odds)
        before = leads + (step - 1) * lanes + lane
        lead = tl.load(before, mask=(lane >= 0) & (step > 0), other=0.0)
        # From the node that a symbol arc enters to the node that it leaves.
        symbol = rotate(symbol, rows + (2 + step % 2) * lanes, lane, (lane + 1) & (lanes - 1))
        tl.store(px_grad + label * px_label + frame * px_frame, symbol, mask=symbol_open)
        tl.store(py_grad + label * py_label + frame * py_frame, blank, mask=blank_open)
        node = symbol + blank
        step -= 1


@triton.jit(do_not_specialize=("blank",))
def softmax_arcs_kernel(
    logits: tl.tensor,
    targets: tl.tensor,
    lse: tl.tensor,
    px: tl.tensor,
    py: tl.tensor,
    blank: tl.tensor,
    vocab: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Log-probabilities of target and blank in one softmax row. Grid: (rows,).

    Args:
        logits: (rows, ``vocab``), of any floating type; the arithmetic is float32.
        targets: (rows,) int64 below ``vocab``; a row with a negative one is not read, and its
            probabilities are 0.
        lse: (rows,) float32, the log of the sum of the exponentials.
        px: (rows,) float32.
        py: (rows,) float32.
        blank: the id of blank.
        vocab: V.
        block: power of two, columns read at a time.
    """
    row = tl.program_id(0).to(tl.int64)
    logits += row * vocab
    target = tl.load(targets + row)
    is_cell = target >= 0
    highest = float("-inf")
    total = 0.0
    for first in range(0, vocab, block):
        column = first + tl.arange(0, block)
        x = tl.load(logits + column, mask=(column < vocab) & is_cell, other=float("-inf")).to(
            tl.float32
        )
        previous = highest
        highest = tl.maximum(previous, tl.max(x, axis=0))
        origin = tl.where(highest > float("-inf"), highest, 0.0)  # -inf - -inf would be nan
        total = total * tl.exp(previous - origin) + tl.sum(tl.exp(x - origin), axis=0)
    norm = tl.where(highest > float("-inf"), highest, 0.0) + tl.log(total)
    symbol = tl.load(logits + target, mask=is_cell, other=0.0).to(tl.float32)
    empty = tl.load(logits + blank).to(tl.float32)
    tl.store(lse + row, tl.where(is_cell, norm, 0.0))
    tl.store(px + row, tl.where(is_cell, symbol - norm, float("-inf")))
    tl.store(py + row, tl.where(is_cell, empty - norm, float("-inf")))


@triton.jit(do_not_specialize=("blank",))
def softmax_arcs_grad_kernel(
    logits: tl.tensor,
    lse: tl.tensor,
    targets: tl.tensor,
    px_grad: tl.tensor,
    py_grad: tl.tensor,
    grad: tl.tensor,
    blank: tl.tensor,
    vocab: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Gradient of one softmax row from those of its two arcs. Grid: (rows,).

    Args:
        logits: (rows, ``vocab``); not read where both gradients are 0.
        lse: (rows,) float32.
        targets: (rows,) int64.
        px_grad: (rows,) float32.
        py_grad: (rows,) float32.
        grad: (rows, ``vocab``); may be ``logits`` itself.
        blank: the id of blank.
        vocab: V.
        block: power of two, columns at a time; no fewer than the threads of a program, so that
            an element that is overwritten is read by the one thread that writes it.
    """
    row = tl.program_id(0).to(tl.int64)
    logits += row * vocab
    grad += row * vocab
    target = tl.load(targets + row)
    norm = tl.load(lse + row)
    # As blocks, because the interpreter makes a block of floats of a scalar comparison.
    gx = tl.load(px_grad + row) + tl.zeros((block,), tl.float32)
    gy = tl.load(py_grad + row) + tl.zeros((block,), tl.float32)
    is_live = (gx != 0) | (gy != 0)
    for first in range(0, vocab, block):
        column = first + tl.arange(0, block)
        x = tl.load(logits + column, mask=(column < vocab) & is_live, other=0.0).to(tl.float32)
        value = -(gx + gy) * tl.exp(x - norm)
        value += tl.where(column == target, gx, 0.0) + tl.where(column == blank, gy, 0.0)
        value = tl.where(is_live, value, 0.0)
        tl.store(grad + column, value.to(grad.dtype.element_ty), mask=column < vocab)
