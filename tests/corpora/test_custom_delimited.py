"""Quotation marks, separators and line ends of tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.corpora.own import write_sound
from zipasr.base.errors import DataError
from zipasr.corpora.custom.delimited import AFTER_QUOTE, STRAY_QUOTE, WIDTH
from zipasr.corpora.custom.source_text import NOT_DECODED, NUL
from zipasr.corpora.custom.table import read_table
from zipasr.corpora.custom.utterances import ImportedCorpus


def read(folder: Path, content: str | bytes, name: str = "t.csv") -> ImportedCorpus:
    for stem in "abcdef":
        write_sound(folder / f"{stem}.wav", 0.1)
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(path, "utf-8")


def texts(found: ImportedCorpus) -> dict[str, str]:
    return {u.audio.stem: u.text for u in found.utterances}


def faults(found: ImportedCorpus) -> list[tuple[str, str]]:
    return [(one.where, one.reason) for one in found.dropped]


def test_a_stray_quotation_mark_costs_one_row(tmp_path: Path) -> None:
    rows = 'a.wav,one\nb.wav,"two\nc.wav,three\nd.wav,four"\ne.wav,five\n'
    found = read(tmp_path, f"audio,text\n{rows}")
    assert texts(found) == {"a": "one", "c": "three", "d": 'four"', "e": "five"}
    assert faults(found) == [("t.csv, line 3", STRAY_QUOTE)]
    assert found.dropped[0].detail == "it opens in column 2"
    assert found.notes_text()[0].endswith("taken as text: t.csv, line 5")


@pytest.mark.parametrize(
    "rows",
    [
        'a.wav,"one\nb.wav,"two\nc.wav,three\n',
        '"a.wav,one\nb.wav,"two"\nc.wav,three\n',
        'a.wav,"one\nb.wav,"two, too"\nc.wav,three\n',
        'a.wav,"one" or not\nb.wav,two\nc.wav,three\n',
        'a.wav,"one\n\nb.wav,two\nc.wav,three\n',
    ],
)
def test_no_two_rows_become_one(rows: str, tmp_path: Path) -> None:
    found = read(tmp_path, f"audio,text\n{rows}")
    assert texts(found)["c"] == "three"
    assert not any(".wav" in text for text in texts(found).values())
    assert {reason for _, reason in faults(found)} <= {STRAY_QUOTE, AFTER_QUOTE}
    assert len(texts(found)) + len(found.dropped) == 3


def test_the_last_row_may_be_open(tmp_path: Path) -> None:
    found = read(tmp_path, 'audio,text\na.wav,one\nb.wav,"he said')
    assert texts(found) == {"a": "one"}
    assert faults(found) == [("t.csv, line 3", STRAY_QUOTE)]


def test_a_field_over_several_lines(tmp_path: Path) -> None:
    found = read(tmp_path, 'audio,text\na.wav,"one,\ntwo\n\nthree ""3"""\nb.wav,four\n')
    assert texts(found) == {"a": 'one, two three "3"', "b": "four"}
    assert not found.dropped


@pytest.mark.parametrize("separator", ["\t", ",", ";", "|"])
def test_all_fields_may_be_quoted(separator: str, tmp_path: Path) -> None:
    rows = [["audio", "text"], ["a.wav", f'say ""{separator}""'], ["b.wav", "C:\\"]]
    content = "".join(separator.join(f'"{cell}"' for cell in row) + "\n" for row in rows)
    found = read(tmp_path, content, "t.tsv" if separator == "\t" else "t.csv")
    assert texts(found) == {"a": f'say "{separator}"'.replace("\t", " "), "b": "C:\\"} or (
        separator == "\t" and texts(found)["a"] == 'say " "'
    )


def test_a_table_of_r_with_row_names_and_escaped_marks(tmp_path: Path) -> None:
    content = (
        '"audio"\t"text"\t"start"\n"1"\t"a.wav"\t"one \\"1\\""\t0\n"2"\t"b.wav"\t"two"\t0.05\n'
    )
    assert texts(read(tmp_path, content, "t.tsv")) == {"a": 'one "1"', "b": "two"}


def test_marks_in_a_tsv_are_text_unless_they_are_doubled(tmp_path: Path) -> None:
    content = 'audio\ttext\na.wav\t"so"\nb.wav\t"""so"" he said"\nc.wav\tmind the "gap\n'
    expected = {"a": '"so"', "b": '"so" he said', "c": 'mind the "gap'}
    assert texts(read(tmp_path, content, "t.tsv")) == expected


def test_rows_of_another_width_are_left_out(tmp_path: Path) -> None:
    found = read(tmp_path, "audio,text\na.wav,one, two\nb.wav\nc.wav,three,,\nd.wav,four\n")
    assert texts(found) == {"c": "three", "d": "four"}
    assert faults(found) == [("t.csv, line 2", WIDTH), ("t.csv, line 3", WIDTH)]


@pytest.mark.parametrize("content", ["sep=;\naudio;text\na.wav;x, y\n", "audio;text\na.wav;x, y\n"])
def test_what_excel_writes(content: str, tmp_path: Path) -> None:
    encoded = b"\xef\xbb\xbf" + content.replace("\n", "\r\n").encode()
    assert texts(read(tmp_path, encoded)) == {"a": "x, y"}


def test_a_nul_and_a_damaged_byte_cost_one_row_each(tmp_path: Path) -> None:
    rows = [f"{stem}.wav,caf\u00e9".encode() for stem in "abcd"]
    rows[1] = rows[1].replace(b"f", b"\0")
    rows[2] = b"c.wav,\xff\xe9"
    found = read(tmp_path, b"\n".join([b"audio,text", *rows]))
    assert texts(found) == {"a": "café", "d": "café"}
    assert faults(found) == [("t.csv, line 3", NUL), ("t.csv, line 4", NOT_DECODED)]


def test_utf_16_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"NUL characters.*try --encoding utf-16"):
        read(tmp_path, "audio,text\na.wav,one\n".encode("utf-16-le"))


def test_byte_order_marks_inside_are_taken_away(tmp_path: Path) -> None:
    found = read(tmp_path, "\ufeffaudio,text\n\ufeffa.wav,one\n")
    assert texts(found) == {"a": "one"}


def test_an_open_mark_in_the_header_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not closed, in column 2 of its first line"):
        read(tmp_path, 'audio,"text\na.wav,one\n')
