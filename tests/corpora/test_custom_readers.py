"""Folders, Kaldi data directories and lhotse manifests become the same utterances."""

from __future__ import annotations

from pathlib import Path

import pytest
from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet

from tests.corpora.own import table_of, write_sound
from zipasr.audio.audio_info import read_audio_info
from zipasr.base.errors import DataError
from zipasr.corpora.custom.corpus import run_commands
from zipasr.corpora.custom.readers import NO_RECORDING, NO_TRANSCRIPT, read_source
from zipasr.corpora.custom.table import ImportedCorpus, Utterance


def read(path: Path, encoding: str = "utf-8") -> ImportedCorpus:
    return read_source(path, encoding, Path("piped"))


def by_id(found: ImportedCorpus) -> dict[str, Utterance]:
    return {utterance.id: utterance for utterance in found.utterances}


def write_kaldi(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("wav_scp", "wav.scp")).write_text(text)
    return folder


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
    assert [row[:2] for row in found.left_out] == [
        (str(tmp_path / "train/mute.flac"), NO_TRANSCRIPT)
    ]


def test_transcripts_of_another_encoding_are_counted(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_sound(tmp_path / f"{name}.wav").with_suffix(".txt").write_bytes(b"caf\xe9 cr\xe8me\n")
    with pytest.raises(DataError, match=r"a\.txt is not utf-8: line 1, column 4.*2 files"):
        read(tmp_path)
    assert [u.text for u in read(tmp_path, "latin-1").utterances] == ["café crème"] * 2


def test_a_kaldi_data_directory(tmp_path: Path) -> None:
    audio = write_sound(tmp_path / "rec.wav", 2.0)
    folder = write_kaldi(
        tmp_path / "data",
        wav_scp=f"rec {audio}\n",
        segments="u1 rec 0.5 1.5\nu2 rec 1.5 -1\nu3 other 0 1\n",
        text="u1 yes  no\nu2\nu3 lost\nu4 lost too\n",
        utt2spk="u1 s1\nu2 s2\n",
    )
    found = read(folder)
    assert found.utterances == [
        Utterance(id="u1", audio=audio, text="yes no", start=0.5, end=1.5, speaker="s1")
    ]
    reasons = {row.utterance: row.reason for row in found.left_out}
    assert reasons == {"u2": "empty transcript", "u3": NO_RECORDING, "u4": NO_RECORDING}


def test_kaldi_splits_pipes_and_relative_paths(tmp_path: Path) -> None:
    audio = write_sound(tmp_path / "corpus" / "a.wav")
    write_kaldi(tmp_path / "data" / "train", wav_scp=f"a cat {audio} |\n", text="a piped\n")
    write_kaldi(tmp_path / "data" / "test", wav_scp="b corpus/a.wav\n", text="b relative\n")
    write_kaldi(tmp_path / "data" / "lang")
    utterances = by_id(read_source(tmp_path / "data", "utf-8", tmp_path / "piped"))
    assert {u.id: u.split for u in utterances.values()} == {"a": "train", "b": "test"}
    assert utterances["b"].audio.samefile(audio)
    run_commands(list(utterances.values()), 1)
    assert read_audio_info(utterances["a"].audio) == read_audio_info(audio)


def test_a_pipe_that_fails_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    write_kaldi(tmp_path / "data", wav_scp="a cat /no/such/file |\n", text="a x\n")
    found = read_source(tmp_path / "data", "utf-8", tmp_path / "piped")
    with pytest.raises(DataError, match=r"wav.scp: 'cat /no/such/file' ended with 1: .*No such"):
        run_commands(found.utterances, 1)
    assert not list((tmp_path / "piped").iterdir())


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


def test_lhotse_recordings_that_are_no_plain_files_are_refused(tmp_path: Path) -> None:
    write_lhotse(tmp_path, "train", write_sound(tmp_path / "a.wav"))
    path = tmp_path / "x_recordings_train.jsonl.gz"
    RecordingSet.from_file(path).to_eager().perturb_speed(1.1).to_file(path)
    with pytest.raises(DataError):
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
    with pytest.raises(DataError, match=f"0 utterances.*{NO_TRANSCRIPT}"):
        read(tmp_path)
    (tmp_path / "x.trans.txt").write_text("")
    with pytest.raises(DataError, match="laid out as LibriSpeech"):
        read(tmp_path)
