"""Reliability of the confidence of words: how often those of a confidence are right."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from zipasr.scoring.decodings import UtteranceRecord
from zipasr.scoring.result_files import Transcript
from zipasr.scoring.statistics import Interval
from zipasr.scoring.word_errors import GAP, AlignedPair, align

# At most so many bins, with at least so many words each.
BINS = 10
LEAST_WORDS = 50

# Of the normal distribution, for an interval that holds the true value in 95 of 100 cases.
_QUANTILE = 1.96


class Bin(NamedTuple):
    """Words of similar confidence.

    Attributes:
        low: least confidence.
        high: greatest.
        words: how many there are.
        confidence: mean of them.
        right: share that was said, 0 to 1.
        interval: that this share is known to.
    """

    low: float
    high: float
    words: int
    confidence: float
    right: float
    interval: Interval


class Reliability(NamedTuple):
    """Reliability of the words of a test set.

    Attributes:
        bins: the least confidence first.
        words: of all of them.
        error: expected calibration error, in percent: how far confidence and the share of right
            words are from each other in a bin, in the mean over words.
    """

    bins: list[Bin]
    words: int
    error: float


def word_outcomes(
    records: Iterable[UtteranceRecord | Transcript],
) -> tuple[list[float], list[bool]]:
    """Return the confidence of all recognised words where it is known, and which are right."""
    confidences: list[float] = []
    outcomes: list[bool] = []
    for record in records:
        if len(record.confidences) == len(record.hyp):
            confidences += record.confidences
            outcomes += are_right(align(record.ref, record.hyp))
    return confidences, outcomes


def are_right(pairs: Iterable[AlignedPair]) -> list[bool]:
    """Say of each recognised word whether it was said."""
    return [pair.is_correct for pair in pairs if pair.hyp != GAP]


def reliability(confidences: Sequence[float], outcomes: Sequence[bool]) -> Reliability:
    """Compare confidence with what was right, in bins of equally many words.

    Bins of equal width would hold nearly all words of a good model in the last one, and say little.

    Source: Nguyen and O'Connor, "Posterior calibration and exploratory analysis for natural
    language processing models" (2015).
    """
    total = len(confidences)
    order = np.argsort(confidences, kind="stable")
    num_bins = min(BINS, max(1, total // LEAST_WORDS))
    parts = np.array_split(order, num_bins) if total else []
    bins = [_bin([confidences[n] for n in part], [outcomes[n] for n in part]) for part in parts]
    off = sum(one.words * abs(one.confidence - one.right) for one in bins)
    return Reliability(bins, total, 100.0 * off / max(1, total))


def _bin(confidences: Sequence[float], outcomes: Sequence[bool]) -> Bin:
    words, right = len(confidences), sum(outcomes)
    return Bin(
        low=confidences[0],
        high=confidences[-1],
        words=words,
        confidence=sum(confidences) / words,
        right=right / words,
        interval=share_interval(right, words),
    )


def share_interval(count: int, total: int) -> Interval:
    """Return the range in which a share is, of which ``count`` of ``total`` were seen.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference" (1927).
    """
    share, square = count / total, _QUANTILE**2 / total
    middle = (share + square / 2) / (1 + square)
    half = _QUANTILE / (1 + square) * math.sqrt(share * (1 - share) / total + square / total / 4)
    return Interval(max(0.0, middle - half), min(1.0, middle + half))
