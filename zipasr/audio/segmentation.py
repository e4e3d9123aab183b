"""Segmentation of recordings at silence, into windows as long as a model is used to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zipasr.audio.speech_activity import (
    LEVEL_SECONDS,
    Activity,
    Samples,
    activity_by_level,
    speech_activity,
    stretches,
)
from zipasr.base.constants import SAMPLING_RATE

Values = NDArray[np.float64]

#: A cut looks at the activity as far as this before and after (seconds)...
_LOOK = 0.1
#: ...and is in speech above this mean of it.
_IN_SPEECH = 0.3
#: Cost of any cut, in units of the cost of one amid speech.
_CUT = 0.1
#: Places to cut at are at most this far apart (seconds).
_SPACING = 0.5


class Window(NamedTuple):
    """A piece of a recording, in seconds; windows overlap where speech had to be cut."""

    start: float
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CutRules:
    """How recordings are cut.

    Attributes:
        longest: seconds of a window, more than twice ``overlap``.
        overlap: seconds that two windows share where speech is cut.
        usual: seconds; longer windows are avoided, shorter recordings left whole.
        pause: seconds; windows have no pauses that are longer.
        margin: seconds of silence that a window keeps before and after its speech.
    """

    longest: float = 25.0
    overlap: float = 2.0
    usual: float = 15.0
    pause: float = 0.5
    margin: float = 0.2

    def __post_init__(self) -> None:
        if self.longest <= 2.0 * self.overlap or self.overlap < 0:
            raise ValueError(
                f"windows of {self.longest:g} s are too short for an overlap of {self.overlap:g} s"
            )


def cut_into_windows(samples: Samples, rules: CutRules) -> list[Window]:
    """Cut a recording at its pauses; what is silent for long is in no window.

    Longer pauses than ``rules.pause`` part windows. Between them, cuts are made where they cost
    least: a cut costs by how much speech is around it, a window by what it is longer than
    ``rules.usual``. Where speech is cut, both neighbours get half of ``rules.overlap`` beyond.

    Args:
        samples: (num_samples,) at 16 kHz.
        rules: how to cut.

    Returns:
        Windows in order, in which all speech is; none where there is no speech.
    """
    seconds = len(samples) / SAMPLING_RATE
    whole = [Window(0.0, seconds)]
    if seconds <= min(rules.usual, rules.longest):
        return whole
    activity = speech_activity(samples)
    is_by_level = activity.frame == LEVEL_SECONDS
    by_level = activity.values if is_by_level else activity_by_level(samples).values
    heard = by_level if is_by_level else _on_grid(activity, len(by_level))
    windows: list[Window] = []
    # A model hears noise for what it is; the level shows where exactly speech ends, and breaks that
    # are too short for the model.
    for start, end in _groups(stretches(0.5 * (by_level + heard)), rules.pause):
        windows += _windows_of_group(by_level * heard, start, end, rules)
    windows = _with_margins(windows, seconds, rules.margin)
    # Of an utterance by itself nothing is taken.
    is_utterance = len(windows) == 1 and windows[0].end - windows[0].start + rules.pause > seconds
    return whole if is_utterance and seconds <= rules.longest else windows


def _on_grid(activity: Activity, count: int) -> Values:
    """Return the activity of speech at the times of the level."""
    middles = (np.arange(count) + 0.5) * LEVEL_SECONDS
    places = (np.arange(len(activity.values)) + 0.5) * activity.frame
    found: Values = np.interp(middles, places, activity.values)
    return found


def _groups(runs: Sequence[tuple[int, int]], pause: float) -> list[tuple[int, int]]:
    """Return stretches of speech joined over pauses that are not longer than ``pause`` seconds."""
    groups: list[tuple[int, int]] = []
    for start, end in runs:
        if groups and (start - groups[-1][1]) * LEVEL_SECONDS <= pause:
            groups[-1] = (groups[-1][0], end)
        else:
            groups.append((start, end))
    return groups


def _windows_of_group(activity: Values, start: int, end: int, rules: CutRules) -> list[Window]:
    """Return windows, without margins, of the frames from ``start`` to ``end``."""
    around = _mean_around(activity[start:end], round(_LOOK / LEVEL_SECONDS))
    places = _best_places(around, rules)
    windows: list[Window] = []
    reach = start * LEVEL_SECONDS
    for place in places:
        moment = (start + place) * LEVEL_SECONDS
        beyond = 0.5 * rules.overlap if around[place] > _IN_SPEECH else 0.0
        windows.append(Window(reach, min(moment + beyond, end * LEVEL_SECONDS)))
        reach = max(moment - beyond, start * LEVEL_SECONDS)
    return [*windows, Window(reach, end * LEVEL_SECONDS)]


def _mean_around(values: Values, reach: int) -> Values:
    width = 2 * reach + 1
    padded = np.pad(values, reach, mode="edge")
    return np.convolve(padded, np.full(width, 1.0 / width), mode="valid")


def _best_places(around: Values, rules: CutRules) -> list[int]:
    """Return the frames to cut at: of all ways to cut, the one that costs least."""
    longest = rules.longest - rules.overlap - 2.0 * rules.margin
    usual = min(rules.usual, longest)
    if len(around) * LEVEL_SECONDS <= usual:
        return []
    places = np.concatenate([[0], _quiet_places(around), [len(around)]])
    cost = np.concatenate([[0.0], _CUT + around[places[1:-1]], [0.0]])
    best, before = np.full(len(places), np.inf), np.zeros(len(places), int)
    best[0] = 0.0
    first = 0
    for n in range(1, len(places)):
        while (places[n] - places[first]) * LEVEL_SECONDS > longest and first < n - 1:
            first += 1
        length = (places[n] - places[first:n]) * LEVEL_SECONDS
        total = best[first:n] + np.maximum(0.0, length / usual - 1.0)
        before[n] = first + int(total.argmin())
        best[n] = total.min() + cost[n]
    chosen = []
    n = int(before[-1])
    while n > 0:
        chosen.append(int(places[n]))
        n = int(before[n])
    return chosen[::-1]


def _quiet_places(around: Values) -> NDArray[np.int64]:
    """Return the quietest frame of every ``_SPACING`` seconds, in order."""
    size = round(_SPACING / LEVEL_SECONDS)
    starts = range(0, len(around), size)
    quietest = [begin + int(around[begin : begin + size].argmin()) for begin in starts]
    return np.array([place for place in quietest if place > 0], np.int64)


def _with_margins(windows: Sequence[Window], seconds: float, margin: float) -> list[Window]:
    """Let windows keep some of the silence around them; neighbours share what is between."""
    starts = [max(0.0, window.start - margin) for window in windows]
    ends = [min(seconds, window.end + margin) for window in windows]
    for n, (left, right) in enumerate(pairwise(windows)):
        middle = 0.5 * (left.end + right.start)
        if left.end > right.start:  # they overlap in speech
            ends[n], starts[n + 1] = left.end, right.start
        else:
            ends[n], starts[n + 1] = min(ends[n], middle), max(starts[n + 1], middle)
    return [Window(*edges) for edges in zip(starts, ends, strict=True)]
