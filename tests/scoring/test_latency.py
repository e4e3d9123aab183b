"""Latency of streams: figures computed by hand, the table and the plot of the report."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scoring.decoded import decoding
from zipasr.scoring.decodings import Decoding, Setting, UtteranceRecord
from zipasr.scoring.html_report import Report, html_page
from zipasr.scoring.latency import HEIGHT, WIDTH, latency, latency_lines, latency_plot, latency_rows
from zipasr.scoring.run_report import short_report

# THE was heard as A, ON was not heard, UP was not said.
HEARD = UtteranceRecord(
    id="a",
    ref=["TURN", "THE", "LIGHT", "ON"],
    hyp=["TURN", "A", "LIGHT", "ON", "UP"],
    shown=[0.9, 1.1, 1.6, 2.0, 2.3],
    ref_ends=[0.5, 0.7, 1.2, 1.5],
    changed=2,
)
LOST = UtteranceRecord(
    id="b", ref=["NOW", "OFF"], hyp=["OFF"], shown=[1.5], ref_ends=[0.6, 1.1], changed=1
)


def test_words_are_timed_from_the_end_of_their_sound() -> None:
    found = latency([HEARD, LOST])
    assert found is not None
    # The first word of the second utterance was not recognised: the first one's counts alone.
    assert found.first == pytest.approx((0.4, 0.4))
    assert found.last == pytest.approx(tuple(np.percentile([0.5, 0.4], [50, 95])))
    assert (found.changed, found.words, found.is_aligned) == (3, 6, True)
    first, last, computing, changed = latency_lines([HEARD, LOST], 0.02)
    assert first.startswith("first word shown for good 0.400 s after the end of the sound in the")
    assert "0.495 s in 95 %" in last
    assert computing == "computing a chunk of one stream takes 0.020 s more"
    assert changed == "3 words changed after they were first shown, of 6 recognised"


def test_without_an_alignment_words_are_timed_from_their_last_token() -> None:
    record = UtteranceRecord(
        id="a",
        ref=["TURN", "ON"],
        hyp=["TURN", "ON"],
        tokens=["▁TU", "RN", "▁ON"],
        times=[0.2, 0.4, 1.0],
        shown=[0.9, 1.3],
    )
    found = latency([record, replace(record, shown=[])])
    assert found is not None
    assert (found.first.median, found.last.median) == pytest.approx((0.5, 0.3))
    assert not found.is_aligned
    assert "the frame of the last token" in latency_lines([record], 0.0)[0]


def test_there_is_no_latency_of_what_was_not_streamed() -> None:
    assert latency([]) is None
    assert latency([replace(HEARD, shown=[])]) is None
    assert latency([replace(HEARD, shown=[1.0, 2.0])]) is None  # words were normalised
    assert latency_lines([replace(HEARD, hyp=[], shown=[])], 0.0) == []


@given(lags=st.lists(st.floats(0, 3), min_size=1, max_size=20))
def test_figures_are_percentiles(lags: list[float]) -> None:
    records = [
        replace(LOST, id=str(n), ref=["OFF"], ref_ends=[1.0], shown=[1.0 + lag])
        for n, lag in enumerate(lags)
    ]
    found = latency(records)
    assert found is not None
    assert found.first == found.last
    assert found.first.median == pytest.approx(np.median(lags), abs=1e-9)
    assert min(lags) - 1e-9 <= found.first.median <= found.first.late <= max(lags) + 1e-9


def streamed(chunk: float, rate: float, lag: float) -> Decoding:
    """A streamed decoding whose words are shown ``lag`` seconds late."""
    plain = decoding("greedy_search", rate, seed=3)
    records = [
        replace(
            record,
            ref_ends=[0.4 * (n + 1) for n in range(len(record.ref))],
            shown=[0.4 * (n + 1) + lag for n in range(len(record.hyp))],
        )
        for record in plain.records
    ]
    setting = Setting(
        test_set="test",
        key="greedy_search",
        suffix=f"epoch-1_chunk-{chunk:g}",
        chunk_seconds=chunk,
        chunk_computing=0.012,
    )
    return Decoding(setting, records, is_streamed=True)


def test_report_shows_latency_beside_error_rates_for_each_chunk_size() -> None:
    small, large = streamed(0.32, 0.2, 0.4), streamed(1.28, 0.1, 1.5)
    report = Report(title="run", subtitle="", decodings=[large, small, decoding("beam", 0.1, 5)])
    page = html_page(report)
    assert "Latency of words, in seconds from the end of the sound" in page
    assert page.count("<svg") == 1
    assert len(re.findall(r"<circle", page)) == 4  # first and last words of both
    assert ">0.32 s</text>" in page
    assert ">1.28 s</text>" in page
    short = short_report(report)
    (row,) = re.findall(r"\| [^|]*chunk-0.32[^|]* \| 0.32 s \|.*", short)
    *_, changed, computing, _ = (cell.strip() for cell in row.split("|"))
    assert changed.startswith("0 of ")
    assert computing == "0.012"
    # One size is no curve, and decodings of whole utterances have no latency.
    assert "<svg" not in html_page(Report(title="", subtitle="", decodings=[small]))
    assert "Latency" not in html_page(
        Report(title="", subtitle="", decodings=[decoding("beam", 0.1, 5)])
    )


@given(
    sizes=st.lists(
        st.tuples(st.floats(0.1, 3), st.floats(0, 1), st.floats(0, 30)), min_size=2, max_size=4
    )
)
def test_marks_of_the_plot_stand_within_it_and_in_order(
    sizes: list[tuple[float, float, float]],
) -> None:
    rows = latency_rows([(str(n), streamed(*size)) for n, size in enumerate(sizes)])
    assert [row.chunk for row in rows] == sorted(row.chunk for row in rows)
    plot = latency_plot(rows)
    if len({chunk for chunk, _, _ in sizes}) < 2:
        assert plot is None
        return
    assert plot is not None
    for mark in plot.marks:
        assert 0 <= mark.x <= mark.late_x <= WIDTH
        assert 0 <= mark.y <= HEIGHT
    last = [mark for mark in plot.marks if mark.word == "last"]
    by_rate = sorted(last, key=lambda mark: -mark.y)
    rates = {f"{row.chunk:.2f} s": row.rate for row in rows}
    if len(rates) == len(rows):
        assert [rates[mark.label] for mark in by_rate] == pytest.approx(
            sorted(rates[mark.label] for mark in last), abs=0.01
        )
    for ticks in (plot.x_ticks, plot.y_ticks):
        assert float(ticks[0].text) == 0
        assert len(ticks) <= 8
