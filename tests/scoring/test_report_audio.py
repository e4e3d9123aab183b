"""Speech in a report: embedded while there is room, then linked, never a reason to fail."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from zipasr.scoring.decodings import UtteranceRecord
from zipasr.scoring.html_report import sound_addresses


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    path = tmp_path / "a folder" / "speech.wav"
    path.parent.mkdir()
    soundfile.write(path, np.arange(16000, dtype=np.int16), 8000)
    return path


def record(name: str, audio: Path, start: float = 0.5) -> UtteranceRecord:
    return UtteranceRecord(id=name, ref=[], hyp=[], audio=str(audio), start=start, duration=0.25)


def test_embedded_speech_is_the_part_that_was_decoded(audio: Path, tmp_path: Path) -> None:
    address = sound_addresses([record("a", audio)], tmp_path, 1e6)["a"]
    kind, _, data = address.partition("base64,")
    assert kind == "data:audio/flac;"
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(data)), dtype="int16")
    assert rate == 8000
    assert samples.tolist() == list(range(4000, 6000))


def test_what_does_not_fit_is_linked(audio: Path, tmp_path: Path) -> None:
    records = [record("a", audio), record("b", audio, 1.0)]
    room = len(sound_addresses(records[:1], tmp_path, 1e6)["a"]) + 10
    found = sound_addresses(records, tmp_path / "exp", room)
    assert found["a"].startswith("data:")
    assert found["b"] == "../a%20folder/speech.wav#t=1.00,1.25"


def test_speech_that_is_not_there_is_left_out(audio: Path, tmp_path: Path) -> None:
    missing = record("a", tmp_path / "gone.wav")
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"<html>")
    silent = UtteranceRecord(id="c", ref=[], hyp=[])
    found = sound_addresses([missing, record("b", broken), silent], tmp_path, 1e6)
    assert found == {"b": "broken.wav#t=0.50,0.75"}
