"""Any common sound file becomes one channel at 16 kHz."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from zipasr.audio.loading import load_sound
from zipasr.base.errors import DataError


def tone(rate: int, seconds: float = 1.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)).astype("f4")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("rate", [8000, 44100])
def test_stereo_files_of_any_rate(tmp_path: Path, suffix: str, rate: int) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.stack([tone(rate), np.zeros(rate, "f4")], axis=1), rate)
    sound = load_sound(path)
    assert sound.seconds == pytest.approx(1.0, abs=0.1)
    assert f"{rate} Hz, 2 channels" in sound.about
    spectrum = np.abs(np.fft.rfft(sound.samples[:16000]))
    assert int(spectrum.argmax()) == pytest.approx(440, abs=3)
    # The silent channel is left out, not mixed in.
    assert np.sqrt(np.mean(sound.samples**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.1)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty file"), (b"<html>no</html>", "HTML page"), (b"\0" * 400, "cannot be decoded")],
)
def test_what_is_no_sound(
    tmp_path: Path, content: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    path = tmp_path / "a.m4a"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as info:
        load_sound(path)
    assert ("install ffmpeg" in str(info.value)) == (message == "cannot be decoded")
    with pytest.raises(DataError, match="does not exist"):
        load_sound(tmp_path / "none.wav")
