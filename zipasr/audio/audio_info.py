"""Duration, rate, channels and faults of sound files, read to their end; cached for a corpus."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from zipasr.base.progress import Progress

EMPTY = "empty file (0 bytes)"
MISSING = "the file does not exist"
HTML = "an HTML page, not audio (did the download fail?)"
POINTER = "a git-lfs pointer, not audio (run git lfs pull)"
NO_SAMPLES = "no samples"
SILENT = "all samples are zero"
NOT_FINITE = "samples that are not finite"
TOO_LOUD = "samples far beyond full scale (integers stored as floating point?)"

_BLOCK_FRAMES = 1 << 20
_FULL_SCALE = 0.999
# Floating-point files may go a little beyond 1; integers that were not scaled go far beyond.
_FAR_BEYOND = 64.0
_BYTES_OF_HEAD = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioInfo:
    """One file.

    Attributes:
        fault: why the file cannot be used; empty when it can.
        rate: samples a second.
        num_samples: of each channel, as decoded.
        digest: of the decoded samples; equal for equal sound in different containers.
        energies: mean square of each channel.
        clipped: share of the samples at full scale.
    """

    fault: str = ""
    rate: int = 0
    num_samples: int = 0
    digest: str = ""
    energies: tuple[float, ...] = ()
    clipped: float = 0.0

    @property
    def seconds(self) -> float:
        """Length of the sound."""
        return self.num_samples / self.rate if self.rate else 0.0


def read_audio_info(path: Path) -> AudioInfo:
    """Decode a file in blocks and describe it; never raises on account of the file."""
    fault = _fault_of_head(path)
    if fault:
        return AudioInfo(fault=fault)
    try:
        with soundfile.SoundFile(path) as file:
            return _decoded(file)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as problem:
        said = getattr(problem, "error_string", "") or str(problem)
        return AudioInfo(fault=f"cannot be decoded: {said.strip().rstrip('.')}")


def _fault_of_head(path: Path) -> str:
    """Recognise from the first bytes what no audio library has a word for."""
    try:
        with path.open("rb") as file:
            head = file.read(_BYTES_OF_HEAD)
    except FileNotFoundError:
        return MISSING
    except OSError as problem:
        return f"cannot be read: {problem.strerror}"
    if not head:
        return EMPTY
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return HTML
    return POINTER if start.startswith(b"version https://git-lfs") else ""


def _decoded(file: soundfile.SoundFile) -> AudioInfo:
    digest = hashlib.blake2b(digest_size=16)
    squares = np.zeros(file.channels)
    count = at_full_scale = 0
    peak = 0.0
    # Some decoders stop in silence where the data end; the count shows it.
    for block in file.blocks(_BLOCK_FRAMES, dtype="float32", always_2d=True):
        digest.update(np.ascontiguousarray(block).data)
        squares += np.square(block, dtype=np.float64).sum(axis=0)
        absolute = np.abs(block)
        peak = max(peak, float(absolute.max(initial=0.0)))
        at_full_scale += int((absolute >= _FULL_SCALE).sum())
        count += len(block)
    return AudioInfo(
        fault=_fault_of_samples(file, count, squares, peak),
        rate=file.samplerate,
        num_samples=count,
        digest=digest.hexdigest(),
        energies=tuple(float(value) for value in squares / max(count, 1)),
        clipped=at_full_scale / max(count * file.channels, 1),
    )


def _fault_of_samples(
    file: soundfile.SoundFile, count: int, squares: np.ndarray, peak: float
) -> str:
    declared = file.frames
    if count == 0:
        return NO_SAMPLES
    if not np.isfinite(squares).all():
        return NOT_FINITE
    # Streamed files declare a length that is no length at all; only a shortage is a fault.
    if count < declared < np.iinfo(np.int64).max // 2:
        rate = file.samplerate
        return f"ends after {count / rate:.2f} s of the {declared / rate:.2f} s in its header"
    if not squares.any():
        return SILENT
    return TOO_LOUD if peak > _FAR_BEYOND else ""


class _Stamp(NamedTuple):
    """Size and modification time of a file."""

    size: int
    mtime_ns: int


def scan_files(paths: Iterable[Path], cache: Path, num_jobs: int = 1) -> dict[Path, AudioInfo]:
    """Return the facts about each file, in the order of ``paths``.

    What was found is appended to ``cache`` file by file, so that an interrupted survey goes on
    where it was. A file that has another size or time of change than noted there is read again.

    Args:
        paths: of sound files.
        cache: lines of JSON, one for each file that was read.
        num_jobs: threads that decode; decoding leaves Python to the others.
    """
    stamps = {path: _stamp(path) for path in paths}
    known = dict(_remembered(cache, stamps))
    missing = [path for path in stamps if path not in known]
    if missing:
        _end_last_line(cache)
        with (
            cache.open("a", encoding="utf-8") as file,
            ThreadPoolExecutor(num_jobs, "audio") as pool,
            Progress("reading audio files", len(stamps), start=len(known)) as progress,
        ):
            for path, facts in zip(missing, pool.map(read_audio_info, missing), strict=True):
                known[path] = facts
                file.write(_line(path, stamps[path], facts))
                progress.step()
    return {path: known[path] for path in stamps}


def _stamp(path: Path) -> _Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return _Stamp(status.st_size, status.st_mtime_ns)


def _line(path: Path, stamp: _Stamp | None, facts: AudioInfo) -> str:
    entry = {"path": str(path), "stamp": stamp, "facts": dataclasses.asdict(facts)}
    return json.dumps(entry, ensure_ascii=False) + "\n"


def _end_last_line(cache: Path) -> None:
    """Keep a line that was cut off from swallowing the next one."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    with cache.open("ab+") as file:
        if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            file.write(b"\n")


def _remembered(cache: Path, stamps: dict[Path, _Stamp | None]) -> Iterator[tuple[Path, AudioInfo]]:
    """Yield what the cache knows of files that are as they were; the last word on each counts."""
    if not cache.is_file():
        return
    with cache.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            entry = _entry(line)
            path = Path(entry.get("path", ""))
            stamp = stamps.get(path)
            if stamp is not None and entry["stamp"] == list(stamp):
                facts = entry["facts"]
                yield path, AudioInfo(**{**facts, "energies": tuple(facts["energies"])})


def _entry(line: str) -> dict[str, Any]:
    # The last line may have been cut off by whatever ended the last survey.
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) and "facts" in entry else {}
