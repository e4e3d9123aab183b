from pathlib import Path

import pytest

from tests.corpora.own import table_of, write_sound, write_table
from zipasr.base.errors import DataError
from zipasr.corpora.custom.table import NO_TEXT, SAME_ID, Utterance, read_table


def read(path: Path) -> list[Utterance]:
    return read_table(path, "utf-8").utterances


@pytest.mark.parametrize(("name", "separator"), [("t.tsv", "\t"), ("t.csv", ","), ("t.csv", ";")])
def test_all_columns_are_read(name: str, separator: str, tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav")
    row = {"audio": "a.wav", "text": "  two   words ", "id": "x", "start": 0.1, "end": 0.9}
    path = write_table(tmp_path / name, [row | {"speaker": "s", "split": "train"}], separator)
    expected = Utterance(
        id="x",
        audio=tmp_path / "a.wav",
        text="two words",
        start=0.1,
        end=0.9,
        speaker="s",
        split="train",
    )
    assert read(path) == [expected]


def test_ids_come_from_names_and_times(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"audio": "s1/a.wav", "text": "x"},
        {"audio": "s2/a.wav", "text": "x"},
        {"audio": "s1/a.wav", "text": "x", "start": 1.25, "end": 2},
    ]
    ids = [utterance.id for utterance in read(write_table(tmp_path / "t.tsv", rows))]
    assert ids == ["s1-a", "s2-a", "s1-a-0001250"]


def test_names_of_well_known_tables_are_understood(tmp_path: Path) -> None:
    write_sound(tmp_path / "clips" / "cv_1.wav")
    path = write_table(
        tmp_path / "validated.tsv", [{"client_id": "s", "path": "cv_1.wav", "sentence": '"so"'}]
    )
    (one,) = read(path)
    assert (one.audio, one.speaker, one.text) == (tmp_path / "clips/cv_1.wav", "s", '"so"')


def test_without_an_audio_column_the_id_names_the_file(tmp_path: Path) -> None:
    write_sound(tmp_path / "deep" / "er" / "u.v1.flac")
    (one,) = read(write_table(tmp_path / "t.tsv", [{"utt_id": "u.v1", "text": "yes"}]))
    assert one.audio == tmp_path / "deep/er/u.v1.flac"


def test_a_name_of_two_files_is_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_sound(tmp_path / folder / "u.flac")
    path = write_table(tmp_path / "t.tsv", [{"id": "u", "text": "yes"}])
    with pytest.raises(DataError, match="the name of 2 files"):
        read(path)


def test_rows_that_cannot_be_used_are_left_out_and_named(tmp_path: Path) -> None:
    path = table_of(tmp_path, 3, id=["a", "b", "a"])
    found = read_table(path, "utf-8")
    assert [u.id for u in found.utterances] == ["a", "b"]
    assert [(row.utterance, row.reason) for row in found.left_out] == [("a", SAME_ID)]
    path.write_text(path.read_text().replace("two", " "))
    assert [row.reason for row in read_table(path, "utf-8").left_out] == [NO_TEXT, SAME_ID]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("audio\ttxt\na.wav\tyes\n", "no column 'text'; its first line names audio, txt. Fix: did"),
        ("text\tlanguage\nyes\ten\n", "no column 'audio'"),
        ("audio\ttext\na.wav\tyes\tno\n", "line 2: 3 fields, but the header has 2"),
        ("audio\ttext\n", "is empty: 0 utterances"),
        ("", "no column 'text'"),
        ("audio\ttext\tstart\na.wav\tyes\tnow\n", "line 2: start 'now' is no number"),
        ("audio\ttext\tstart\tend\na.wav\tyes\t2\t1\n", "line 2: start 2 and end 1.0"),
    ],
)
def test_what_is_wrong_with_a_table_is_one_line(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text(content)
    with pytest.raises(DataError) as said:
        read(path)
    assert message in str(said.value)
    assert str(path) in str(said.value)


def test_an_open_quotation_mark_does_not_swallow_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('audio,text\na.wav,"he said\nb.wav,yes\n')
    with pytest.raises(DataError, match="line 3: unexpected end of data"):
        read(path)
