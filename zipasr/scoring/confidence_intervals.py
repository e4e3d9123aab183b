"""Confidence intervals of error rates, and significance tests between two decodings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
CONFIDENCE = 0.95

# Resamples that are drawn at a time, so that memory stays small for large test sets.
_BLOCK = 500

Counts = NDArray[np.float64]


class Interval(NamedTuple):
    """A range that holds the true value with the probability ``CONFIDENCE``."""

    low: float
    high: float


class Comparison(NamedTuple):
    """Two decodings of the same utterances, in percent of the reference words.

    Attributes:
        difference: word error rate of the second minus that of the first.
        interval: bootstrap interval of the difference.
        p_value: of the matched-pairs test, two-sided: how probable so large a difference would be
            if both made equally many errors.
        better: utterances in which the second has fewer errors.
        worse: utterances in which it has more.
        equal: the others.
    """

    difference: float
    interval: Interval
    p_value: float
    better: int
    worse: int
    equal: int

    @property
    def is_significant(self) -> bool:
        """Whether the difference is unlikely to be chance."""
        return self.p_value < 1.0 - CONFIDENCE


def rate_interval(
    errors: Sequence[int], words: Sequence[int], resamples: int = RESAMPLES
) -> Interval:
    """Return the bootstrap interval of a word error rate in percent.

    Utterances are drawn anew with replacement, as many as there are; the words of an utterance
    stay together, since their errors depend on each other.

    Args:
        errors: of each utterance.
        words: of each reference.
        resamples: number of draws.

    Source: Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance
    evaluation", 2004.
    """
    lost, said = np.asarray(errors, dtype=float), np.asarray(words, dtype=float)
    return _interval(lost, said, 0, resamples)


def compare(
    first: Sequence[int], second: Sequence[int], words: Sequence[int], seed: int = 0
) -> Comparison:
    """Compare the errors that two decodings make in the same utterances.

    Args:
        first: errors of each utterance.
        second: errors of each utterance by the other decoding.
        words: of each reference.
        seed: of the draws.

    Raises:
        ValueError: the numbers of utterances differ.

    Source: the matched-pairs test of Gillick and Cox, "Some statistical issues in the comparison
    of speech recognition algorithms", 1989, with utterances as segments.
    """
    if not len(first) == len(second) == len(words):
        raise ValueError("both decodings need the same utterances")
    difference = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    total = max(1.0, float(np.sum(words)))
    return Comparison(
        difference=100.0 * float(difference.sum()) / total,
        interval=_interval(difference, np.asarray(words, dtype=float), seed, RESAMPLES),
        p_value=matched_pairs(difference),
        better=int((difference < 0).sum()),
        worse=int((difference > 0).sum()),
        equal=int((difference == 0).sum()),
    )


def matched_pairs(difference: Counts) -> float:
    """Return the two-sided p-value of differences per segment, (n,), being zero on average.

    The normal approximation needs some dozens of segments. Without any difference it is 1.
    """
    count = len(difference)
    if count < 2 or not difference.any():
        return 1.0
    spread = float(difference.std(ddof=1)) / math.sqrt(count)
    if spread == 0.0:
        return 0.0
    return math.erfc(abs(float(difference.mean())) / spread / math.sqrt(2.0))


def _interval(errors: Counts, words: Counts, seed: int, resamples: int) -> Interval:
    if len(errors) == 0:
        return Interval(0.0, 0.0)
    rates = np.concatenate(list(_resampled_rates(errors, words, seed, resamples)))
    tail = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(rates, [tail, 100.0 - tail])
    return Interval(float(low), float(high))


def _resampled_rates(errors: Counts, words: Counts, seed: int, resamples: int) -> Iterator[Counts]:
    generator = np.random.default_rng(seed)
    count = len(errors)
    for _ in range(resamples // _BLOCK):
        drawn = generator.integers(0, count, size=(_BLOCK, count))
        yield 100.0 * errors[drawn].sum(axis=1) / np.maximum(1.0, words[drawn].sum(axis=1))
