"""Segmentation of long recordings at silence, into windows that a model can process."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Loudness is measured in frames of that many seconds.
FRAME = 0.02

# A pause is at least this long (seconds)...
PAUSE = 0.3

# ...and this far (decibels) below what is loud in the recording.
BELOW_LOUD = 25.0


class Window(NamedTuple):
    """A piece of a recording, in seconds; windows overlap where speech had to be cut."""

    start: float
    end: float


def cut_into_windows(
    samples: NDArray[np.float32], rate: int, longest: float, overlap: float
) -> list[Window]:
    """Cut a recording into windows of at most ``longest`` seconds.

    Each cut is made in the last pause of the second half of a window; where there is none, at the
    quietest moment of that half, and both neighbours get half of ``overlap`` beyond it.

    Args:
        samples: (num_samples,), one channel.
        rate: samples a second.
        longest: seconds, more than twice ``overlap``.
        overlap: seconds.

    Returns:
        Windows in order, which cover the recording.

    Raises:
        ValueError: ``longest`` is too short for ``overlap``.
    """
    if longest <= 2.0 * overlap or overlap < 0:
        raise ValueError(f"windows of {longest:g} s are too short for an overlap of {overlap:g} s")
    seconds = len(samples) / rate
    loudness = smoothed_loudness(samples, rate)
    quiet = np.percentile(loudness, 95) - BELOW_LOUD if len(loudness) else 0.0
    windows: list[Window] = []
    start = reach = 0.0
    # The start of a window reaches back; its length counts from there.
    while seconds - reach > longest:
        low, high = reach + 0.5 * longest, reach + longest - 0.5 * overlap
        moment, is_pause = _best_cut(loudness, low, high, quiet)
        beyond = 0.0 if is_pause else 0.5 * overlap
        windows.append(Window(reach, moment + beyond))
        start, reach = moment, moment - beyond
    if seconds > start or not windows:
        windows.append(Window(reach, seconds))
    return windows


def smoothed_loudness(samples: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Return the level in decibels around each frame, averaged over the length of a pause."""
    size = max(1, round(FRAME * rate))
    count = len(samples) // size
    power = np.square(samples[: count * size], dtype=np.float64).reshape(count, size).mean(axis=1)
    width = max(1, round(PAUSE / FRAME))
    if count >= width:
        power = np.convolve(power, np.full(width, 1.0 / width), mode="same")
    level: NDArray[np.float64] = 10.0 * np.log10(power + 1e-12)
    return level


def _best_cut(
    loudness: NDArray[np.float64], low: float, high: float, quiet: float
) -> tuple[float, bool]:
    """Return the moment to cut at between two moments, and whether it is in a pause."""
    first, last = round(low / FRAME), max(round(low / FRAME) + 1, round(high / FRAME))
    part = loudness[first:last]
    if not len(part):
        return low, False
    pauses = np.flatnonzero(part <= quiet)
    if not len(pauses):
        return (first + int(part.argmin()) + 0.5) * FRAME, False
    # The middle of the last pause.
    end = int(pauses[-1])
    begin = end
    while begin > 0 and part[begin - 1] <= quiet:
        begin -= 1
    return (first + 0.5 * (begin + end) + 0.5) * FRAME, True
