from pathlib import Path

import pytest

from tests.corpora.own import table_of, write_sound, write_table
from zipasr.audio.faults import MISSING
from zipasr.base.errors import DataError
from zipasr.corpora.custom.audio_files import SEVERAL
from zipasr.corpora.custom.columns import NOT_A_TIME, REVERSED
from zipasr.corpora.custom.table import read_table
from zipasr.corpora.custom.utterances import NO_TEXT, RENAMED, Utterance


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
    for speaker in ("s1", "s2"):
        write_sound(tmp_path / speaker / "a.wav", 2.0)
    rows: list[dict[str, object]] = [
        {"audio": "s1/a.wav", "text": "x"},
        {"audio": "s2/a.wav", "text": "x"},
        {"audio": "s1/a.wav", "text": "x", "start": 1.25, "end": 2},
    ]
    ids = [utterance.id for utterance in read(write_table(tmp_path / "t.tsv", rows))]
    assert ids == ["s1-a", "s2-a", "s1-a-0001250-0002000"]


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


def test_a_name_of_two_files_is_left_out(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_sound(tmp_path / folder / "u.flac")
    path = write_table(tmp_path / "t.tsv", [{"id": "u", "text": "yes"}])
    (one,) = read_table(path, "utf-8").dropped
    assert (one.reason, one.utterance) == (SEVERAL, "u")


def test_a_file_of_another_folder_is_not_taken_for_one_that_is_absent(tmp_path: Path) -> None:
    write_sound(tmp_path / "s2/a.wav")
    rows: list[dict[str, object]] = [{"audio": f"{s}/a.wav", "text": s} for s in ("s1", "s2")]
    found = read_table(write_table(tmp_path / "t.tsv", rows), "utf-8")
    assert [u.text for u in found.utterances] == ["s2"]
    assert [(one.reason, one.where) for one in found.dropped] == [(MISSING, "t.tsv, line 2")]


def test_ids_are_made_unique(tmp_path: Path) -> None:
    for name in ("a-b/c", "a/b-c"):
        write_sound(tmp_path / f"{name}.wav", 2.0, channels=2)
    rows: list[dict[str, object]] = [
        {"audio": f"{name}.wav", "text": "x", "start": start, "end": 1, "channel": channel}
        for name in ("a-b/c", "a/b-c")
        for channel in (0, 1)
        for start in (0, 0.5)
    ]
    found = read_table(write_table(tmp_path / "t.tsv", rows), "utf-8")
    ids = [utterance.id for utterance in found.utterances]
    assert len(set(ids)) == 8
    assert ids[:5] == [
        "a-b-c-0000000-0001000-ch0",
        "a-b-c-0000500-0001000-ch0",
        "a-b-c-0000000-0001000-ch1",
        "a-b-c-0000500-0001000-ch1",
        "a-b-c-0000000-0001000-ch0-2",
    ]
    assert found.notes[RENAMED] == 4


def test_rows_that_cannot_be_used_are_left_out_and_named(tmp_path: Path) -> None:
    path = table_of(tmp_path, 4, id=["a", "b", "a", "c"], start=[0, "x", 0.2, 0.5], end=[1] * 4)
    path.write_text(path.read_text().replace("\t1\n", "\t0.3\n"))
    found = read_table(path, "utf-8")
    assert [u.id for u in found.utterances] == ["a", "a-2"]
    assert [(one.utterance, one.reason, one.where) for one in found.dropped] == [
        ("b", NOT_A_TIME, "table.tsv, line 3"),
        ("c", REVERSED, "table.tsv, line 5"),
    ]
    path.write_text(path.read_text().replace("three", " "))
    assert [one.reason for one in read_table(path, "utf-8").dropped][1] == NO_TEXT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "audio\ttexte\na.wav\tyes\n",
            "no column 'text'; its first line names audio, texte. Fix: did",
        ),
        ("text\tlanguage\nyes\ten\n", "no column 'audio'"),
        ("audio\ttext\n", "is empty: 0 utterances"),
        ("", "no column 'text'"),
        ("a.wav\tyes\nb.wav\tno\n", "its first line is an utterance: put one above it that names"),
    ],
)
def test_what_is_wrong_with_a_table_is_one_line(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text(content)
    with pytest.raises(DataError) as said:
        read(path)
    assert message in str(said.value)
    assert str(path) in str(said.value)
