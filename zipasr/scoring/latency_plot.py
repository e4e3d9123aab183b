"""Plot of error rates and latencies of streams: where the marks stand, for a template to draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from zipasr.scoring.latency import LatencyRow

WIDTH, HEIGHT = 720.0, 320.0
LEFT, RIGHT, TOP, BOTTOM = 60.0, 20.0, 20.0, 45.0

#: Lines on each axis, about.
_TICKS = 6

#: First words stand so far above their error rate, last words below.
_APART = 4.0


class Tick(NamedTuple):
    """A line of an axis: where it stands, and its number."""

    at: float
    text: str


class Mark(NamedTuple):
    """The latency of the first or the last word of one decoding.

    Attributes:
        word: first or last.
        x: of the median.
        late_x: of the larger figure.
        y: of the error rate.
        label: seconds of a chunk.
        title: all figures, for people.
    """

    word: str
    x: float
    late_x: float
    y: float
    label: str
    title: str


class LatencyPlot(NamedTuple):
    """Contents of the plot.

    Attributes:
        marks: of all decodings, first and last words.
        x_ticks: seconds.
        y_ticks: error rates in per cent.
    """

    marks: list[Mark]
    x_ticks: list[Tick]
    y_ticks: list[Tick]


def latency_plot(rows: Sequence[LatencyRow]) -> LatencyPlot | None:
    """Return the plot of a test set; ``None`` unless it was streamed with several chunk sizes."""
    if len({row.chunk for row in rows}) < 2:
        return None
    x_values = _ticks(max(max(row.found.first.late, row.found.last.late) for row in rows))
    y_values = _ticks(max(row.rate for row in rows))

    def x_of(seconds: float) -> float:
        share = max(0.0, seconds) / x_values[-1]
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y_of(rate: float) -> float:
        return round(HEIGHT - BOTTOM - rate / y_values[-1] * (HEIGHT - TOP - BOTTOM), 1)

    marks = [
        Mark(
            word,
            x_of(delay.median),
            x_of(delay.late),
            y_of(row.rate) + side * _APART,
            f"{row.chunk:.2f} s",
            f"{row.label}, chunks of {row.chunk:.2f} s: {row.rate:.2f} %; {word} word "
            f"{delay.median:.2f} s, in 95 % {delay.late:.2f} s",
        )
        for row in rows
        for word, delay, side in (("first", row.found.first, -1), ("last", row.found.last, 1))
    ]
    return LatencyPlot(
        marks,
        [Tick(x_of(value), f"{value:g}") for value in x_values],
        [Tick(y_of(value), f"{value:g}") for value in y_values],
    )


def _ticks(largest: float) -> list[float]:
    """Return round numbers from 0 to one that is not below the largest value."""
    largest = max(largest, 1e-3)
    rough = largest / _TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough)
    return [round(n * step, 9) for n in range(math.ceil(largest / step - 1e-9) + 1)]
