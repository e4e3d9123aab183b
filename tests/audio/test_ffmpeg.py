"""What libsndfile does not know goes to ffmpeg, for surveys, imports and transcription."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.audio.sounds import voice
from zipasr.audio import faults
from zipasr.audio.audio_info import read_audio_info
from zipasr.audio.loading import convert, load_sound, needs_conversion
from zipasr.base.errors import DataError

SOUND = np.stack([voice(1.0, rate=44100), -voice(1.0, rate=44100)], axis=1)

# In place of the program: writes the sound in the environment's file, and says what is asked for.
PROGRAM = f"""#!{sys.executable}
import os, struct, sys
sys.stderr.write(os.environ.get("FAKE_SAYS", ""))
assert any(word.startswith("file:") for word in sys.argv)
data = open(os.environ["FAKE_SOUND"], "rb").read()
if data:
    form = struct.pack("<HHIIHH", 3, 2, 44100, 352800, 8, 32)
    head = b"RIFF" + b"\\xff" * 4 + b"WAVEfmt " + struct.pack("<I", len(form)) + form
    head += b"LIST" + struct.pack("<I", 4) + b"INFO" + b"data" + b"\\xff" * 4
    sys.stdout.buffer.write(head + data)
sys.exit(int(os.environ.get("FAKE_EXIT", "0")))
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A program called ffmpeg that gives ``SOUND``; set FAKE_SAYS and FAKE_EXIT for more."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ffmpeg").write_text(PROGRAM)
    (folder / "ffmpeg").chmod(0o755)
    (tmp_path / "sound").write_bytes(SOUND.astype("<f4").tobytes())
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setenv("FAKE_SOUND", str(tmp_path / "sound"))
    return monkeypatch


@pytest.fixture
def unknown(tmp_path: Path) -> Path:
    path = tmp_path / "-a b.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(range(256)))
    return path


@pytest.mark.usefixtures("program")
def test_a_file_is_surveyed_converted_and_loaded(unknown: Path, tmp_path: Path) -> None:
    facts = read_audio_info(unknown)
    assert (facts.fault, facts.rate, facts.num_samples) == ("", 44100, 44100)
    assert facts.weights == (0.5, -0.5)
    assert "decoded by ffmpeg" in facts.told
    assert needs_conversion(unknown, facts)
    convert(unknown, facts, tmp_path / "a.flac")
    sound = load_sound(unknown)
    assert sound.seconds == 1.0
    assert "decoded by ffmpeg" in sound.about
    np.testing.assert_allclose(soundfile.read(tmp_path / "a.flac")[0], sound.samples, atol=1e-4)


@pytest.mark.parametrize(
    ("says", "code", "fault"),
    [
        ("[error] [mov @ 0x5] moov atom not found\n", 1, "moov atom not found"),
        ("[info] x\n[warning] Format mp3 detected only with low score of 1\n", 0, "no format that"),
        ("[info]  Duration: 00:00:04.00, start\n", 0, "ends after 1.00 s of the 4.00 s"),
        (
            "[info]  Duration: 00:00:01.30\n[error] partial file\n",
            0,
            "ends after 1.00 s of the 1.30",
        ),
    ],
)
def test_what_ffmpeg_says_is_heard(
    says: str, code: int, fault: str, unknown: Path, program: pytest.MonkeyPatch
) -> None:
    program.setenv("FAKE_SAYS", says)
    program.setenv("FAKE_EXIT", str(code))
    assert fault in read_audio_info(unknown).fault
    with pytest.raises(DataError) as told:
        load_sound(unknown)
    assert fault in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "says",
    [
        "[info]  Duration: 00:00:01.30, start\n",
        "[info]  Duration: 00:00:04.00, start\n[info] Stream #0:1: Video: h264\n",
        "[info]  Duration: 00:00:09.00\n[warning] Estimating duration from bitrate, this may be\n",
    ],
)
def test_lengths_that_are_no_promise(says: str, unknown: Path, program: pytest.MonkeyPatch) -> None:
    program.setenv("FAKE_SAYS", says)
    assert read_audio_info(unknown).fault == ""


def test_no_sound_in_a_file(unknown: Path, program: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sound").write_bytes(b"")
    program.setenv("FAKE_EXIT", "1")
    assert read_audio_info(unknown).fault == "cannot be decoded, ffmpeg: no sound in it"


def test_without_ffmpeg_a_sentence_says_so(
    unknown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert faults.NO_FFMPEG in read_audio_info(unknown).fault
    with pytest.raises(DataError, match="install ffmpeg"):
        load_sound(unknown)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_the_real_program_reads_what_it_writes(tmp_path: Path) -> None:
    import subprocess

    soundfile.write(tmp_path / "a.wav", SOUND[:, 0], 44100)
    words = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "a.wav"), str(tmp_path / "a.m4a")]
    subprocess.run(words, check=True)
    facts = read_audio_info(tmp_path / "a.m4a")
    assert (facts.fault, facts.rate) == ("", 44100)
    assert facts.seconds == pytest.approx(1.0, abs=0.05)
