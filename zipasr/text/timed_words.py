"""Words with times from tokens with times; words of overlapping windows joined.

A character of Chinese or Japanese counts as a word.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from zipasr.text.scripts import is_border

# Sentencepiece marks the beginning of a word so.
WORD_START = "\u2581"

# The same word in two windows, at times that differ by less than this, was said once.
SAME_MOMENT = 0.4


@dataclass(frozen=True, slots=True)
class Token:
    """A token of the vocabulary with its start and end in seconds.

    Attributes:
        text: the piece, with the mark of sentencepiece if it begins a word.
        start: second.
        end: second.
        log_prob: natural logarithm of its probability, where it is known.
    """

    text: str
    start: float
    end: float
    log_prob: float = 0.0

    @property
    def confidence(self) -> float:
        """Probability that the model gives to it, 0 to 1."""
        return math.exp(self.log_prob)


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its start and end in seconds.

    Attributes:
        text: without marks.
        start: second.
        end: second.
        confidence: 0 to 1: of a recognised word the mean of the probabilities of its tokens, or
            what a calibration makes of it; of an aligned one their geometric mean, each token
            weighted by its length.
        tokens: that it consists of, where they are known.
    """

    text: str
    start: float
    end: float
    confidence: float = 1.0
    tokens: tuple[Token, ...] = ()

    def later(self, seconds: float) -> Word:
        """Return the same word with its tokens on a clock that began ``seconds`` earlier."""
        tokens = tuple(
            replace(one, start=one.start + seconds, end=one.end + seconds) for one in self.tokens
        )
        return replace(self, start=self.start + seconds, end=self.end + seconds, tokens=tokens)


Written = Callable[[str], str]
"""Returns the text that joined pieces stand for, such as ``Tokenizer.written``."""


def words_of_tokens(tokens: Sequence[Token], written: Written = str) -> list[Word]:
    """Join the tokens of a recognised text to words.

    A word begins with a token that has the mark, and lasts from the start of its first token to
    the end of its last one. A mark by itself belongs to the token that follows, if that has none.
    Pieces that begin with a character of Chinese or Japanese, or follow one, begin a word too.
    """
    return [
        _word(group, fmean(one.confidence for one in group), written) for group in _grouped(tokens)
    ]


def aligned_words(tokens: Sequence[Token], written: Written = str) -> list[Word]:
    """Join aligned tokens to words; each counts in the confidence as long as it lasts."""
    return [_word(group, _mean_over_time(group), written) for group in _grouped(tokens)]


def _word(tokens: Sequence[Token], confidence: float, written: Written) -> Word:
    text = written("".join(one.text for one in tokens).replace(WORD_START, ""))
    return Word(text, tokens[0].start, tokens[-1].end, confidence, tuple(tokens))


def _mean_over_time(tokens: Sequence[Token]) -> float:
    seconds = [one.end - one.start for one in tokens]
    total = sum(one.log_prob * length for one, length in zip(tokens, seconds, strict=True))
    return math.exp(total / sum(seconds))


def _grouped(tokens: Sequence[Token]) -> list[list[Token]]:
    """Group tokens by words; marks by themselves are left out."""
    words: list[list[Token]] = []
    is_new = True
    for one in tokens:
        is_new = is_new or one.text.startswith(WORD_START)
        if one.text.replace(WORD_START, ""):
            if is_new or is_border(words[-1][-1].text, one.text):
                words.append([])
            words[-1].append(one)
            is_new = False
    return words


def join_windows(left: Sequence[Word], right: Sequence[Word], border: float) -> list[Word]:
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


def _put_across(left: Sequence[Word], right: Sequence[Word], border: float) -> list[Word]:
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


def _is_same(word: Word, other: Word, within: float = SAME_MOMENT) -> bool:
    return word.text == other.text and abs(word.start - other.start) <= within
