"""Latency of streams: how long after its sound a word is shown for good, and a plot of it.

A word waits for the rest of its chunk, and for what the model hears before it decides. What the
computation takes is told beside it: it is another on each machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from zipasr.scoring.breakdown import total_errors
from zipasr.scoring.decodings import Decoding, UtteranceRecord
from zipasr.scoring.word_errors import GAP

#: The share of the words in per cent that the larger figure is about.
LATE = 95.0


class Delay(NamedTuple):
    """Seconds from the end of a word until it is shown for good, over utterances.

    Attributes:
        median: of them.
        late: what ``LATE`` per cent of them stay below.
    """

    median: float
    late: float


class Latency(NamedTuple):
    """Latency of a test set.

    Attributes:
        first: of the first word of an utterance.
        last: of the last one.
        changed: words that were replaced or taken back after they were shown.
        words: that were recognised.
        is_aligned: whether the end of a word is that of its sound, in the alignment of the corpus;
            else it is the frame at which the search found its last token.
    """

    first: Delay
    last: Delay
    changed: int
    words: int
    is_aligned: bool

    @property
    def since(self) -> str:
        """From when the seconds count, for people."""
        return "the end of the sound" if self.is_aligned else "the frame of the last token"


def latency(records: Sequence[UtteranceRecord]) -> Latency | None:
    """Return the latency of streamed utterances; ``None`` where there is nothing to measure.

    The first word that was said counts, and the last one, in the utterances where something was
    recognised in its place.
    """
    is_aligned = any(record.ref_ends for record in records)
    pairs = [_delays(record, is_aligned) for record in records]
    first = [found for found, _ in pairs if found is not None]
    last = [found for _, found in pairs if found is not None]
    if not first or not last:
        return None
    changed = sum(record.changed for record in records)
    words = sum(len(record.hyp) for record in records)
    return Latency(_delay(first), _delay(last), changed, words, is_aligned)


def _delay(seconds: Sequence[float]) -> Delay:
    median, late = np.percentile(seconds, [50.0, LATE]).tolist()
    return Delay(median, late)


def _delays(record: UtteranceRecord, is_aligned: bool) -> tuple[float | None, float | None]:
    """Return the delays of the first and of the last word; ``None`` where it is not known."""
    ends = record.ref_ends if is_aligned else record.emitted
    num_words = len(record.ref if is_aligned else record.hyp)
    if len(record.shown) != len(record.hyp) or len(ends) != num_words or not num_words:
        return None, None
    if not is_aligned:
        # Of words that are found in the silence behind the speech, the end of the speech counts.
        first, last = (min(ends[n], record.duration or ends[n]) for n in (0, -1))
        return record.shown[0] - first, record.shown[-1] - last
    shown = dict(_in_place(record))
    found = [shown[n] - ends[n] if n in shown else None for n in (0, num_words - 1)]
    return found[0], found[1]


def _in_place(record: UtteranceRecord) -> Iterator[tuple[int, float]]:
    """Yield the places of words that were said, and when something was shown in their place."""
    said = heard = 0
    for pair in record.alignment:
        if GAP not in (pair.ref, pair.hyp):
            yield said, record.shown[heard]
        said += pair.ref != GAP
        heard += pair.hyp != GAP


def latency_lines(records: Sequence[UtteranceRecord], computing: float) -> list[str]:
    """Say how late the first and last words were, and how many changed.

    Args:
        records: of a test set.
        computing: seconds that a chunk of one stream takes.
    """
    found = latency(records)
    if found is None:
        return []
    delays = (("first", found.first), ("last", found.last))
    return [
        *(
            f"{which} word shown for good {delay.median:.3f} s after {found.since} in the median, "
            f"{delay.late:.3f} s in 95 % of the utterances"
            for which, delay in delays
        ),
        f"computing a chunk of one stream takes {computing:.3f} s more",
        f"{found.changed} words changed after they were first shown, of {found.words} recognised",
    ]


class LatencyRow(NamedTuple):
    """Latency and error rate of a streamed decoding, for a table.

    Attributes:
        label: of the decoding.
        chunk: seconds of new sound in a chunk.
        computing: seconds that a chunk of one stream took, which come on top; if known.
        rate: of errors in per cent.
        found: the latency.
    """

    label: str
    chunk: float
    computing: float | None
    rate: float
    found: Latency


def latency_rows(named: Sequence[tuple[str, Decoding]]) -> list[LatencyRow]:
    """Return the rows of the decodings that were streamed, the smallest chunks first."""
    rows = []
    for label, decoding in named:
        found = latency(decoding.records) if decoding.is_streamed else None
        chunk = decoding.setting.chunk_seconds
        if found is None or chunk is None:
            continue
        rate = total_errors(decoding.records).rate
        computing = decoding.setting.chunk_computing
        rows.append(LatencyRow(label, chunk, computing, rate, found))
    return sorted(rows, key=lambda row: (row.chunk, row.label))


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
