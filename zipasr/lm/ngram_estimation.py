"""Sentences of a text, and n-gram models estimated from them."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zipasr.lm.ngram import END, NEVER, START, NgramLm, Ngrams, Words
from zipasr.lm.ngram_levels import ngram_lm

Ids = NDArray[np.int32]
Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sentences:
    """Sequences of ids, 4 bytes an id however many sentences there are.

    Attributes:
        ids: of all sentences, one after the other.
        ends: (N,), where each sentence ends in ``ids``.
    """

    ids: Ids
    ends: Places

    @classmethod
    def of(cls, sequences: Iterable[Sequence[int]]) -> Sentences:
        """Gather sequences; they may be more than memory holds as lists."""
        ids, ends = array("i"), array("q")
        for sequence in sequences:
            ids.extend(sequence)
            ends.append(len(ids))
        return cls(np.array(ids, dtype=np.int32), np.array(ends, dtype=np.int64))

    @property
    def starts(self) -> Places:
        """(N,), where each sentence starts in ``ids``."""
        return np.concatenate((np.zeros(min(1, len(self.ends)), dtype=np.int64), self.ends[:-1]))

    @property
    def lens(self) -> Places:
        """(N,), length of each sentence."""
        return self.ends - self.starts

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> list[int]:
        start = int(self.ends[index - 1]) if index else 0
        ids: list[int] = self.ids[start : int(self.ends[index])].tolist()
        return ids


Floats = NDArray[np.float64]

# Taken off each count where the text is too small to say how much: no n-gram, or every one, was
# seen only once.
_DISCOUNT = 0.5


class _Level(NamedTuple):
    """The different n-grams of one length in a text, W words known.

    Attributes:
        prefix: index of all words but the last among the n-grams one shorter.
        suffix: the same of all words but the first.
        last: id of the last word.
        counts: how often the text has it.
        is_first: whether it begins with the start of a sentence.
        at: for each place of the text, the n-gram that ends there; -1 where none does.
    """

    prefix: Places
    suffix: Places
    last: Places
    counts: Places
    is_first: NDArray[np.bool_]
    at: Places


def kneser_ney(text: Sentences, names: Sequence[str], order: int) -> NgramLm:
    """Estimate a back-off n-gram model.

    Unmodified Kneser-Ney smoothing without cut-offs. One discount for each length n comes from the
    numbers n1 and n2 of n-grams that the text has once and twice: n1 / (n1 + 2 n2). Below the
    longest, an n-gram counts with the number of different words before it; only if it begins with
    the start of a sentence, with how often the text has it. Single words are not discounted: what
    the text does not have has no probability.

    The formulas are those of icefall's script; the numbers differ in texts that are too small:

    - Where the text has no n-gram of a length once, or none twice, the formula gives a discount of
      0, or of 1, which takes everything from n-grams that are there; here it is a half.
    - Where every word of the text follows a context, nothing is left to back off to, and what the
      discount took is given back to the words, as SRILM does, so that they add up to 1.

    Args:
        text: sentences of ids; each gets a start and an end.
        names: of the ids.
        order: length of the longest n-grams.

    Returns:
        A model whose probabilities add up to 1 after every context.

    Source: Kneser and Ney, "Improved backing-off for m-gram language modeling", 1995; numbers as
    of SRILM with ``-ukndiscount -gtNmin 0 -kn-modify-counts-at-end``.
    """
    start, end = len(names), len(names) + 1
    words = (*names, START, END)
    stream, place = _stream(text, start, end)
    levels = [_words(stream, len(words), start)]
    for n in range(2, order + 1):
        levels.append(_longer(levels[-1], stream, place, n, len(words)))
    probs, backoffs = [_single(levels)], []
    for level in range(1, order):
        prob, backoff = _discounted(levels[level], _counts(levels, level), probs)
        probs.append(prob)
        backoffs.append(backoff)
    return _model(levels, probs, backoffs, words)


def _stream(text: Sentences, start: int, end: int) -> tuple[Places, Places]:
    """All sentences with their starts and ends, and the place of each id in its sentence."""
    widths = text.lens + 2
    ends = np.cumsum(widths)
    stream = np.full(int(widths.sum()), -1, dtype=np.int64)
    stream[ends - widths], stream[ends - 1] = start, end
    stream[stream < 0] = text.ids
    return stream, np.arange(len(stream)) - np.repeat(ends - widths, widths)


def _words(stream: Places, num_words: int, start: int) -> _Level:
    """The single words; their index is their id."""
    ids, nothing = np.arange(num_words), np.zeros(num_words, dtype=np.int64)
    count = np.bincount(stream, minlength=num_words)
    return _Level(nothing, nothing, ids, count, ids == start, stream)


def _longer(below: _Level, stream: Places, place: Places, n: int, num_words: int) -> _Level:
    """The n-grams one word longer than those ``below``."""
    here = np.flatnonzero(place >= n - 1)
    keys = below.at[here - 1] * num_words + stream[here]
    different, index, count = np.unique(keys, return_inverse=True, return_counts=True)
    suffix = np.empty(len(different), dtype=np.int64)
    suffix[index] = below.at[here]
    at = np.full(len(stream), -1, dtype=np.int64)
    at[here] = index
    prefix, last = np.divmod(different, num_words)
    return _Level(prefix, suffix, last, count, below.is_first[prefix], at)


def _counts(levels: Sequence[_Level], level: int) -> Places:
    """What the n-grams count for: different words before them, or how often they occur."""
    own = levels[level]
    if level + 1 == len(levels):
        return own.counts
    before = np.bincount(levels[level + 1].suffix, minlength=len(own.counts))
    return np.where(own.is_first, own.counts, before)


def _discount(counts: Places) -> float:
    """What is taken off each count, from how often the text has each n-gram of a length."""
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    return once / (once + 2 * twice) if once and twice else _DISCOUNT


def _single(levels: Sequence[_Level]) -> Floats:
    """Probabilities of single words."""
    counts: Floats = np.where(levels[0].is_first, 0, _counts(levels, 0)).astype(np.float64)
    return counts / float(counts.sum())


def _discounted(own: _Level, counts: Places, probs: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Probabilities of n-grams, and the weights of the contexts before their last words.

    Args:
        own: the n-grams, of two words or more.
        counts: of each.
        probs: probabilities of all shorter ones.
    """
    lower, discount = probs[-1], _discount(own.counts)
    total = np.bincount(own.prefix, weights=counts, minlength=len(lower))
    followers = np.bincount(own.prefix, minlength=len(lower))
    left = discount * followers / np.maximum(total, 1)
    others = 1 - np.bincount(own.prefix, weights=lower[own.suffix], minlength=len(lower))
    # Where every word there is has followed, there is nothing to back off to.
    is_full = followers == (probs[0] > 0).sum()
    prob = (counts - discount) / total[own.prefix]
    prob /= np.where(is_full, 1 - left, 1.0)[own.prefix]
    return prob, np.where(is_full, 1.0, left) / np.where(is_full, 1.0, others)


def _model(
    levels: Sequence[_Level], probs: Sequence[Floats], backoffs: Sequence[Floats], words: Words
) -> NgramLm:
    """Keep the n-grams that have a probability."""
    by_length = []
    ids = np.zeros((1, 0), dtype=np.int32)
    is_word = (probs[0] > 0) | levels[0].is_first
    numbers = is_word.cumsum() - 1
    for level, (own, prob) in enumerate(zip(levels, probs, strict=True)):
        ids = np.concatenate((ids[own.prefix], numbers[own.last, None]), axis=1).astype(np.int32)
        prob = np.where(own.is_first & (prob == 0), 10.0**NEVER, prob)
        log10 = np.log10(prob, out=np.full_like(prob, -math.inf), where=prob > 0)
        weights = np.full(len(prob), np.nan)
        if level < len(backoffs):
            is_context = np.bincount(levels[level + 1].prefix, minlength=len(prob)) > 0
            weights[is_context] = np.log10(backoffs[level][is_context])
        is_kept = log10 > -math.inf
        by_length.append(Ngrams(ids[is_kept], log10[is_kept], weights[is_kept]))
    names = [words[n] for n in np.flatnonzero(is_word)]
    return ngram_lm(names, by_length)
