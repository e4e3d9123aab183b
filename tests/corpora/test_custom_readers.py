"""Folders, Kaldi data directories and lhotse manifests become the same utterances."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lhotse import CutSet, MonoCut, Recording, RecordingSet, SupervisionSegment, SupervisionSet

from tests.corpora.own import table_of, write_sound
from zipasr.audio.faults import NO_FFMPEG
from zipasr.base.errors import DataError
from zipasr.corpora.custom.audio_folder import NO_SOUND, NO_TRANSCRIPT
from zipasr.corpora.custom.lhotse_manifests import (
    BAD_FIELD,
    MIXED,
    NO_RECORDING,
    NOT_A_FILE,
    NOT_AN_ITEM,
    OUTSIDE_CUT,
)
from zipasr.corpora.custom.lhotse_manifests import NO_SOUND as NO_RECORDING_IN_CUT
from zipasr.corpora.custom.readers import MEND, read_source, what_to_do
from zipasr.corpora.custom.table import NOT_A_WORD, NOT_JSON
from zipasr.corpora.custom.utterances import ImportedCorpus, Utterance


def read(path: Path, encoding: str = "utf-8") -> ImportedCorpus:
    return read_source(path, encoding, Path("piped"))


def by_id(found: ImportedCorpus) -> dict[str, Utterance]:
    return {utterance.id: utterance for utterance in found.utterances}


def write_lhotse(folder: Path, split: str, audio: Path, channel: int = 0) -> None:
    recording = Recording.from_file(audio, recording_id=f"r-{split}")
    segment = SupervisionSegment(
        f"u-{split}", recording.id, 0.25, 0.5, channel=channel, text="yes", speaker="s"
    )
    RecordingSet.from_recordings([recording]).to_file(folder / f"x_recordings_{split}.jsonl.gz")
    SupervisionSet.from_segments([segment]).to_file(folder / f"x_supervisions_{split}.jsonl.gz")


def test_a_folder_of_sound_and_text(tmp_path: Path) -> None:
    for split in ("train", "test"):
        audio = write_sound(tmp_path / split / "s1" / "a.wav")
        audio.with_suffix(".txt").write_text(f"in {split}\n")
    write_sound(tmp_path / "train" / "mute.flac")
    found = read(tmp_path)
    assert found.kind == f"folder {tmp_path}"
    assert [(u.id, u.text, u.split) for u in found.utterances] == [
        ("test-s1-a", "in test", "test"),
        ("train-s1-a", "in train", "train"),
    ]
    assert [(one.audio, one.reason) for one in found.dropped] == [
        (str(tmp_path / "train/mute.flac"), NO_TRANSCRIPT)
    ]


def test_a_folder_as_other_systems_write_it(tmp_path: Path) -> None:
    for name, transcript in (("A.WAV", "A.TXT"), ("b.wav", "B.txt"), ("a\u0308.flac", "\xe4.txt")):
        write_sound(tmp_path / name, 0.1)
        (tmp_path / transcript).write_text(f"says {transcript}")
        (tmp_path / f"._{name}").write_bytes(b"\0\xb0")
        (tmp_path / f"._{transcript}").write_bytes(b"\0\xb0")
    (tmp_path / "readme.txt").write_text("about it")
    found = read(tmp_path)
    assert {u.id: u.text for u in found.utterances} == {
        "A": "says A.TXT",
        "b": "says B.txt",
        "\xe4": "says \xe4.txt",
    }
    assert not found.dropped
    assert found.notes[NO_SOUND] == 1


def test_ids_of_a_folder_are_unique(tmp_path: Path) -> None:
    for name in ("a-b/c", "a/b-c", "a/b/c", "a.b", "a.c"):
        write_sound(tmp_path / f"{name}.wav", 0.1)
        (tmp_path / f"{name}.txt").write_text(name)
    ids = {u.text: u.id for u in read(tmp_path).utterances}
    assert ids == {
        "a-b/c": "a-b-c-3",
        "a/b-c": "a-b-c-2",
        "a/b/c": "a-b-c",
        "a.b": "a.b",
        "a.c": "a.c",
    }


def test_one_transcript_that_cannot_be_decoded_is_left_out(tmp_path: Path) -> None:
    for name, text in (("a", "caf\xe9".encode()), ("b", b"caf\xe9"), ("c", b"\xff\xfe")):
        write_sound(tmp_path / f"{name}.wav", 0.1).with_suffix(".txt").write_bytes(text)
    found = read(tmp_path)
    assert [u.id for u in found.utterances] == ["a"]
    assert "b.txt is not utf-8: line 1, column 4" in found.dropped[0].detail


def test_transcripts_of_another_encoding_are_counted(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_sound(tmp_path / f"{name}.wav").with_suffix(".txt").write_bytes(b"caf\xe9 cr\xe8me\n")
    with pytest.raises(DataError, match=r"a\.txt is not utf-8: line 1, column 4.*2 files"):
        read(tmp_path)
    assert [u.text for u in read(tmp_path, "latin-1").utterances] == ["café crème"] * 2


def test_lhotse_manifests(tmp_path: Path) -> None:
    mono = write_sound(tmp_path / "mono.wav")
    stereo = write_sound(tmp_path / "stereo.wav", channels=2)
    write_lhotse(tmp_path, "train", mono)
    write_lhotse(tmp_path, "dev-other", stereo, channel=1)
    utterances = by_id(read(tmp_path))
    assert utterances["u-train"] == Utterance(
        id="u-train", audio=mono, text="yes", start=0.25, end=0.75, speaker="s", split="train"
    )
    assert (utterances["u-dev-other"].split, utterances["u-dev-other"].channel) == ("dev-other", 1)


def edit_lines(path: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change the items of a gzipped manifest."""
    with gzip.open(path, "rt") as file:
        items = [json.loads(line) for line in file]
    change(items)
    with gzip.open(path, "wt") as out:
        out.writelines(json.dumps(item) + "\n" for item in items)


def test_items_that_cannot_be_used_are_left_out(tmp_path: Path) -> None:
    write_lhotse(tmp_path, "train", write_sound(tmp_path / "a.wav"))

    def change(items: list[dict[str, Any]]) -> None:
        good = items[0]
        items += [{**good, "id": "absent", "recording_id": "x"}]
        items += [{**good, "id": f"{v}", "duration": v} for v in (0, -1, None, "1", True, 1e300)]
        items += [{**good, "id": "late", "start": -3}, {**good, "id": "list", "text": ["x"]}]
        items += [{"id": "empty"}, good]

    path = tmp_path / "x_supervisions_train.jsonl.gz"
    edit_lines(path, change)
    with gzip.open(path, "at") as out:
        out.write('[]\n{"id": \n\n')
    found = read(tmp_path)
    assert [u.id for u in found.utterances] == ["u-train", "u-train-2"]
    reasons = {one.utterance: one.reason for one in found.dropped}
    assert reasons.pop("absent") == reasons.pop("empty") == NO_RECORDING
    assert reasons.pop("late") == "starts before its file"
    assert reasons.pop("0") == reasons.pop("-1") == "ends before it starts"
    place = "x_supervisions_train.jsonl.gz, line"
    assert reasons.pop(f"{place} 13") == reasons.pop(f"{place} 14") == NOT_AN_ITEM
    assert set(reasons.values()) == {BAD_FIELD}
    assert len(reasons) == 5


def test_recordings_that_are_no_plain_files_are_left_out(tmp_path: Path) -> None:
    write_lhotse(tmp_path, "train", write_sound(tmp_path / "a.wav"))
    path = tmp_path / "x_recordings_train.jsonl.gz"

    def change(items: list[dict[str, Any]]) -> None:
        items[0]["transforms"] = [{"name": "Volume", "kwargs": {"factor": 1.1}}]

    edit_lines(path, change)
    found = read(tmp_path)
    assert not found.utterances
    assert [one.reason for one in found.dropped] == [NOT_A_FILE]


def test_a_damaged_manifest_is_one_line(tmp_path: Path) -> None:
    write_lhotse(tmp_path, "train", write_sound(tmp_path / "a.wav"))
    path = tmp_path / "x_supervisions_train.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match=r"x_supervisions_train.jsonl.gz cannot be read"):
        read(tmp_path)


def test_cuts_alone(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", 3.0, channels=2)
    recording = Recording.from_file(path, recording_id="r")
    segments = [
        SupervisionSegment("u1", "r", 0.0, 0.5, channel=0, text="one", speaker="s"),
        SupervisionSegment("u2", "r", 0.5, 0.5, channel=1, text="two"),
        SupervisionSegment("over", "r", 0.5, 1.0, channel=1, text="two"),
    ]
    for channel, split in ((0, "train"), (1, "dev")):
        cut = MonoCut(f"c{channel}", 1.0, 1.0, channel, segments[:1], recording=recording)
        if split == "dev":
            cut.supervisions = segments[1:]
        cuts: list[Any] = [cut]
        if split == "dev":
            cuts += [cut.with_id("c2"), cut.pad(2.0).with_id("c3")]
            cuts += [cut.drop_supervisions().with_id("c4")]
        CutSet.from_cuts(cuts).to_file(tmp_path / f"cuts_{split}.jsonl.gz")
    edit_lines(tmp_path / "cuts_dev.jsonl.gz", lambda items: items[1].pop("recording"))
    found = read(tmp_path)
    assert found.utterances == [
        Utterance(
            id="u2", audio=path, text="two", start=1.5, end=2.0, channel=1, split="dev"
        ),
        Utterance(
            id="u1", audio=path, text="one", start=1.0, end=1.5, channel=0, speaker="s",
            split="train",
        ),
    ]  # fmt: skip
    assert {one.utterance: one.reason for one in found.dropped} == {
        "over": OUTSIDE_CUT,
        "c2": NO_RECORDING_IN_CUT,
        "c3": MIXED,
    }
    assert [u.split for u in read(tmp_path / "cuts_dev.jsonl.gz").utterances] == [None]
    for split in ("train", "dev"):
        (tmp_path / f"cuts_{split}.jsonl.gz").rename(tmp_path / f"{split}.jsonl.gz")
    assert [u.split for u in read(tmp_path).utterances] == ["dev", "train"]


def test_copies_at_another_speed_are_no_faults(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", 1.0)
    recording = Recording.from_file(path, recording_id="r")
    segment = SupervisionSegment("u", "r", 0.0, 1.0, text="one")
    cut = MonoCut("c", 0.0, 1.0, 0, [segment], recording=recording)
    CutSet.from_cuts([cut, cut.perturb_speed(0.9)]).to_file(tmp_path / "x_cuts_train.jsonl.gz")
    found = read(tmp_path)
    assert [u.id for u in found.utterances] == ["u"]
    assert [(one.utterance, one.is_fault) for one in found.dropped] == [("u_sp0.9", False)]


def test_json_lines_of_nemo(tmp_path: Path) -> None:
    write_sound(tmp_path / "wavs/a.wav", 3.0)
    good = {"audio_filepath": "wavs/a.wav", "text": "one", "offset": 0.5, "duration": 1.25}
    rows: list[Any] = [
        good | {"speaker": 7, "lang": "en"},
        good | {"offset": None, "duration": None, "text": "all"},
        good | {"text": ["a", "b"]},
        good | {"duration": float("nan")},
        good | {"offset": 10**400},
        good | {"audio_filepath": "b.wav"},
        good | {"text": "\ud800"},
        good | {"text": None},
        [good],
    ]
    lines = [json.dumps(row) for row in rows] + ["{", "[" * 100_000, ""]
    path = tmp_path / "train_manifest.json"
    path.write_text("\n".join(lines))
    found = read(path)
    assert [(u.text, u.start, u.end, u.speaker) for u in found.utterances] == [
        ("one", 0.5, 1.75, "7"),
        ("all", 0.0, None, None),
        ("one", 0.5, None, None),
    ]
    reasons = {one.where.rpartition(" ")[2]: one.reason for one in found.dropped}
    assert reasons == {
        "3": NOT_A_WORD,
        "5": "a time that is no number of seconds",
        "6": "the file does not exist",
        "7": "characters that no Unicode text has (lone surrogates)",
        "8": "empty transcript",
        "9": NOT_JSON,
        "10": NOT_JSON,
        "11": NOT_JSON,
    }
    assert found.unused == {"'lang'": ["train_manifest.json"]}
    path.write_text(json.dumps(rows[:2], indent=1))
    assert len(read(path).utterances) == 2
    path.write_text("{")
    with pytest.raises(DataError, match="holds no JSON object"):
        read(path)


def test_ljspeech(tmp_path: Path) -> None:
    for name in ("LJ001-0001", "LJ001-0002"):
        write_sound(tmp_path / "wavs" / f"{name}.wav")
    path = tmp_path / "metadata.csv"
    path.write_text('LJ001-0001|In 1452, "so"|In fourteen "so"\nLJ001-0002|x|y|z\n')
    for source in (tmp_path, path):
        found = read(source)
        assert [(u.id, u.text) for u in found.utterances] == [("LJ001-0001", 'In fourteen "so"')]
        assert [one.where for one in found.dropped] == ["metadata.csv, line 2"]
        assert list(found.unused) == ["column 2, the text as printed (column 3 is used)"]
    path.write_text("LJ001-0001|one\nLJ001-0002|two\n")
    assert [u.text for u in read(tmp_path).utterances] == ["one", "two"]


def test_common_voice_with_its_official_splits(tmp_path: Path) -> None:
    head = "client_id\tpath\tsentence_id\tsentence\tup_votes\n"
    for i, name in enumerate(("train", "dev", "test", "validated", "other")):
        write_sound(tmp_path / "clips" / f"{name}.flac", 0.1, seed=i)
        row = f"speaker-{i}\t{name}.flac\tx\tsays {name}\t2\n"
        (tmp_path / f"{name}.tsv").write_text(head + row)
    (tmp_path / "clip_durations.tsv").write_text("clip\tduration[ms]\n")
    found = read(tmp_path)
    assert found.kind.startswith("Common Voice folder")
    assert [(u.split, u.text, u.speaker) for u in found.utterances] == [
        ("dev", "says dev", "speaker-1"),
        ("test", "says test", "speaker-2"),
        ("train", "says train", "speaker-0"),
    ]
    assert found.unused["'up_votes'"] == ["dev.tsv", "test.tsv", "train.tsv"]
    assert found.unused["validated.tsv"] == ["no split"]


def test_what_can_be_read_only_once_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.tsv")
    with pytest.raises(DataError, match="is a named pipe, which can be read only once"):
        read(tmp_path / "t.tsv")
    with pytest.raises(DataError, match="/dev/fd/63 is a named pipe, which can be read only once"):
        read(Path("/dev/fd/63"))  # of a shell, as --from <(command)


def test_a_kaldi_directory_without_transcripts_says_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "wav.scp").write_text("a a.wav\n")
    with pytest.raises(DataError, match=r"text does not exist\. Fix: a Kaldi .* wav.scp and text"):
        read(tmp_path)


def test_sound_that_ffmpeg_reads_names_it(tmp_path: Path) -> None:
    missing = f"cannot be decoded: Format not recognised; {NO_FFMPEG}"
    assert what_to_do(tmp_path, [missing, missing]).startswith("install ffmpeg, or convert")
    assert what_to_do(tmp_path, [missing, "no samples"]) == what_to_do(tmp_path, []) == MEND


def test_a_corpus_further_down_is_proposed(tmp_path: Path) -> None:
    write_sound(tmp_path / "up/wavs/a.wav")
    kaldi = tmp_path / "up/more/train"
    kaldi.mkdir(parents=True)
    (kaldi / "wav.scp").write_text("a ../../wavs/a.wav\n")
    (kaldi / "text").write_text("a one\n")
    (tmp_path / "elsewhere/deeper").mkdir(parents=True)
    (tmp_path / "elsewhere/deeper/table.tsv").write_text("audio\ttext\n")
    with pytest.raises(
        DataError, match=rf"nothing to import; .* Fix: --from {tmp_path}/elsewhere/"
    ):
        read(tmp_path / "elsewhere")
    assert what_to_do(tmp_path / "up", [NO_TRANSCRIPT]) == f"--from {kaldi.parent}"


def test_features_without_sound_are_refused(tmp_path: Path) -> None:
    (tmp_path / "feats.scp").write_text("a a.ark:3\n")
    (tmp_path / "text").write_text("a x\n")
    with pytest.raises(DataError, match=r"has feats.scp, but no wav.scp. Fix: features are"):
        read(tmp_path)


def test_a_folder_with_one_table_is_that_table(tmp_path: Path) -> None:
    path = table_of(tmp_path, 2)
    assert read(tmp_path).kind == f"table {path}"
    (tmp_path / "more.csv").write_text("audio,text\n")
    with pytest.raises(DataError, match=r"several tables: more.csv, table.tsv"):
        read(tmp_path)


def test_what_cannot_be_imported_is_told_with_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "readme.md").write_text("")
    with pytest.raises(DataError, match=r"nothing to import; .* has readme.md"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"nosuch/deeper does not exist; .* has readme.md"):
        read(tmp_path / "nosuch" / "deeper")
    write_sound(tmp_path / "a.flac")
    assert [one.reason for one in read(tmp_path).dropped] == [NO_TRANSCRIPT]
    (tmp_path / "x.trans.txt").write_text("")
    with pytest.raises(DataError, match="laid out as LibriSpeech"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"PK\x03\x04abc", "is a zip archive or an Excel sheet, not a table of text"),
        ("t.xls", b"\xd0\xcf\x11\xe0\xa1", "an Excel sheet, not a table of text. Fix: save it as"),
        ("t.parquet", b"PAR1abcd", "a Parquet file"),
        ("x_supervisions.jsonl.gz", gzip.compress(b"{}", mtime=0), "compressed by gzip"),
        ("a.WAV", b"RIFF", "is one sound file, not a corpus. Fix: give the folder of it"),
        ("t.tsv", b"", "t.tsv is empty (0 bytes). Fix: give a table"),
        ("t.json", b"", "t.json is empty (0 bytes). Fix: give a table"),
        ("wav.scp", b"a a.wav", "is one file of a corpus. Fix: --from "),
    ],
)
def test_files_of_other_formats_are_refused(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as said:
        read(tmp_path / name)
    assert message in str(said.value)
