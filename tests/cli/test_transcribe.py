"""Recordings from the command line: any length and format, words with times, bad input."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests import speaking_model, tones
from zipasr.base.constants import WINDOW
from zipasr.cli import decode, export, train, transcribe

MODEL = ("--epoch", "2", "--avg", "1", "--use-averaged-model", "0")


@pytest.fixture
def folder(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(run_folder)
    return run_folder


def call(folder: Path, *words: str) -> int:
    return transcribe.main(["--recipe", str(folder / "tones"), *MODEL, *words])


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a minute of tones at 22 kHz, in stereo."""
    draws = np.random.default_rng(3)
    words = [str(word) for word in draws.choice(list(tones.TONES), size=60)]
    samples = tones.audio_of(words, draws)
    path = tmp_path_factory.mktemp("long") / "long.ogg"
    soundfile.write(path, np.stack([samples, samples], axis=1), tones.RATE)
    return path


def test_long_recording_in_all_formats(
    folder: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    flags = ("--window", "8", "--format", "txt,json,srt,ctm", "--output-dir", str(out))
    assert call(folder, str(recording), *flags) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "16000 Hz, 2 channels: mixed down" in told.err
    assert "RTF" in told.err
    assert sorted(path.name for path in out.iterdir()) == [
        "long.ctm",
        "long.json",
        "long.srt",
        "long.txt",
    ]
    content = json.loads((out / "long.json").read_text())
    starts = [word["start"] for word in content["words"]]
    assert starts == sorted(starts)
    assert all(word["end"] > word["start"] for word in content["words"])
    assert content["text"] == (out / "long.txt").read_text().strip()
    assert content["text"] == " ".join(word["word"] for word in content["words"])


def test_one_window_is_what_decode_gives(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    speaking_model.make_talkative(folder)
    audio = sorted((folder / "source" / "test").glob("*.flac"))
    assert call(folder, *map(str, audio), "--word-times", "transducer") == 0
    heard = capsys.readouterr().out.splitlines()
    assert all(heard)
    # From the sound, one by one, as transcribe.py does: nothing is rounded in another way.
    alone = ("--on-the-fly-feats", "1", "--max-duration", "0.1")
    tones.check(tones.run(folder, "decode.py", *MODEL, *alone))
    (recogs,) = (folder / "exp" / "greedy_search").glob("recogs-test-epoch-2_avg-1_context*1.txt")
    lines = [line for line in recogs.read_text().splitlines() if "\thyp=" in line]
    assert [json.dumps(line.split()) for line in heard] == [
        line.split("hyp=")[1].replace("'", '"') for line in lines
    ]


def test_what_cannot_be_read_does_not_stop_the_others(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"<html>")
    good = next((folder / "source" / "test").glob("*.flac"))
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.zeros(tones.RATE), tones.RATE)
    assert call(folder, str(bad), str(tmp_path), str(silent), str(good)) == 3
    told = capsys.readouterr()
    assert told.out.count("\n") == 2
    # Whatever the model would make of silence.
    assert f"{silent}: 0 words" in told.err
    assert "an HTML page" in told.err
    assert f"Is a directory. Fix: name the files in it, for example {tmp_path}/*.wav." in told.err
    assert "16000 Hz, all samples are zero" in told.err
    assert "2 of 4 files could not be read" in told.err


def test_too_short_for_a_word(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    click, lacking = tmp_path / "click.wav", tmp_path / "lacking.wav"
    soundfile.write(click, np.full(WINDOW - 1, 0.5), tones.RATE)
    assert call(folder, str(click)) == 0
    told = capfd.readouterr()
    assert told.out == "\n"
    assert f"{click}: 0 words" in told.err
    # Of a single file, its own fault and nothing about others.
    assert call(folder, str(lacking)) == 3
    (error,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error")]
    assert error.startswith(f"error: {lacking}: the file does not exist. Fix: ")


def test_results_that_cannot_be_written_are_known_at_the_start(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        assert call(folder, "no.wav", "--output-dir", str(place)) == 5
        assert f"error: --output-dir {place} cannot be used: " in capsys.readouterr().err


def test_a_checkpoint_alone_is_enough_in_any_folder(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    good = next((trained / "source" / "test").glob("*.flac"))
    checkpoint = str(trained / "exp" / "epoch-2.pt")
    assert transcribe.main(["--checkpoint", checkpoint, str(good), "--output-dir", "."]) == 0
    assert (tmp_path / f"{good.stem}.txt").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.wav", "--format", "docx"], "--format docx is unknown. Fix: choose from txt, "),
        (["a.wav", "b/a.flac", "--output-dir", "out"], "would have the same name"),
        (["a.wav", "--window", "3"], "--window must be more than twice"),
        ([], "the following arguments are required: FILE"),
    ],
)
def test_bad_flags(
    folder: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(folder, *words) == 2
    assert message in capsys.readouterr().err


def test_no_network_is_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[object] = []

    def refuse(_socket: socket.socket, address: object) -> None:
        asked.append(address)
        raise PermissionError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    audio = next((folder / "source" / "test").glob("*.flac"))
    assert call(folder, str(audio)) == 0
    words = ["--recipe", "./tones", "--num-workers", "0"]
    assert train.main([*words, "--num-epochs", "1", "--exp-dir", "exp/new"]) == 0
    assert decode.main([*words, *MODEL]) == 0
    assert export.main([*words, *MODEL, "--jit", "1"]) == 0, capsys.readouterr().err
    assert asked == []
