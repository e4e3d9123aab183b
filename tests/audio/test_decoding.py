"""Files that are none, names that are odd, machines that lack something: a sentence each."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.audio.sounds import RATE, encoded, voice
from zipasr.audio import faults
from zipasr.audio.audio_info import read_audio_info, scan_files
from zipasr.audio.loading import load_sound, sound_of
from zipasr.base.errors import DataError, ResourceError

SOUND = voice(0.5)


@pytest.fixture
def not_waiting() -> Iterator[None]:
    """End a test that waits for somebody to write to a pipe."""
    timer = threading.Timer(60.0, os._exit, (1,))
    timer.start()
    yield
    timer.cancel()


@pytest.mark.usefixtures("not_waiting")
def test_pipes_and_devices_are_refused_and_nobody_waits(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "link.wav").symlink_to(tmp_path / "pipe.wav")
    paths = [tmp_path / "pipe.wav", tmp_path / "link.wav", Path("/dev/zero"), Path(os.devnull)]
    for path in paths:
        assert read_audio_info(path).fault == faults.NOT_A_FILE
        with pytest.raises(DataError, match=r"named pipe or a device.*write the sound to a file"):
            load_sound(path)
    found = scan_files(paths, tmp_path / "cache.jsonl")
    assert {facts.fault for facts in found.values()} == {faults.NOT_A_FILE}


def test_folders_and_impossible_names(tmp_path: Path) -> None:
    assert read_audio_info(tmp_path).fault.startswith(faults.CANNOT_READ)
    with pytest.raises(DataError, match="name the files in it"):
        load_sound(tmp_path)
    for name in ("a\0b.wav", "x" * 300 + ".wav"):
        path = tmp_path / name
        assert read_audio_info(path).fault
        assert scan_files([path], tmp_path / "cache.jsonl")[path].fault
        with pytest.raises(DataError):
            load_sound(path)


def test_lists_of_files_are_no_sound(tmp_path: Path) -> None:
    path = tmp_path / "a.m3u8"
    path.write_text("#EXTM3U\n/etc/passwd\n")
    assert read_audio_info(path).fault == faults.PLAYLIST


def test_a_name_that_is_not_utf8_is_read_and_cannot_be_imported(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    soundfile.write(os.fsencode(path), SOUND, RATE)
    assert len(load_sound(path).samples) == len(SOUND)
    facts = scan_files([path], tmp_path / "cache.jsonl")
    assert facts[path].fault == faults.NOT_UTF8
    assert scan_files([path], tmp_path / "cache.jsonl") == facts


def test_what_the_machine_lacks_is_not_the_files_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, SOUND, RATE)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        with contextlib.suppress(OSError):
            while len(taken) < 256:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        with pytest.raises(ResourceError, match="ulimit -n"):
            read_audio_info(path)
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not read_audio_info(path).fault


def test_faults_of_the_machine_are_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zipasr.audio.decoding.is_installed", lambda: False)
    path, cache = tmp_path / "a.m4a", tmp_path / "cache.jsonl"
    path.write_bytes(b"\0\0\0\x20ftypM4A " * 100)
    assert faults.NO_FFMPEG in scan_files([path], cache)[path].fault
    assert not cache.read_text()


def test_an_older_cache_is_read_again(tmp_path: Path) -> None:
    path, cache = tmp_path / "a.wav", tmp_path / "cache.jsonl"
    soundfile.write(path, SOUND, RATE)
    first = scan_files([path], cache)
    line = cache.read_text()
    cache.write_text(line.replace('"version": 2', '"version": 1') + "[]\nnull\n7\n{}\n")
    assert scan_files([path], cache) == first
    assert cache.read_text().count(str(path)) == 2


def test_a_file_of_the_same_size_and_time_is_read_again(tmp_path: Path) -> None:
    path, cache = tmp_path / "a.wav", tmp_path / "cache.jsonl"
    soundfile.write(path, SOUND, RATE)
    first = scan_files([path], cache)[path]
    stamp = path.stat()
    soundfile.write(tmp_path / "b.wav", SOUND[::-1], RATE)
    os.utime(tmp_path / "b.wav", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    (tmp_path / "b.wav").replace(path)
    assert path.stat()[6:8] == stamp[6:8]
    assert scan_files([path], cache)[path].digest != first.digest


def test_the_verdicts_do_not_depend_on_the_order(tmp_path: Path) -> None:
    contents = {
        "a.mp3": encoded(SOUND, "MP3"),
        "b.mp3": encoded(SOUND, "MP3")[:700],
        "c.flac": encoded(SOUND, "FLAC")[:900],
        "d.wav": encoded(SOUND, "WAV", "GSM610"),
        "e.ogg": encoded(SOUND, "OGG")[:2000],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    paths = [tmp_path / name for name in contents]
    there = scan_files(paths, tmp_path / "there.jsonl", 2)
    back = scan_files(paths[::-1], tmp_path / "back.jsonl", 3)
    assert {path: back[path] for path in paths} == there


def test_headerless_formats_are_known_by_their_names_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zipasr.audio.decoding.is_installed", lambda: False)
    raw = encoded(SOUND, "RAW", "GSM610", 8000)
    (tmp_path / "a.gsm").write_bytes(raw)
    assert load_sound(tmp_path / "a.gsm").seconds == pytest.approx(len(SOUND) / 8000, abs=0.05)
    (tmp_path / "a.au").write_bytes(raw)  # libsndfile would take it for telephone sound
    assert "Format not recognised" in read_audio_info(tmp_path / "a.au").fault


@pytest.mark.parametrize("rate", [1, 0.5, 10**7, float("inf"), float("nan"), -8000])
def test_samples_at_impossible_rates(rate: float) -> None:
    with pytest.raises(DataError, match="Hz"):
        sound_of((np.zeros(100, np.float32), rate))  # type: ignore[arg-type]


def test_no_samples_at_all() -> None:
    assert sound_of((np.zeros(0, np.float32), 8000)).seconds == 0.0
