"""Calibration of the confidence of words: a map fitted to what was right on a set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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

    @property
    def about(self) -> str:
        """A line for people."""
        return (
            f"confidence is calibrated on {self.fitted_on}: {self.words} words, {self.wrong} wrong"
        )


def _logit(confidence: float) -> float:
    kept = min(max(confidence, _NEAREST), 1.0 - _NEAREST)
    return math.log(kept / (1.0 - kept))


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
