"""GPU kernels of transducer searches, in Triton: the books of one step, from logits to contexts.

Launched by ``search.triton_steps``; import this only where triton is installed. A program keeps the
books of one utterance, and changes them in place: it reads all it needs, waits until all its
threads have read, and writes.
"""

# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _scaled(
    logits: tl.tensor,
    row: tl.tensor,
    is_row: tl.tensor,
    column: tl.tensor,
    blank: tl.tensor,
    penalty: tl.tensor,
    temperature: tl.tensor,
    vocab: tl.constexpr,
) -> tl.tensor:
    """Read logits (rows, columns) as float32, blank penalised, then divided by the temperature.

    Beyond the vocabulary they are -inf, in rows that are not there 0.
    """
    is_column = column < vocab
    places = row[:, None] * vocab + column[None, :]
    x = tl.load(logits + places, mask=is_row[:, None] & is_column[None, :], other=0.0)
    x = x.to(tl.float32) - tl.where(column == blank, penalty, 0.0)[None, :]
    return tl.where(is_column[None, :], x / temperature, float("-inf"))


@triton.jit
def _softmax_rows(
    logits: tl.tensor,
    row: tl.tensor,
    is_row: tl.tensor,
    blank: tl.tensor,
    penalty: tl.tensor,
    temperature: tl.tensor,
    vocab: tl.constexpr,
    block: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Largest logit of each row, the log of the sum of exponentials beside it, and the symbol."""
    top = tl.where(is_row, float("-inf"), float("-inf"))
    total = tl.where(is_row, 0.0, 0.0)
    best = row * 0
    for start in range(0, vocab, block):
        column = start + tl.arange(0, block)
        x = _scaled(logits, row, is_row, column, blank, penalty, temperature, vocab)
        highest = tl.max(x, 1)
        where = tl.min(tl.where(x == highest[:, None], column[None, :], vocab), 1)
        best = tl.where(highest > top, where, best)
        higher = tl.maximum(top, highest)
        total = total * tl.exp(top - higher) + tl.sum(tl.exp(x - higher[:, None]), 1)
        top = higher
    return top, tl.log(total), best


@triton.jit
def _next_best(
    logits: tl.tensor,
    slot: tl.tensor,
    is_slot: tl.tensor,
    rank_before: tl.tensor,
    last_rank: tl.tensor,
    last_place: tl.tensor,
    blank: tl.tensor,
    penalty: tl.tensor,
    temperature: tl.tensor,
    vocab: tl.constexpr,
    end: tl.constexpr,
    block: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """Rank and place, slot times ``vocab`` plus symbol, of the best of what the last one left.

    Of equal ones that at the first place. What is no number ranks first, as it must be seen.
    """
    best_place = last_place * 0 + end
    best = tl.where(best_place == end, float("-inf"), 0.0)
    for start in range(0, vocab, block):
        column = start + tl.arange(0, block)
        x = _scaled(logits, slot, is_slot, column, blank, penalty, temperature, vocab)
        rank = x + rank_before[:, None]
        rank = tl.where(rank == rank, rank, float("inf"))
        place = slot[:, None] * vocab + column[None, :]
        is_left = (rank < last_rank) | ((rank == last_rank) & (place > last_place))
        is_left = is_left & is_slot[:, None] & (column < vocab)[None, :]
        rank = tl.where(is_left, rank, float("-inf"))
        here = tl.max(tl.max(rank, 1), 0)
        here_place = tl.min(tl.min(tl.where(is_left & (rank == here), place, end), 1), 0)
        is_better = (here > best) | ((here == best) & (here_place < best_place))
        best = tl.where(is_better, here, best)
        best_place = tl.where(is_better, here_place, best_place)
    return best, best_place


@triton.jit
def _merged(log_prob: tl.tensor, mark: tl.tensor, slot: tl.tensor, is_slot: tl.tensor) -> tl.tensor:
    """Give the first of the slots with equal marks the sum of their probabilities."""
    is_same = (mark[:, None] == mark[None, :]) & is_slot[None, :]
    others = tl.where(is_same, log_prob[None, :], float("-inf"))
    high = tl.max(others, 1)
    high = tl.where(high == float("-inf"), 0.0, high)
    total = high + tl.log(tl.sum(tl.exp(others - high[:, None]), 1))
    is_repeat = tl.max((is_same & (slot[None, :] < slot[:, None])).to(tl.int32), 1) > 0
    return tl.where(is_repeat, float("-inf"), total)


@triton.jit
def _grown_contexts(
    contexts: tl.tensor,
    source: tl.tensor,
    is_row: tl.tensor,
    is_token: tl.tensor,
    token: tl.tensor,
    context_size: tl.constexpr,
    places: tl.constexpr,
) -> tl.tensor:
    """Read the contexts (rows, places) of ``source``; a token is put behind the others."""
    old = tl.arange(0, places)[None, :] + is_token.to(tl.int32)[:, None]
    is_old = is_row[:, None] & (old < context_size)
    context = tl.load(contexts + source[:, None] * context_size + old, mask=is_old, other=0)
    return tl.where(old == context_size, token.to(tl.int64)[:, None], context)


@triton.jit(do_not_specialize=("time", "blank"))
def beam_frame_kernel(  # noqa: PLR0915 - all books of a beam
    logits: tl.tensor,
    lens: tl.tensor,
    log_probs: tl.tensor,
    bonuses: tl.tensor,
    fingerprints: tl.tensor,
    num_tokens: tl.tensor,
    contexts: tl.tensor,
    parents: tl.tensor,
    symbols: tl.tensor,
    time: tl.tensor,
    blank: tl.tensor,
    penalty: tl.tensor,
    temperature: tl.tensor,
    multiplier: tl.constexpr,
    vocab: tl.constexpr,
    beam: tl.constexpr,
    context_size: tl.constexpr,
    slots: tl.constexpr,
    places: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Take one frame of the modified beam search. Grid: (N,).

    Args:
        logits: (N, ``beam``, ``vocab``), of any floating type; the arithmetic is float32.
        lens: (N,) int64; at its length and beyond, an utterance stays as it is.
        log_probs: (N, ``beam``) float32, changed in place like the four that follow.
        bonuses: (N, ``beam``) float32.
        fingerprints: (N, ``beam``) int64.
        num_tokens: (N, ``beam``) int64.
        contexts: (N, ``beam``, ``context_size``) int64.
        parents: (N, ``beam``) int64, written.
        symbols: (N, ``beam``) int64, written.
        time: the frame.
        blank: its id.
        penalty: subtracted from the logit of blank.
        temperature: divides the logits.
        multiplier: of fingerprints.
        vocab: symbols.
        beam: hypotheses of an utterance.
        context_size: tokens that the decoder sees.
        slots: power of two, at least ``beam``.
        places: power of two, at least ``context_size``.
        block: power of two: symbols that are read at a time.
    """
    n = tl.program_id(0).to(tl.int64)
    slot = tl.arange(0, slots)
    is_slot = slot < beam
    first = n * beam
    if tl.load(lens + n) <= time:
        tl.store(parents + first + slot, slot.to(tl.int64), mask=is_slot)
        tl.store(symbols + first + slot, (slot * 0 + blank).to(tl.int64), mask=is_slot)
        return
    logits += first * vocab

    top, total, _ = _softmax_rows(logits, slot, is_slot, blank, penalty, temperature, vocab, block)
    norm = top + total
    before = tl.load(log_probs + first + slot, mask=is_slot, other=0.0)
    rank_before = before + tl.load(bonuses + first + slot, mask=is_slot, other=0.0) - norm
    chosen = slot * 0
    place = tl.max(chosen, 0) - 1  # before all
    rank = tl.where(place < 0, float("inf"), 0.0)
    for number in range(beam):
        rank, place = _next_best(
            logits,
            slot,
            is_slot,
            rank_before,
            rank,
            place,
            blank,
            penalty,
            temperature,
            vocab,
            beam * vocab,
            block,
        )
        chosen = tl.where(slot == number, place, chosen)

    parent, symbol = chosen // vocab, chosen % vocab
    is_token = symbol != blank
    picked = tl.where(parent[:, None] == slot[None, :], (before - norm)[None, :], 0.0)
    x = tl.load(logits + parent * vocab + symbol, mask=is_slot, other=0.0).to(tl.float32)
    x = (x - tl.where(is_token, 0.0, penalty)) / temperature
    log_prob = tl.where(is_slot, x + tl.sum(picked, 1), float("-inf"))

    source = first + parent
    grown = tl.load(fingerprints + source, mask=is_slot, other=0)
    mixed = (grown ^ (symbol.to(tl.int64) + 1)) * multiplier
    grown = tl.where(is_token, mixed ^ (mixed >> 29), grown)
    merged = _merged(log_prob, grown, slot, is_slot)

    bonus = tl.load(bonuses + source, mask=is_slot, other=0.0)
    count = tl.load(num_tokens + source, mask=is_slot, other=0) + is_token.to(tl.int64)
    context = _grown_contexts(contexts, source, is_slot, is_token, symbol, context_size, places)

    tl.debug_barrier()
    tl.store(log_probs + first + slot, merged, mask=is_slot)
    tl.store(bonuses + first + slot, bonus, mask=is_slot)
    tl.store(fingerprints + first + slot, grown, mask=is_slot)
    tl.store(num_tokens + first + slot, count, mask=is_slot)
    at = tl.arange(0, places)
    to = contexts + (first + slot)[:, None] * context_size + at[None, :]
    tl.store(to, context, mask=is_slot[:, None] & (at < context_size)[None, :])
    tl.store(parents + first + slot, parent.to(tl.int64), mask=is_slot)
    tl.store(symbols + first + slot, symbol.to(tl.int64), mask=is_slot)


@triton.jit(do_not_specialize=("num_frames", "most_tokens", "most_here", "blank"))
def greedy_step_kernel(
    logits: tl.tensor,
    lens: tl.tensor,
    place: tl.tensor,
    num_here: tl.tensor,
    log_probs: tl.tensor,
    contexts: tl.tensor,
    num_tokens: tl.tensor,
    tokens: tl.tensor,
    times: tl.tensor,
    rows: tl.tensor,
    num_frames: tl.tensor,
    most_tokens: tl.tensor,
    most_here: tl.tensor,
    blank: tl.tensor,
    penalty: tl.tensor,
    temperature: tl.tensor,
    vocab: tl.constexpr,
    width: tl.constexpr,
    context_size: tl.constexpr,
    places: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Go on to the next token of each utterance, or over a block of blanks. Grid: (N,).

    Args:
        logits: (N, ``width``, ``vocab``), of the next frames of each utterance, of any floating
            type; the arithmetic is float32.
        lens: (N,) int64.
        place: (N,) int64, the next frame; changed in place like the next six.
        num_here: (N,) int64, tokens that this frame has emitted.
        log_probs: (N,) float64, of the symbols taken.
        contexts: (N, ``context_size``) int64.
        num_tokens: (N,) int64.
        tokens: (N, ``most_tokens``) int64.
        times: (N, ``most_tokens``) int64, the frame of each token.
        rows: (N, ``width``) int64, which of all frames to read next.
        num_frames: from one utterance to the next.
        most_tokens: room for tokens.
        most_here: tokens after which a frame is left.
        blank: its id.
        penalty: subtracted from the logit of blank.
        temperature: divides the logits.
        vocab: symbols.
        width: frames that are read at a time, a power of two.
        context_size: tokens that the decoder sees.
        places: power of two, at least ``context_size``.
        block: power of two: symbols that are read at a time.
    """
    n = tl.program_id(0).to(tl.int64)
    logits += n * width * vocab
    step = tl.arange(0, width)
    _, total, best = _softmax_rows(
        logits, step, step >= 0, blank, penalty, temperature, vocab, block
    )

    at = tl.load(place + n)
    here = tl.load(num_here + n)
    end = tl.load(lens + n)
    frame = at + step
    is_inside = frame < end
    first = tl.min(tl.where(is_inside & (best != blank), step, width), 0)
    taken = tl.sum(tl.where(is_inside & (step <= first), -total, 0.0).to(tl.float64), 0)
    has_token = first < width
    token = tl.sum(tl.where(step == first, best, 0), 0).to(tl.int64)
    count = tl.load(num_tokens + n)
    # Blanks leave their frames; a token leaves its frame if it is the last that may be there.
    here = tl.where(first == 0, here, 0) + 1
    is_full = has_token & (here >= most_here)
    after = tl.where(has_token, at + first + is_full.to(tl.int64), tl.minimum(at + width, end))
    here = tl.where(has_token & (here < most_here), here, 0)

    one = tl.arange(0, 1)
    context = _grown_contexts(
        contexts, n + one, one == 0, has_token & (one == 0), token + one, context_size, places
    )
    log_prob = tl.load(log_probs + n) + taken

    tl.debug_barrier()
    spot = tl.arange(0, places)[None, :] + one[:, None]
    tl.store(contexts + n * context_size + spot, context, mask=spot < context_size)
    # Blocks of two: the interpreter of Triton 3.2 stores one element whatever the mask says.
    pair = tl.arange(0, 2)
    is_new = has_token & (pair == 0)
    tl.store(tokens + n * most_tokens + count + pair, token + pair, mask=is_new)
    tl.store(times + n * most_tokens + count + pair, at + first + pair, mask=is_new)
    tl.store(num_tokens + n, count + has_token.to(tl.int64))
    tl.store(place + n, after)
    tl.store(num_here + n, here)
    tl.store(log_probs + n, log_prob)
    read = tl.minimum(after + step, num_frames - 1)
    tl.store(rows + n * width + step, n * num_frames + read)
