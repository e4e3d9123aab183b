"""FLAC files are whole under their names, and conversions say what they were made from."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.audio.sounds import RATE, voice
from zipasr.audio.audio_info import read_audio_info
from zipasr.audio.flac import origin_of, write_flac
from zipasr.audio.loading import convert, converted_name, is_converted
from zipasr.base.errors import DataError, ResourceError

WHOLE = (voice(1.0) * 32767).astype(np.int16)


def test_a_file_reads_back_and_says_what_it_was_made_from(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.flac"
    write_flac(path, WHOLE, RATE, "here")
    found, rate = soundfile.read(path, dtype="int16")
    np.testing.assert_array_equal(found, WHOLE)
    assert (rate, origin_of(path)) == (RATE, "here")
    assert origin_of(tmp_path / "none.flac") == ""
    (tmp_path / "b.flac").write_bytes(b"no sound")
    assert origin_of(tmp_path / "b.flac") == ""


def test_without_an_origin_the_bytes_are_those_of_the_library(tmp_path: Path) -> None:
    write_flac(tmp_path / "a.flac", WHOLE, RATE)
    plain = io.BytesIO()
    soundfile.write(plain, WHOLE, RATE, format="FLAC", subtype="PCM_16")
    assert (tmp_path / "a.flac").read_bytes() == plain.getvalue()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.flac"
    write_flac(path, WHOLE, RATE, "old")

    def full(self: Path, data: bytes) -> int:
        del self
        with Path("/dev/full").open("wb") as file:
            return file.write(data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_flac(path, WHOLE[::-1].copy(), RATE, "new")
    assert origin_of(path) == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.flac"]


@pytest.mark.parametrize("kept", [0, 10, 100, 1000])
def test_a_file_that_lost_its_end_does_not_get_its_name(
    kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda self, data: real(self, bytes(data)[:kept]))
    with pytest.raises(ResourceError, match="reads back differently"):
        write_flac(tmp_path / "a.flac", WHOLE, RATE)
    assert not list(tmp_path.iterdir())


def test_the_longest_name_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250 + ".flac")
    write_flac(path, WHOLE, RATE)
    assert path.is_file()


@pytest.mark.parametrize("name", ["n" * 251 + ".wav", "ü" * 125 + ".wav", "a.wav"])
def test_names_of_conversions_fit_a_disk(name: str, tmp_path: Path) -> None:
    names = {converted_name(name, channel) for channel in (None, 0, 1)}
    names.add(converted_name(name[:-5] + "x.wav"))
    assert len(names) == 4
    for one in names:
        (tmp_path / one).touch()
    assert (converted_name("a.wav"), converted_name("a.wav", 1)) == ("a.wav.flac", "a.wav.1.flac")


def test_conversions_are_taken_again_when_sound_or_channel_change(tmp_path: Path) -> None:
    source, target = tmp_path / "a.wav", tmp_path / "a.wav.flac"
    soundfile.write(source, np.stack([WHOLE, WHOLE // 2], axis=1), 8000)
    facts = read_audio_info(source)
    assert not is_converted(facts, target)
    convert(source, facts, target)
    assert is_converted(facts, target)
    assert not is_converted(facts, target, channel=1)
    # An older file takes the place of the source.
    soundfile.write(source, np.stack([WHOLE[::-1], WHOLE // 2], axis=1), 8000)
    os.utime(source, (10**9, 10**9))
    changed = read_audio_info(source)
    assert not is_converted(changed, target)
    convert(source, changed, target)
    assert is_converted(changed, target)
    target.write_bytes(target.read_bytes()[:50])
    assert not is_converted(changed, target)


def test_a_source_that_changes_meanwhile_is_told(tmp_path: Path) -> None:
    source = tmp_path / "a.wav"
    soundfile.write(source, WHOLE, 8000)
    facts = read_audio_info(source)
    soundfile.write(source, WHOLE[::-1], 8000)
    with pytest.raises(DataError, match="has changed since it was read"):
        convert(source, facts, tmp_path / "a.flac")
    assert not (tmp_path / "a.flac").exists()
