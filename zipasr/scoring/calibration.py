"""Confidence of words: a map fitted to what was right on a set, and how reliable it is."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zipasr.base.constants import NORMAL_95
from zipasr.base.errors import DataError
from zipasr.base.files import write_text
from zipasr.scoring.confidence_intervals import Interval
from zipasr.scoring.decodings import UtteranceRecord
from zipasr.scoring.result_files import Transcript
from zipasr.scoring.word_errors import GAP, AlignedPair, align
from zipasr.text.timed_words import Word

# Confidence nearer to 0 or 1 counts as this.
_NEAREST = 1e-6

_MOST_STEPS = 100
_CONVERGED = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A map from the confidence of a word to the probability that it is right.

    It is ``sigmoid(scale * logit(confidence) + offset)``, which keeps the order of words.

    Attributes:
        scale: at least 0.
        offset: of the logit.
        fitted_on: name of the set.
        words: recognised there.
        wrong: of these.
    """

    scale: float
    offset: float
    fitted_on: str = ""
    words: int = 0
    wrong: int = 0

    def __post_init__(self) -> None:
        """Refuse a map that would not keep the order.

        Raises:
            TypeError: the scale or the offset is no number.
            ValueError: it is not finite, or the scale is negative.
        """
        if not (math.isfinite(self.scale) and math.isfinite(self.offset) and self.scale >= 0):
            raise ValueError(f"a scale of {self.scale} and an offset of {self.offset} are no map")

    def of(self, confidence: float) -> float:
        """Return the probability that a word of this confidence is right."""
        # By the hyperbolic tangent, which overflows nowhere.
        return 0.5 + 0.5 * math.tanh(0.5 * (self.scale * _logit(confidence) + self.offset))

    def calibrated(self, words: Iterable[Word]) -> list[Word]:
        """Return words with these probabilities as their confidence."""
        return [replace(word, confidence=self.of(word.confidence)) for word in words]

    @property
    def about(self) -> str:
        """A line for people."""
        return (
            f"confidence is calibrated on {self.fitted_on}: {self.words} words, {self.wrong} wrong"
        )


def _logit(confidence: float) -> float:
    kept = min(max(confidence, _NEAREST), 1.0 - _NEAREST)
    return math.log(kept / (1.0 - kept))


def read_calibrations(path: Path) -> dict[str, Calibration]:
    """Read a file of calibrations by the way of decoding; nothing where there is no file.

    Raises:
        DataError: the file is damaged.
    """
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return {way: Calibration(**values) for way, values in known.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as problem:
        raise DataError(
            f"{path}, the calibration of confidence, is damaged.",
            "remove it; ./decode.py --calibrate 1 makes it again.",
        ) from problem


def write_calibrations(path: Path, calibrations: Mapping[str, Calibration]) -> None:
    """Write calibrations by the way of decoding."""
    values = {way: asdict(one) for way, one in calibrations.items()}
    write_text(path, json.dumps(values, indent=1) + "\n")


def fitted(confidences: Sequence[float], are_right: Sequence[bool], fitted_on: str) -> Calibration:
    """Fit a map to recognised words by the greatest likelihood.

    Targets are a little less than 1 and more than 0, so that a set without errors gives no
    certainty. Where confidence says nothing, or the opposite, all words get one probability.

    Args:
        confidences: of the words, before calibration; at least one.
        are_right: whether each word was said.
        fitted_on: name of the set.

    Source: Platt, "Probabilistic outputs for support vector machines" (1999), with Newton's method
    as in Lin, Lin and Weng, "A note on Platt's probabilistic outputs" (2007).
    """
    right = np.asarray(are_right, dtype=bool)
    num_right, num_wrong = int(right.sum()), int((~right).sum())
    likely, unlikely = (num_right + 1) / (num_right + 2), 1 / (num_wrong + 2)
    targets = np.where(right, likely, unlikely)
    inputs = np.array([[_logit(one), 1.0] for one in confidences])
    weights = _most_likely(inputs, targets)
    if weights[0] < 0:
        weights = np.array([0.0, _logit(float(targets.mean()))])
    return Calibration(
        scale=float(weights[0]),
        offset=float(weights[1]),
        fitted_on=fitted_on,
        words=len(right),
        wrong=num_wrong,
    )


def _most_likely(inputs: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights (K,) of a logistic regression on (N, K) inputs with (N,) targets."""
    weights = np.zeros(inputs.shape[1])
    loss = _loss(weights, inputs, targets)
    for _ in range(_MOST_STEPS):
        share = 1.0 / (1.0 + np.exp(-(inputs @ weights)))
        gradient = inputs.T @ (share - targets)
        curvature = (inputs * (share * (1.0 - share))[:, None]).T @ inputs
        step = np.linalg.solve(curvature + 1e-12 * np.eye(len(weights)), gradient)
        # A whole step may lead too far from the beginning.
        length = 1.0
        while length > _CONVERGED and _loss(weights - length * step, inputs, targets) > loss:
            length *= 0.5
        weights = weights - length * step
        before, loss = loss, _loss(weights, inputs, targets)
        if before - loss < _CONVERGED:
            break
    return weights


def _loss(
    weights: NDArray[np.float64], inputs: NDArray[np.float64], targets: NDArray[np.float64]
) -> float:
    """Return the cross-entropy, summed over the words."""
    logits = inputs @ weights
    return float((np.logaddexp(0.0, logits) - targets * logits).sum())


# At most so many bins, with at least so many words each.
BINS = 10
LEAST_WORDS = 50


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
    share, square = count / total, NORMAL_95**2 / total
    middle = (share + square / 2) / (1 + square)
    half = NORMAL_95 / (1 + square) * math.sqrt(share * (1 - share) / total + square / total / 4)
    return Interval(max(0.0, middle - half), min(1.0, middle + half))
