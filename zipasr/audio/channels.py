"""Measures of the channels of a recording, and how one channel is made of them.

Everything is measured on the differences of samples a quarter of a millisecond apart: they have no
DC, and in them hum is 20 dB lower beside speech than in the samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ONE_CHANNEL = "one channel"
MIXED = "mixed down"
LOUDEST = "the one channel that is not silent"

# Frames in which levels are measured, in seconds.
_FRAME = 0.02
# Differences are taken over 1 / 4000 s: the vowels of speech are loudest in them.
_DIFFERENCES_PER_SECOND = 4000
# A channel this far (40 dB) below the loudest one carries no speech of its own.
_SILENT_SHARE = 1e-4
# Decibels from the quiet to the loud frames: noise has 1 to 3, hum fewer, speech 15 to 60.
_FLAT, _LIVELY = 6.0, 10.0
_QUIET_PERCENT, _LOUD_PERCENT = 10.0, 99.0
# Correlation of channels that are the same sound; its negative is the opposite polarity.
_ALIKE = 0.5
# Correlation of the levels of channels in which the same person speaks at the same time.
_SAME_SPEECH = 0.6
# Levels further down say nothing about who speaks.
_RANGE_DB = 30.0
_NOTHING = 1e-12
_NO_CHANGE = 1e-3


class Mixing(NamedTuple):
    """How one channel is made.

    Attributes:
        weights: of the channels.
        what: the same in words.
    """

    weights: tuple[float, ...]
    what: str


class ChannelMeasures:
    """Levels and correlations of the channels of a recording, block by block.

    Args:
        channels: their number.
        rate: samples a second.
    """

    def __init__(self, channels: int, rate: int) -> None:
        self._size = max(1, round(_FRAME * rate))
        self._lag = max(1, round(rate / _DIFFERENCES_PER_SECOND))
        nothing = np.zeros((0, channels), np.float32)
        self._before = self._rest = self._rest_of_steps = nothing
        self._levels: list[NDArray[np.float32]] = []
        self._steps: list[NDArray[np.float32]] = []
        self._products = np.zeros((channels, channels))

    def add(self, block: NDArray[np.float32]) -> None:
        """Take the next samples (num_samples, channels)."""
        self._rest = self._framed(np.concatenate([self._rest, block]), self._levels)
        if block.shape[1] == 1:
            return
        samples = np.concatenate([self._before, block])
        steps = samples[self._lag :] - samples[: -self._lag]
        self._before = samples[-self._lag :]
        self._products += steps.T @ steps
        self._rest_of_steps = self._framed(
            np.concatenate([self._rest_of_steps, steps]), self._steps
        )

    def _framed(
        self, samples: NDArray[np.float32], levels: list[NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Append the variance of each whole frame; return the samples behind the last one."""
        count = len(samples) // self._size
        if count:
            whole = samples[: count * self._size].reshape(count, self._size, samples.shape[1])
            levels.append(whole.var(axis=1))
        return samples[count * self._size :]

    def loud_level(self, weights: Sequence[float]) -> float:
        """Level of the loudest hundredth of the frames, in decibels of full scale.

        Args:
            weights: of the channels; of those that are used, the loudest counts.
        """
        levels = self._joined(self._levels)[:, np.asarray(weights) != 0.0]
        if not len(levels):
            return 0.0
        loud = np.percentile(levels, _LOUD_PERCENT, axis=0).max(initial=0.0)
        return float(10.0 * np.log10(2.0 * loud + _NOTHING))

    def mixing(self) -> Mixing:
        """Return how one channel is made of all."""
        count = len(self._products)
        if count == 1:
            return Mixing((1.0,), ONE_CHANNEL)
        steps = self._joined(self._steps)
        energies = np.diag(self._products)
        if not np.isfinite(self._products).all():
            return Mixing((1.0 / count,) * count, MIXED)
        decibels = 10.0 * np.log10(steps + _NOTHING)
        spans = _spans(decibels, count)
        return _mixing(self._products, energies, decibels, spans)

    def _joined(self, parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        nothing = np.zeros((0, len(self._products)), np.float32)
        return np.concatenate(parts) if parts else nothing


def _spans(decibels: NDArray[np.floating], count: int) -> NDArray[np.floating]:
    """Return the decibels from the quiet to the loud frames of each channel."""
    if not len(decibels):
        return np.zeros(count)
    quiet, loud = np.percentile(decibels, [_QUIET_PERCENT, _LOUD_PERCENT], axis=0)
    spans: NDArray[np.floating] = loud - quiet
    return spans


def _mixing(
    products: NDArray[np.float64],
    energies: NDArray[np.float64],
    decibels: NDArray[np.floating],
    spans: NDArray[np.floating],
) -> Mixing:
    is_lively = spans >= _LIVELY
    # Of channels with speech the loudest; hum may be louder than all.
    first = int(np.argmax(np.where(is_lively, energies, -1.0 if is_lively.any() else energies)))
    weights = np.zeros(len(energies))
    weights[first] = 1.0
    seen: set[str] = set()
    for channel in range(len(energies)):
        if channel == first:
            continue
        kind, weight = _beside(first, channel, products, decibels, spans)
        weights[channel] = weight
        seen.add(kind)
    return Mixing(tuple((weights / np.abs(weights).sum()).tolist()), _in_words(seen, weights))


_SILENT, _DEAD, _SAME = "silent", "dead", "same"
_OPPOSITE, _LATER, _OTHER = "opposite", "later", "other"


def _beside(
    first: int,
    other: int,
    products: NDArray[np.float64],
    decibels: NDArray[np.floating],
    spans: NDArray[np.floating],
) -> tuple[str, float]:
    """Say what a channel is beside the first one, and its weight."""
    energy = products[first, first]
    if products[other, other] <= energy * _SILENT_SHARE:
        return _SILENT, 0.0
    correlation = products[first, other] / np.sqrt(energy * products[other, other])
    if correlation <= -_ALIKE:
        return _OPPOSITE, -1.0
    if correlation >= _ALIKE:
        return _SAME, 1.0
    is_same = _level_correlation(decibels[:, first], decibels[:, other]) >= _SAME_SPEECH
    if spans[first] < _LIVELY:
        # In noise, channels correlate less.
        return (_OPPOSITE, -1.0) if is_same and correlation < 0.0 else (_SAME, 1.0)
    if is_same:
        return _LATER, 0.0
    return (_DEAD, 0.0) if spans[other] < _FLAT else (_OTHER, 1.0)


def _level_correlation(left: NDArray[np.floating], right: NDArray[np.floating]) -> float:
    """Return the correlation of two courses of levels, where either is not silent."""
    if not len(left):
        return 0.0
    floors = [np.percentile(level, _LOUD_PERCENT) - _RANGE_DB for level in (left, right)]
    is_loud = (left > floors[0]) | (right > floors[1])
    pair = np.stack(
        [
            np.maximum(level[is_loud], floor)
            for level, floor in zip((left, right), floors, strict=True)
        ]
    )
    if pair.shape[1] < 2 or (pair.std(axis=1) < _NO_CHANGE).any():
        return 0.0
    return float(np.corrcoef(pair)[0, 1])


def _in_words(seen: set[str], weights: NDArray[np.float64]) -> str:
    if seen == {_SILENT}:
        return LOUDEST
    used = int((weights != 0.0).sum())
    what = MIXED if used > 1 else "one of them"
    notes = {
        _OPPOSITE: "channels of opposite polarity are turned round",
        _OTHER: "different voices on the channels",
        _DEAD: "without channels that hold hum or noise and no speech",
        _LATER: "without channels that hold the same speech later or in noise",
        _SILENT: "without silent channels",
    }
    return "; ".join([what, *(note for kind, note in notes.items() if kind in seen)])
