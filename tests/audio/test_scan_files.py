import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from zipasr.audio import audio_info as module
from zipasr.audio.audio_info import AudioInfo, read_audio_info, scan_files


def write_files(folder: Path, count: int) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [folder / f"{i}.flac" for i in range(count)]
    for path in paths:
        soundfile.write(path, rng.normal(scale=0.1, size=1600), 16000)
    return paths


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are opened."""
    opened: list[Path] = []

    def watched(path: Path) -> AudioInfo:
        opened.append(path)
        return read_audio_info(path)

    monkeypatch.setattr(module, "read_audio_info", watched)
    return opened


def test_every_file_is_read_once_and_again_only_when_it_changes(
    tmp_path: Path, reads: list[Path]
) -> None:
    paths, cache = write_files(tmp_path, 5), tmp_path / "cache" / "audio.jsonl"
    first = scan_files(paths, cache, num_jobs=2)
    assert list(first) == paths
    assert sorted(reads) == paths
    reads.clear()
    assert scan_files(paths, cache) == first
    assert reads == []
    later = paths[1].stat().st_mtime_ns + 10**9
    os.utime(paths[1], ns=(later, later))
    paths[2].write_bytes(b"")
    again = scan_files(paths, cache)
    assert sorted(reads) == paths[1:3]
    assert again[paths[2]].fault
    assert again[paths[1]] == first[paths[1]]


def test_an_interrupted_survey_goes_on(tmp_path: Path, reads: list[Path]) -> None:
    paths, cache = write_files(tmp_path, 4), tmp_path / "audio.jsonl"
    whole = scan_files(paths, cache)
    lines = cache.read_bytes().splitlines(keepends=True)
    cache.write_bytes(b"".join(lines[:2]) + lines[2][:30])
    reads.clear()
    assert scan_files(paths, cache) == whole
    assert sorted(reads) == paths[2:]
    reads.clear()
    assert scan_files(paths, cache) == whole
    assert reads == []
