"""Pauses of a recording: stretches that are quiet beside the speech around them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zipasr.base.constants import SAMPLING_RATE

# Seconds of a frame whose level is measured.
FRAME = 0.01

# A pause lasts at least this long (seconds), as most closures of plosives do not; at the ends of
# the recording any quiet counts.
SHORTEST = 0.08

# Quiet is what lies in the lowest part of the range of levels, from their 5th to their 95th
# percentile; of the range only the upper part counts, since digital silence has no lower end.
QUIET_PART = 0.2
WIDEST_RANGE = 50.0

# Seconds that share a threshold, and on either side seconds more by which it is set.
BLOCK = 10.0
AROUND = 5.0

# Of the filter that takes away the hum of rooms, as of the features.
_PRE_EMPHASIS = 0.97


class Pause(NamedTuple):
    """A quiet stretch of a recording, in seconds."""

    start: float
    end: float


def pauses_in(samples: NDArray[np.float32], rate: int = SAMPLING_RATE) -> list[Pause]:
    """Return the pauses of a recording in order.

    Args:
        samples: (num_samples,), one channel.
        rate: samples a second.
    """
    levels = frame_levels(samples, rate)
    quiet = np.zeros(len(levels) + 2, dtype=bool)  # with a loud frame before and behind
    block, around = round(BLOCK / FRAME), round(AROUND / FRAME)
    for begin in range(0, len(levels), block):
        near = levels[max(0, begin - around) : begin + block + around]
        part = levels[begin : begin + block]
        quiet[1 + begin : 1 + begin + len(part)] = part < _threshold(near)
    edges = np.flatnonzero(quiet[1:] != quiet[:-1]).reshape(-1, 2)
    shortest = round(SHORTEST / FRAME)
    return [
        Pause(begin * FRAME, end * FRAME)
        for begin, end in edges.tolist()
        if end - begin >= shortest or begin == 0 or end == len(levels)
    ]


def frame_levels(samples: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Return the level of each whole frame of emphasised sound in decibels."""
    size = max(1, round(FRAME * rate))
    count = len(samples) // size
    sound = samples[: count * size].astype(np.float64)
    sound[1:] -= _PRE_EMPHASIS * sound[:-1].copy()
    power = np.square(sound).reshape(count, size).mean(axis=1)
    levels: NDArray[np.float64] = 10.0 * np.log10(power + 1e-12)
    return levels


def _threshold(levels: NDArray[np.float64]) -> float:
    low, high = np.percentile(levels, [5, 95])
    low = max(low, high - WIDEST_RANGE)
    return float(low + QUIET_PART * (high - low))
