"""Kaldi data directories: every field is obeyed, every line that cannot be used is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.corpora.own import write_sound
from zipasr.audio.audio_info import read_audio_info
from zipasr.corpora.custom.columns import NEGATIVE, NOT_A_TIME, REVERSED
from zipasr.corpora.custom.kaldi import (
    ARCHIVE,
    BAD_SEGMENT,
    NO_RECORDING,
    NO_SEGMENT,
    NOT_TRANSCRIBED,
    file_name,
)
from zipasr.corpora.custom.own_corpus import run_commands
from zipasr.corpora.custom.readers import read_source
from zipasr.corpora.custom.utterances import ImportedCorpus, Utterance


def write_kaldi(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = folder / name.replace("_scp", ".scp")
        path.write_text(text, encoding="utf-8", newline="")
    return folder


def read(folder: Path) -> ImportedCorpus:
    return read_source(folder, "utf-8", Path("piped"))


def by_id(found: ImportedCorpus) -> dict[str, Utterance]:
    return {utterance.id: utterance for utterance in found.utterances}


def why(found: ImportedCorpus) -> dict[str, str]:
    return {one.utterance: one.reason for one in found.dropped}


def test_a_kaldi_data_directory(tmp_path: Path) -> None:
    audio = write_sound(tmp_path / "rec.wav", 2.0)
    folder = write_kaldi(
        tmp_path / "data",
        wav_scp=f"rec {audio}\n",
        segments="u1 rec 0.5 1.5\nu2 rec 1.5 -1\nu3 other 0 1\n",
        text="u1 yes  no\nu2\nu3 lost\nu4 lost too\n",
        utt2spk="u1 s1\nu2 s2\n",
        spk2gender="s1 f\n",
    )
    found = read(folder)
    assert found.utterances == [
        Utterance(id="u1", audio=audio, text="yes no", start=0.5, end=1.5, speaker="s1")
    ]
    assert why(found) == {"u2": "empty transcript", "u3": NO_RECORDING, "u4": NO_SEGMENT}
    assert [one.where for one in found.dropped] == [
        "segments, line 2",
        "segments, line 3",
        "text, line 4",
    ]
    assert found.unused == {"spk2gender": ["data"]}


def test_splits_pipes_and_relative_paths(tmp_path: Path) -> None:
    audio = write_sound(tmp_path / "corpus" / "a.wav")
    write_kaldi(tmp_path / "data" / "train", wav_scp=f"a cat {audio} |\n", text="a piped\n")
    write_kaldi(tmp_path / "data" / "test", wav_scp="b corpus/a.wav\n", text="b relative\n")
    write_kaldi(tmp_path / "data" / "lang")
    write_kaldi(tmp_path / "data" / "other", wav_scp="", text="")
    found = read_source(tmp_path / "data", "utf-8", tmp_path / "piped")
    utterances = by_id(found)
    assert {u.id: u.split for u in utterances.values()} == {"a": "train", "b": "test"}
    assert utterances["b"].audio.samefile(audio)
    assert run_commands(list(utterances.values()), 1) == {}
    assert read_audio_info(utterances["a"].audio) == read_audio_info(audio)
    assert list(found.unused) == ["folder other"]


def test_a_pipe_that_fails_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    audio = write_sound(tmp_path / "a.wav")
    wav_scp = f"a cat /no/such/file |\nb cat {audio} |\nc printf '\\377' >&2; false |\n"
    write_kaldi(tmp_path / "data", wav_scp=wav_scp, text="a x\nb y\nc z\n")
    found = read_source(tmp_path / "data", "utf-8", tmp_path / "piped")
    faults = run_commands(found.utterances, 1)
    a, b, c = (utterance.audio for utterance in found.utterances)
    assert set(faults) == {a, c}
    assert "'cat /no/such/file' ended with 1: " in faults[a]
    assert list((tmp_path / "piped").glob("*.wav")) == [b]


def test_what_a_pipe_fetches_from_elsewhere_is_fetched_again_by_force(tmp_path: Path) -> None:
    audio, log = write_sound(tmp_path / "a.wav"), tmp_path / "log"
    # As "ssh host cat a.wav |" does, it names no file of this machine whose time would tell.
    write_kaldi(tmp_path / "data", wav_scp=f"a F={audio}; echo . >>{log}; cat $F |\n", text="a x\n")
    utterances = read_source(tmp_path / "data", "utf-8", tmp_path / "piped").utterances
    for force, times in (False, 1), (False, 1), (True, 2):
        assert run_commands(utterances, 1, force) == {}
        assert len(log.read_text().split()) == times


@pytest.mark.parametrize("recording", ["../../../up", "/etc/x", "..", "a/b", "ü" * 200, "-"])
def test_the_output_of_a_pipe_has_a_flat_name(recording: str) -> None:
    name = file_name(recording, "cat x")
    assert Path(name).parts == (name,)
    assert len(f"{name}.wav".encode()) < 255
    assert not name.startswith(".")
    assert name != file_name(recording, "cat y")


def test_the_output_of_a_pipe_is_another_one_when_its_file_changes(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a b.wav")
    os.utime(path, (9, 9))
    names = [file_name("r", f"sox '{path}' -t wav -")]
    os.utime(path, (5, 5))  # older
    names.append(file_name("r", f"sox '{path}' -t wav -"))
    write_sound(path, 2.0)
    os.utime(path, (5, 5))
    names.append(file_name("r", f"sox '{path}' -t wav -"))
    assert len(set(names)) == 3
    assert file_name("r", "sox 'open") == file_name("r", "sox 'open")


@pytest.mark.parametrize(
    ("times", "reason"),
    [
        ("1.5 0.5", REVERSED),
        ("0.5 0.5", REVERSED),
        ("0.5 -2", REVERSED),
        ("-0.5 1", NEGATIVE),
        ("nan 1", NOT_A_TIME),
        ("0 inf", NOT_A_TIME),
        ("0 1e999", NOT_A_TIME),
        ("0:00 1", NOT_A_TIME),
        ("0.5", BAD_SEGMENT),
        ("0.5 1 0 0", BAD_SEGMENT),
        ("0.5 1 left+right", "a channel that is no number from 0 and no letter"),
    ],
)
def test_times_that_are_wrong_cost_one_utterance(times: str, reason: str, tmp_path: Path) -> None:
    write_sound(tmp_path / "rec.wav", 2.0)
    folder = write_kaldi(
        tmp_path,
        wav_scp="rec rec.wav\n",
        segments=f"u0 rec 0 1\nu1 rec {times}\n",
        text="u0 yes\nu1 no\n",
    )
    found = read(folder)
    assert [u.id for u in found.utterances] == ["u0"]
    (one,) = found.dropped
    assert (one.utterance, one.where, one.reason) == ("u1", "segments, line 2", reason)


def test_a_start_within_rounding_is_the_beginning(tmp_path: Path) -> None:
    write_sound(tmp_path / "rec.wav", 2.0)
    segments = "u0 rec -0.05 1\nu1 rec 1 -1.00\n"
    write_kaldi(tmp_path, wav_scp="rec rec.wav\n", segments=segments, text="u0 a\nu1 b\n")
    times = [(u.start, u.end) for u in read(tmp_path).utterances]
    assert times == [(0.0, 1.0), (1.0, None)]


def test_the_fifth_column_is_the_channel(tmp_path: Path) -> None:
    write_sound(tmp_path / "call.wav", 2.0, channels=2)
    segments = "a call 0 1 0\nb call 0 1 1\nc call 0 1 B\n"
    write_kaldi(tmp_path, wav_scp="call call.wav\n", segments=segments, text="a x\nb y\nc z\n")
    assert [u.channel for u in read(tmp_path).utterances] == [0, 1, 1]


def test_segments_without_text_are_counted(tmp_path: Path) -> None:
    write_sound(tmp_path / "r.wav", 2.0)
    segments = "a r 0 1\nb r 1 2\nc r 0.5 1.5\n"
    write_kaldi(tmp_path, wav_scp="r r.wav\n", segments=segments, text="a x\n")
    found = read(tmp_path)
    assert why(found) == {"b": NOT_TRANSCRIBED, "c": NOT_TRANSCRIBED}
    assert not any(one.is_fault for one in found.dropped)
    assert found.notes[NOT_TRANSCRIBED] == 2


def test_an_id_that_stands_twice(tmp_path: Path) -> None:
    write_sound(tmp_path / "r.wav")
    wav_scp = "a r.wav\nb r.wav\nc r.wav\nd r.wav\nd q.wav\n"
    text = "a one\na two\nb same\nb  same\nc three\na four\nd x\n"
    found = read(write_kaldi(tmp_path, wav_scp=wav_scp, text=text))
    assert [(u.id, u.text) for u in found.utterances] == [("b", "same"), ("c", "three")]
    details = {one.utterance: one.detail for one in found.dropped}
    assert details == {"a": "text, line 1 and 2 and 6", "d": "wav.scp, line 4 and 5"}
    assert found.notes["lines that repeat an earlier one of text"] == 1


@pytest.mark.parametrize(
    "separator", ["\u2028", "\u2029", "\v", "\f", "\x85", "\x1c", "\x1e", "\r", "\xa0"]
)
def test_only_a_line_feed_ends_a_line(separator: str, tmp_path: Path) -> None:
    write_sound(tmp_path / "r.wav")
    wav_scp = "a r.wav\nb r.wav\n"
    text = f"a one{separator}two\nb three{separator}\n"
    found = read(write_kaldi(tmp_path, wav_scp=wav_scp, text=text))
    assert [(u.id, u.text) for u in found.utterances] == [("a", "one two"), ("b", "three")]
    assert not found.dropped


def test_archives_are_refused_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "wav.ark").write_bytes(b"x" * 100)
    found = read(write_kaldi(tmp_path, wav_scp="a wav.ark:7\nb -\n", text="a x\nb y\n"))
    assert why(found) == {"a": ARCHIVE, "b": "wav.scp names the standard input"}


def test_the_same_id_in_two_splits_is_two_utterances(tmp_path: Path) -> None:
    write_sound(tmp_path / "r.wav")
    for split in ("train", "test"):
        write_kaldi(tmp_path / "d" / split, wav_scp="a r.wav\n", text=f"a {split}\n")
    found = read(tmp_path / "d")
    assert [(u.id, u.text) for u in found.utterances] == [("a", "test"), ("a-2", "train")]
