"""Names of columns, times, channels, and the ids that are made of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zipasr.corpora.custom.columns import (
    COLUMNS,
    CONTRADICTION,
    NEGATIVE,
    NO_START,
    NOT_A_TIME,
    REVERSED,
    channel_of,
    id_of,
    match_columns,
    seconds_of_word,
    utterance_of,
)
from zipasr.corpora.custom.utterances import RowFault, Utterance


def utterance(**cells: str) -> Utterance:
    columns = match_columns(["audio", "text", *cells])
    values = {"audio": "a.wav", "text": "x"}
    values |= {
        name: cells[column.name] for name, column in columns.known.items() if column.name in cells
    }
    return utterance_of(values, columns, Path, "line 1")


@pytest.mark.parametrize("ours", COLUMNS)
def test_every_name_is_understood_in_any_writing(ours: str) -> None:
    for alias in COLUMNS[ours]:
        for name in (alias, alias.upper(), f" {alias.replace('_', ' ')} ", alias.replace("_", "-")):
            assert match_columns(["x", name]).known[ours].index == 1
            assert match_columns(["x", name]).unused == ["'x'"]


def test_what_is_not_used_is_named() -> None:
    names = ["path", "audio", "text", "Text", "age", "", "start_sample", "sentence"]
    columns = match_columns(names)
    assert {name: column.index for name, column in columns.known.items()} == {"audio": 1, "text": 2}
    assert columns.unused == [
        "'path' ('audio' is used for the same)",
        "'Text' (column 4; there are several of that name)",
        "'age'",
        "column 6, which has no name",
        "'start_sample' (if it is a time, call it start, end or duration and give seconds)",
        "'sentence' ('text' is used for the same)",
    ]


@pytest.mark.parametrize(
    ("cells", "times"),
    [
        ({"start": "1", "end": "2.5"}, (1.0, 2.5)),
        ({"offset": "1", "duration": "1.5"}, (1.0, 2.5)),
        ({"begin": "1", "dur": "1.5"}, (1.0, 2.5)),
        ({"duration": "1.5"}, (0.0, 1.5)),
        ({"start": "1", "duration": "1.5", "end": "2.51"}, (1.0, 2.51)),
        ({"onset": "1", "offset": "2.5"}, (1.0, 2.5)),
        ({"start_ms": "1000", "end [ms]": "2500"}, (1.0, 2.5)),
        ({"start_time": "1", "duration_seconds": "1.5"}, (1.0, 2.5)),
        ({"start (s)": ".1e1", "stop(msec)": "2500"}, (1.0, 2.5)),
        ({"start": "nan", "end": "NaN"}, (0.0, None)),
        ({"start": "", "end": ""}, (0.0, None)),
        ({"start": "1", "end": "None"}, (1.0, None)),
        ({"start": "-0.05", "end": "1"}, (0.0, 1.0)),
        ({"start": "0:01:02.5", "end": "1:00:00,25"}, (62.5, 3600.25)),
    ],
)
def test_times(cells: dict[str, str], times: tuple[float, float | None]) -> None:
    one = utterance(**cells)
    assert (one.start, one.end) == times


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"start": "2", "end": "1"}, REVERSED),
        ({"start": "1", "end": "1"}, REVERSED),
        ({"start": "1", "duration": "0"}, REVERSED),
        ({"start": "1", "duration": "-2"}, REVERSED),
        ({"start": "-1", "end": "1"}, NEGATIVE),
        ({"start": "nan", "end": "4.2"}, NO_START),
        ({"offset": "", "duration": "4.2"}, NO_START),
        ({"start": "0", "duration": "4", "end": "5"}, CONTRADICTION),
        ({"start": "inf"}, NOT_A_TIME),
        ({"end": "-inf"}, NOT_A_TIME),
        ({"end": "1e400"}, NOT_A_TIME),
        ({"start": "1,5"}, NOT_A_TIME),
        ({"start": "00:01"}, NOT_A_TIME),
        ({"start": "1_0"}, NOT_A_TIME),
        ({"start": "\u0661"}, NOT_A_TIME),
    ],
)
def test_times_that_are_wrong(cells: dict[str, str], reason: str) -> None:
    with pytest.raises(RowFault) as said:
        utterance(**cells)
    assert said.value.reason == reason


@given(st.text())
def test_any_field_is_a_time_or_a_fault(word: str) -> None:
    try:
        value = seconds_of_word(word)
    except RowFault:
        return
    assert value is None or abs(value) <= 3e8


def test_channels() -> None:
    words = {"0": 0, "1": 1, "1.0": 1, "A": 0, "b": 1, "left": 0, "R": 1, "": None, "nan": None}
    assert {word: channel_of(word) for word in words} == words
    for word in ("-2", "1.5", "mono", "\u0661", "12345"):
        with pytest.raises(RowFault):
            channel_of(word)


def test_ids_tell_file_times_and_channel() -> None:
    assert id_of("s1/a.wav", None, None, None) == "s1-a"
    assert id_of("..\\wavs\\a.v1.wav", 0.0, 1.25, 1) == "wavs-a.v1-0000000-0001250-ch1"
    assert id_of("/x/u.v1", None, 2.0, None) == "x-u.v1"
    assert id_of("B.SPH", None, None, None) == "B"
    assert id_of("..", 0.5, None, None) == "utterance-0000500"
