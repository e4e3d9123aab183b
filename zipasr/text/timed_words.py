"""Words with times from tokens with times; words of overlapping windows joined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

# Sentencepiece marks the beginning of a word so.
WORD_START = "\u2581"

# The same word in two windows, at times that differ by less than this, was said once.
SAME_MOMENT = 0.4


class TimedPiece(NamedTuple):
    """A token with its start and end in seconds.

    Attributes:
        piece: with the mark, if it begins a word.
        start: second.
        end: second.
        log_prob: natural logarithm of its probability, where it is known.
    """

    piece: str
    start: float
    end: float
    log_prob: float = 0.0


class TimedWord(NamedTuple):
    """A word with its start and end in seconds."""

    text: str
    start: float
    end: float


def words_of_pieces(pieces: Sequence[TimedPiece]) -> list[TimedWord]:
    """Join pieces to words.

    A word begins with a piece that has the mark, and lasts from the start of its first piece to
    the end of its last one. A mark by itself belongs to the piece that follows, if that has none.
    """
    return [
        TimedWord(text_of(word), word[0].start, word[-1].end) for word in pieces_of_words(pieces)
    ]


def text_of(word: Sequence[TimedPiece]) -> str:
    """Return the text of the pieces of a word."""
    return "".join(one.piece for one in word).replace(WORD_START, "")


def pieces_of_words(pieces: Sequence[TimedPiece]) -> list[list[TimedPiece]]:
    """Group pieces by words; marks by themselves are left out."""
    words: list[list[TimedPiece]] = []
    is_new = True
    for one in pieces:
        is_new = is_new or one.piece.startswith(WORD_START)
        if one.piece.replace(WORD_START, ""):
            if is_new:
                words.append([])
            words[-1].append(one)
            is_new = False
    return words


def join_windows(
    left: Sequence[TimedWord], right: Sequence[TimedWord], border: float
) -> list[TimedWord]:
    """Join the words of two windows that overlap around ``border``.

    Each window is believed on its own side of the border: at its edge a word may be cut. A word
    that both have at the border is taken once.

    Args:
        left: of the earlier window, in order.
        right: of the later window, in order; times of the same clock.
        border: seconds.
    """
    before = [word for word in left if word.start < border]
    after = [word for word in right if word.start >= border]
    lost = _put_across(left, right, border)
    if not lost and before and after and _is_same(before[-1], after[0]):
        after = after[1:]
    return [*before, *lost, *after]


def _put_across(
    left: Sequence[TimedWord], right: Sequence[TimedWord], border: float
) -> list[TimedWord]:
    """Return the word that each window puts on the other's side of the border, if there is one."""
    later = next((word for word in left if word.start >= border), None)
    earlier = next((word for word in reversed(right) if word.start < border), None)
    if later is None or earlier is None or not _is_same(later, earlier):
        return []
    # Unless they are two words, which the other window has nearer by on the same side.
    distance = abs(later.start - earlier.start)
    there = [word for word in right if word.start >= border and _is_same(word, later, distance)]
    here = [word for word in left if word.start < border and _is_same(word, earlier, distance)]
    return [] if there or here else [earlier]


def _is_same(word: TimedWord, other: TimedWord, within: float = SAME_MOMENT) -> bool:
    return word.text == other.text and abs(word.start - other.start) <= within
