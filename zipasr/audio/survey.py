"""The facts about all files of a corpus: read side by side, and once as long as none changes."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from zipasr.audio.facts import AudioFacts, facts_of
from zipasr.base.progress import Progress


class _Stamp(NamedTuple):
    """What changes when a file does."""

    size: int
    mtime_ns: int


def survey(paths: Iterable[Path], cache: Path, num_jobs: int = 1) -> dict[Path, AudioFacts]:
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
            for path, facts in zip(missing, pool.map(facts_of, missing), strict=True):
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


def _line(path: Path, stamp: _Stamp | None, facts: AudioFacts) -> str:
    entry = {"path": str(path), "stamp": stamp, "facts": dataclasses.asdict(facts)}
    return json.dumps(entry, ensure_ascii=False) + "\n"


def _end_last_line(cache: Path) -> None:
    """Keep a line that was cut off from swallowing the next one."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    with cache.open("ab+") as file:
        if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            file.write(b"\n")


def _remembered(
    cache: Path, stamps: dict[Path, _Stamp | None]
) -> Iterator[tuple[Path, AudioFacts]]:
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
                yield path, AudioFacts(**{**facts, "energies": tuple(facts["energies"])})


def _entry(line: str) -> dict[str, Any]:
    # The last line may have been cut off by whatever ended the last survey.
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) and "facts" in entry else {}
