"""Times of tokens, and starts and ends of words from the moments at which they are emitted."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from zipasr.audio.speech_activity import Pause
from zipasr.text.timed_words import Token, Word

if TYPE_CHECKING:
    from torch import Tensor

    from zipasr.encoder.protocol import Geometry
    from zipasr.search.protocol import Utterance
    from zipasr.text.tokenizer import Tokenizer

# No word is shorter than this (seconds), unless the recording is too short for its words.
SHORTEST_WORD = 0.06

# A word begins so long after the beginning of the frame of its first token, and at least so long
# after the last token of the word before, which must be said first. Chosen on the dev set of the
# embedded recipe (benchmarks/word_times.py).
DELAY = 0.01
SHORTEST_TOKEN = 0.1

# A word that would begin in a pause begins at its end, if that is so near.
REACH = 0.16

# Where pauses are not known, a word ends at most so long after its last token.
LONGEST_TAIL = 0.3


def bounded(
    words: Sequence[Word], seconds: float, frame: float, pauses: Sequence[Pause] | None = None
) -> list[Word]:
    """Return the words of a recording with the times at which they begin and end.

    Words do not overlap, none is outside the sound, and each lasts at least ``SHORTEST_WORD``. A
    word lasts until the next one begins, or until a pause. The times of tokens stay those of their
    frames.

    Args:
        words: in order, with their tokens.
        seconds: length of the recording.
        frame: seconds of an encoder frame.
        pauses: of the recording, in order; ``None`` if they are not known.
    """
    if not words:
        return []
    shortest = min(SHORTEST_WORD, seconds / len(words))
    starts = _spaced(_begins(words, pauses or ()), seconds, shortest)
    nexts = [*starts[1:], seconds]
    ends = [
        min(max(_end(word, after, pauses), start + shortest), after)
        for word, start, after in zip(words, starts, nexts, strict=True)
    ]
    last = max(0.0, seconds - frame)
    return [
        replace(
            word,
            start=start,
            end=end,
            tokens=tuple(
                replace(one, start=min(one.start, last), end=min(one.end, seconds))
                for one in word.tokens
            ),
        )
        for word, start, end in zip(words, starts, ends, strict=True)
    ]


def _first(word: Word) -> float:
    return word.tokens[0].start if word.tokens else word.start


def _last(word: Word) -> float:
    return word.tokens[-1].start if word.tokens else word.start


def _begins(words: Sequence[Word], pauses: Sequence[Pause]) -> list[float]:
    """Return where each word begins if there were no other one in the way."""
    begins = [_first(word) + DELAY for word in words]
    begins[1:] = [
        max(begin, _last(before) + SHORTEST_TOKEN)
        for begin, before in zip(begins[1:], words, strict=False)
    ]
    return [_after_pause(begin, pauses) for begin in begins]


def _after_pause(moment: float, pauses: Sequence[Pause]) -> float:
    """Return the end of the pause in which a moment lies, if it is near, else the moment."""
    place = bisect_right(pauses, moment, key=lambda pause: pause.start) - 1
    if place >= 0 and moment < pauses[place].end <= moment + REACH:
        return pauses[place].end
    return moment


def _spaced(begins: Sequence[float], seconds: float, shortest: float) -> list[float]:
    """Move moments as little as it takes for each to leave ``shortest`` seconds to its word."""
    room = shortest * np.arange(len(begins))
    moved = np.maximum.accumulate(np.maximum(begins, 0.0) - room) + room
    limits = seconds - shortest * len(begins) + room
    placed: list[float] = np.minimum(moved, limits).tolist()
    return placed


def _end(word: Word, after: float, pauses: Sequence[Pause] | None) -> float:
    """Return where a word ends before ``after``, when the next word begins or the sound ends."""
    last = _last(word)
    if pauses is None:
        return min(after, last + LONGEST_TAIL)
    place = bisect_right(pauses, last, key=lambda pause: pause.start)
    if place < len(pauses) and pauses[place].start < after:
        return pauses[place].start
    return after


def timed_tokens(
    tokenizer: Tokenizer,
    geometry: Geometry,
    utterance: Utterance,
    log_probs: Tensor | None = None,
    start: float = 0.0,
    token_log_probs: Sequence[float] | None = None,
) -> list[Token]:
    """Return the tokens of an utterance and when they were said.

    Args:
        tokenizer: of its tokens.
        geometry: of the encoder.
        utterance: what was recognised.
        log_probs: (T', V) of the CTC head, to align with; by default tokens begin when the search
            emitted them.
        start: second at which the utterance begins.
        token_log_probs: of its tokens, where they are known.
    """
    pieces, times = tokenizer.pieces(), _times(utterance, log_probs, geometry)
    known = token_log_probs or [0.0] * len(utterance.tokens)
    return [
        Token(pieces[token], start + begin, start + end, log_prob)
        for token, (begin, end), log_prob in zip(utterance.tokens, times, known, strict=True)
        if tokenizer.is_text(token)
    ]


def _times(
    utterance: Utterance, log_probs: Tensor | None, geometry: Geometry
) -> list[tuple[float, float]]:
    """Return when each token begins and ends, in seconds of the utterance."""
    from zipasr.search.forced_alignment import (
        ctc_spans,  # imports torch, which clients may not need
    )

    seconds = geometry.seconds_per_frame
    spans = None if log_probs is None else ctc_spans(log_probs, utterance.tokens)
    if spans is None:
        return [(seconds * f, seconds * (f + 1)) for f in utterance.frames]
    return [(seconds * span.start, seconds * span.end) for span in spans]
