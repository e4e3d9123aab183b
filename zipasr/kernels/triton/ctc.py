"""GPU kernel of the CTC loss, in Triton: score and occupations of an utterance.

Launched by ``losses.ctc``; import this only where triton is installed.
"""

# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

import triton
import triton.language as tl

from zipasr.kernels.triton.lattices import rotate


@triton.jit
def _log_sum(a: tl.tensor, b: tl.tensor) -> tuple[tl.tensor, tl.tensor]:
    """Return log(exp(a) + exp(b)), and the share of ``a`` in it; -inf and 1 where both are -inf."""
    is_dead = (a == float("-inf")) & (b == float("-inf"))  # the difference would be nan
    lead = tl.where(is_dead, 0.0, a - b)
    odds = tl.exp(-tl.abs(lead))
    larger = tl.where(lead > 0, a, b)  # tl.maximum may swallow a nan
    total = tl.where(is_dead, float("-inf"), larger + tl.log(1 + odds))
    return total, tl.where(is_dead, 1.0, tl.where(lead > 0, 1.0, odds) / (1 + odds))


@triton.jit(do_not_specialize=("num_frames", "num_labels"))
def ctc_kernel(  # noqa: PLR0915 - two sweeps over one set of variables
    scores: tl.tensor,
    table: tl.tensor,
    score: tl.tensor,
    grad: tl.tensor,
    shares: tl.tensor,
    rows: tl.tensor,
    num_frames: tl.tensor,
    num_labels: tl.tensor,
    lanes: tl.constexpr,
) -> None:
    """Log-probability of one utterance's tokens, and its gradient. Grid: (N,).

    Lane s holds two states: the blank before token s, and the token. A path starts in the blank
    of lane 0. At each frame a blank is reached from itself or from the token of the lane before;
    a token from itself, from its blank, or from the token of the lane before if that is another
    one.

    Args:
        scores: (N, T, S + 1) float32, log-probabilities of the tokens, and of blank at last.
        table: (N, S + 3) int64, tokens; blank; number of tokens; number of frames.
        score: (N,) float32, -inf where there are too few frames.
        grad: (N, T, S + 1) float32, filled with zeros before: occupations of the tokens, and of
            all blanks together.
        shares: (N, T, 3, ``lanes``) float32 scratch: of paths into a blank those that stay; of
            paths into a token those that stay; of the others those from its blank.
        rows: (N, 4, ``lanes``) float32 scratch.
        num_frames: T.
        num_labels: S.
        lanes: power of two, more than S.
    """
    n = tl.program_id(0).to(tl.int64)  # offsets of utterances may exceed 2^31
    lane = tl.arange(0, lanes)
    table += n * (num_labels + 3)
    s_len = tl.load(table + num_labels + 1).to(tl.int32)
    t_len = tl.load(table + num_labels + 2).to(tl.int32)
    width = num_labels + 1
    scores += n * num_frames * width
    grad += n * num_frames * width
    shares += n * num_frames * 3 * lanes
    rows += n * 4 * lanes
    is_label = lane < s_len
    own = tl.load(table + lane, mask=is_label, other=0)
    former = tl.load(table + lane - 1, mask=is_label & (lane > 0), other=0)
    may_skip = is_label & (lane > 0) & (own != former)

    # Log-weights of being in a state, less ``total``.
    blank = tl.where(lane == 0, 0.0, float("-inf"))
    label = tl.where(lane == lanes, 0.0, float("-inf"))
    total = tl.zeros((1,), tl.float64)
    x = tl.load(scores + lane, mask=is_label & (t_len > 0), other=float("-inf"))
    y = tl.load(scores + num_labels, mask=t_len > 0, other=0.0)
    t = 0
    while t < t_len:  # a plain loop: no loads may be moved across its barriers
        # Shifting all states of a frame changes no share; it keeps the sums small, hence exact.
        shift = tl.max(tl.where(blank > label, blank, label), axis=0)
        shift = tl.where((shift > float("-inf")) & (shift < float("inf")), shift, 0.0)
        total += shift.to(tl.float64)
        blank -= shift
        label -= shift
        before = rotate(label, rows + (t % 2) * lanes, lane, (lane - 1) & (lanes - 1))
        blank_sum, blank_stays = _log_sum(blank, before)
        entering, from_blank = _log_sum(blank, tl.where(may_skip, before, float("-inf")))
        label_sum, label_stays = _log_sum(label, entering)
        kept = shares + t * 3 * lanes + lane
        tl.store(kept, blank_stays)
        tl.store(kept + lanes, label_stays)
        tl.store(kept + 2 * lanes, from_blank)
        blank, label = blank_sum + y, label_sum + x
        t += 1
        # The frame after is requested before it is needed, to hide the latency.
        x = tl.load(scores + t * width + lane, mask=is_label & (t < t_len), other=float("-inf"))
        y = tl.load(scores + t * width + num_labels, mask=t < t_len, other=0.0)

    last_blank = tl.sum(tl.where(lane == s_len, blank, 0.0), axis=0)
    last_label = tl.sum(tl.where(lane == s_len - 1, label, 0.0), axis=0)
    last_label = tl.where(s_len > 0, last_label, float("-inf"))
    end, share = _log_sum(
        last_blank + tl.zeros((1,), tl.float32), last_label + tl.zeros((1,), tl.float32)
    )
    tl.store(score + n + tl.arange(0, 1), (total + end).to(tl.float32))

    # Each state hands its occupation on to those that it was reached from.
    share = tl.sum(tl.where(end == float("-inf"), 0.0, share), axis=0)
    rest = tl.sum(tl.where(end == float("-inf"), 0.0, 1.0), axis=0) - share
    blank = tl.where(lane == s_len, share, 0.0)
    label = tl.where(lane == s_len - 1, rest, 0.0)
    tl.debug_barrier()  # shares may be read by other threads than wrote them
    t = t_len - 1
    while t >= 0:
        kept = shares + t * 3 * lanes + lane
        blank_stays = tl.load(kept)
        label_stays = tl.load(kept + lanes)
        from_blank = tl.load(kept + 2 * lanes)
        tl.store(grad + t * width + lane, label, mask=is_label)
        tl.store(grad + t * width + num_labels + tl.arange(0, 1), tl.sum(blank, axis=0))
        entering = label * (1 - label_stays)
        skipping = blank * (1 - blank_stays) + entering * (1 - from_blank)
        before = rotate(skipping, rows + (2 + t % 2) * lanes, lane, (lane + 1) & (lanes - 1))
        blank = blank * blank_stays + entering * from_blank
        label = label * label_stays + before
        t -= 1
