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
from numpy.typing import NDArray

from zipasr.audio.channels import ONE_CHANNEL, ChannelMeasures
from zipasr.audio.decoding import decoding
from zipasr.audio.faults import (
    NO_SAMPLES,
    NOT_FINITE,
    NOT_UTF8,
    SILENT,
    TOO_LOUD,
    UndecodableError,
    is_lasting,
)
from zipasr.base.progress import Progress

_FULL_SCALE = 0.999
# Floating-point files may go a little beyond 1; integers that were not scaled go far beyond.
_FAR_BEYOND = 64.0


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
        level: of the loudest hundredth of the time, in decibels of full scale.
        weights: of the channels in the one that is made of them; empty: equal ones.
        mixing: the same in words.
        told: what is unusual about the file.
        is_plain: any program reads the same samples from it.
    """

    fault: str = ""
    rate: int = 0
    num_samples: int = 0
    digest: str = ""
    energies: tuple[float, ...] = ()
    clipped: float = 0.0
    level: float = 0.0
    weights: tuple[float, ...] = ()
    mixing: str = ONE_CHANNEL
    told: str = ""
    is_plain: bool = False

    @property
    def seconds(self) -> float:
        """Length of the sound."""
        return self.num_samples / self.rate if self.rate else 0.0


def read_audio_info(path: Path) -> AudioInfo:
    """Decode a file in blocks and describe it; never raises on account of the file."""
    return survey(path)


def survey(path: Path, keep: list[NDArray[np.float32]] | None = None) -> AudioInfo:
    """Decode a file once and describe it.

    Args:
        path: of the file.
        keep: takes the blocks (num_samples, channels), unless there is a fault.

    Raises:
        ResourceError: the machine lacks file handles or memory.
    """
    try:
        with decoding(path) as sound:
            measures = SampleMeasures(sound.channels, sound.rate)
            for block in sound.blocks:
                measures.add(block)
                if keep is not None:
                    keep.append(block)
            return measures.info(sound.told, sound.is_plain)
    except UndecodableError as problem:
        return AudioInfo(fault=str(problem))


class SampleMeasures:
    """Facts about samples, block by block.

    Args:
        channels: their number.
        rate: samples a second.
    """

    def __init__(self, channels: int, rate: int) -> None:
        self._rate = rate
        self._digest = hashlib.blake2b(digest_size=16)
        self._squares = np.zeros(channels)
        self._channels = ChannelMeasures(channels, rate)
        self._count = self._at_full_scale = 0
        self._peak = 0.0

    def add(self, block: NDArray[np.float32]) -> None:
        """Take the next samples (num_samples, channels)."""
        self._digest.update(np.ascontiguousarray(block).data)
        absolute = np.abs(block)
        self._peak = max(self._peak, float(absolute.max(initial=0.0)))
        self._at_full_scale += int((absolute >= _FULL_SCALE).sum())
        self._count += len(block)
        with np.errstate(all="ignore"):  # what is not finite is a fault of the file
            self._squares += np.square(block, dtype=np.float64).sum(axis=0)
            self._channels.add(block)

    def info(self, told: str = "", is_plain: bool = True) -> AudioInfo:
        """Return the facts."""
        fault = self._fault()
        with np.errstate(all="ignore"):
            mixing = self._channels.mixing()
            level = self._channels.loud_level(mixing.weights)
        count = max(self._count, 1)
        return AudioInfo(
            fault=fault,
            rate=self._rate,
            num_samples=self._count,
            digest=self._digest.hexdigest(),
            energies=tuple((self._squares / count).tolist()) if fault != NOT_FINITE else (),
            clipped=self._at_full_scale / (count * len(self._squares)),
            level=level if fault != NOT_FINITE else 0.0,
            weights=mixing.weights,
            mixing=mixing.what,
            told=told,
            is_plain=is_plain,
        )

    def _fault(self) -> str:
        if self._count == 0:
            return NO_SAMPLES
        if not np.isfinite(self._squares).all():
            return NOT_FINITE
        if not self._squares.any():
            return SILENT
        return TOO_LOUD if self._peak > _FAR_BEYOND else ""


# Changes with what is measured: older notes are not used.
_VERSION = 2


class _Stamp(NamedTuple):
    """Size of a file, and the times at which its content and its entry were changed.

    A file that is copied over another one may bring its time along; the entry's is that of now.
    """

    size: int
    mtime_ns: int
    ctime_ns: int


#: Usual name of the file in which ``scan_files`` notes what it found.
SURVEY = "audio.jsonl"

#: Share of samples at full scale above which a file is clipped.
CLIPPED_SHARE = 1e-3


def scan_files(paths: Iterable[Path], cache: Path, num_jobs: int = 1) -> dict[Path, AudioInfo]:
    """Return the facts about each file, in the order of ``paths``, for manifests.

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
                if is_lasting(facts.fault):
                    file.write(_line(path, stamps[path], facts))
                progress.step()
    return {path: _nameable(path, known[path]) for path in stamps}


def _nameable(path: Path, facts: AudioInfo) -> AudioInfo:
    """Return a fault for a file whose name cannot stand in a manifest."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return AudioInfo(fault=NOT_UTF8)
    return facts


def _stamp(path: Path) -> _Stamp | None:
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return None
    return _Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _line(path: Path, stamp: _Stamp | None, facts: AudioInfo) -> str:
    entry = {"version": _VERSION, "path": str(path), "stamp": stamp}
    return json.dumps(entry | {"facts": dataclasses.asdict(facts)}) + "\n"


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
                lists = {name: tuple(facts[name]) for name in ("energies", "weights")}
                yield path, AudioInfo(**facts | lists)


def _entry(line: str) -> dict[str, Any]:
    # The last line may have been cut off by whatever ended the last survey.
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) and entry.get("version") == _VERSION else {}
