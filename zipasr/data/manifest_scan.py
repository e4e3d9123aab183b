"""Going through a large manifest once: its lines are copied, and its cuts judged by processes.

Each process judges some lines at a time, of the copy. What it cannot judge without an error is
judged again by the process that asked, cut by cut as lhotse reads them: so errors are the same, in
whatever process they are found, and the first of them counts.
"""

from __future__ import annotations

import gc
import gzip
import io
import json
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import BinaryIO, NamedTuple

from lhotse.cut import Cut
from lhotse.serialization import deserialize_item

from zipasr.audio.quarantine import Quarantine
from zipasr.base.distributed import end_with_parent
from zipasr.base.errors import ResourceError
from zipasr.data.cuts import judge_cuts
from zipasr.data.fbank import is_left_out
from zipasr.data.feature_store import process_context
from zipasr.data.filters import BROKEN_MANIFEST, JudgedCut, TrainFilter
from zipasr.data.manifests import check_row, is_harmless
from zipasr.data.plain_cuts import plain_cut
from zipasr.data.worker_processes import prepare_worker

_PIECE_BYTES = 1 << 20  # of lines that are judged at a time
_BYTES_OF_PROCESS = 2_000_000  # of a manifest, compressed: less is not worth one more
_MOST_PROCESSES = 8
_PIECES_AHEAD = 4  # for each process


class Rules(NamedTuple):
    """What cuts of a manifest are judged by.

    Attributes:
        manifest: named in errors.
        wanted: the filter of the training.
        quarantine: cuts that are passed over.
        allow_commands: shell commands that the manifest names may run.
    """

    manifest: Path
    wanted: TrainFilter
    quarantine: Quarantine
    allow_commands: bool


class _Piece(NamedTuple):
    """Whole lines of a file, from a byte on, up to another."""

    path: Path
    begin: int
    end: int

    def lines(self) -> list[bytes]:
        """Return the lines, each with its end."""
        with self.path.open("rb") as file:
            file.seek(self.begin)
            return io.BytesIO(file.read(self.end - self.begin)).readlines()


class ScannedLines(NamedTuple):
    """What is found in some lines.

    Attributes:
        num_lines: so many.
        offsets: first byte of the line of each cut.
        sizes: bytes of the line.
        cuts: all but those that the quarantine leaves out.
    """

    num_lines: int
    offsets: list[int]
    sizes: list[int]
    cuts: list[JudgedCut]


def scan(
    rules: Rules, copy: Path, num_processes: int | None = None
) -> Generator[ScannedLines, None, None]:
    """Copy the lines of a manifest, and yield what is found in them, in order.

    Args:
        rules: which manifest, and what cuts are judged by.
        copy: where the lines go.
        num_processes: that judge; None takes the cores that there are.

    Raises:
        Exception: what the first bad row raises, or reading the file; see ``BROKEN_MANIFEST``.
        DataError: a row names a command that may not run.
        ResourceError: a process was killed.
    """
    processes = num_processes or _processes_for(rules.manifest)
    with gzip.open(rules.manifest, "rb") as lines, copy.open("wb") as file:
        pieces = _copied(lines, copy, file)
        for piece, found in _judged(pieces, rules, processes):
            yield _one_by_one(piece, rules) if found is None else found


def _processes_for(manifest: Path) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, _MOST_PROCESSES, 1 + manifest.stat().st_size // _BYTES_OF_PROCESS)


def _copied(lines: gzip.GzipFile, path: Path, copy: BinaryIO) -> Iterator[_Piece]:
    """Copy lines, and yield where they are; those before damage, too, before its error."""
    pending, begin = bytearray(), 0

    def piece(size: int) -> _Piece:
        nonlocal begin
        copy.write(pending[:size])
        copy.flush()
        del pending[:size]
        begin += size
        return _Piece(path, begin - size, begin)

    try:
        # In the blocks that reading lines takes: one that is damaged is lost.
        while block := lines.read1():
            pending += block
            if len(pending) >= _PIECE_BYTES and b"\n" in block:
                yield piece(pending.rindex(b"\n") + 1)
    except BROKEN_MANIFEST:
        yield piece(pending.rfind(b"\n") + 1)
        raise
    yield piece(len(pending))


def _judged(
    pieces: Iterable[_Piece], rules: Rules, processes: int
) -> Iterator[tuple[_Piece, ScannedLines | None]]:
    """Yield what is found in each piece; None where some row is bad."""
    pool = _started(processes, rules) if processes > 1 else None
    if pool is None:
        yield from ((piece, _at_once(piece, rules)) for piece in pieces)
        return
    waiting: deque[tuple[_Piece, Future[ScannedLines | None]]] = deque()
    problem: Exception | None = None
    try:
        try:
            for piece in pieces:
                waiting.append((piece, pool.submit(_of_process, piece)))
                if len(waiting) > _PIECES_AHEAD * processes:
                    piece, found = waiting.popleft()
                    yield piece, found.result()
        except BROKEN_MANIFEST as error:
            problem = error  # which comes after what is wrong with rows that were read
        for piece, found in waiting:
            yield piece, found.result()
    except BrokenProcessPool as error:
        raise ResourceError(
            "a process that read a manifest was killed, perhaps for lack of memory.",
            "give the same command again where more memory is free",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
    if problem is not None:
        raise problem


def _started(processes: int, rules: Rules) -> ProcessPoolExecutor | None:
    """Start processes; None where the system has no room for them, or no semaphores."""
    try:
        pool = ProcessPoolExecutor(
            processes, process_context(), initializer=_start, initargs=(rules,)
        )
    except (ImportError, NotImplementedError, OSError):
        return None
    try:
        pool.submit(os.getpid)
    except OSError:
        for process in pool._processes.values():
            process.kill()  # nobody would ask it to end
            process.join()
        return None
    return pool


# Of a process that judges.
_GIVEN: list[Rules] = []


def _start(rules: Rules) -> None:
    prepare_worker()
    end_with_parent(signal.SIGKILL)
    gc.disable()  # rows have no cycles
    _GIVEN[:] = [rules]


def _of_process(piece: _Piece) -> ScannedLines | None:
    return _at_once(piece, _GIVEN[0])


def _at_once(piece: _Piece, rules: Rules) -> ScannedLines | None:
    """Judge the cuts of a piece together; None where that raises an error."""
    try:
        return _scanned(piece.lines(), piece.begin, rules, _fast_cut)
    except Exception:  # whatever a bad row raises
        return None


def _one_by_one(piece: _Piece, rules: Rules) -> ScannedLines:
    """Judge the cuts of a piece, each before the next line is looked at."""
    parts, begin = [], piece.begin
    for line in piece.lines():
        parts.append(_scanned([line], begin, rules, _cut))
        begin += len(line)
    return ScannedLines(
        len(parts),
        [offset for part in parts for offset in part.offsets],
        [size for part in parts for size in part.sizes],
        [cut for part in parts for cut in part.cuts],
    )


def _scanned(
    lines: Sequence[bytes], begin: int, rules: Rules, read: Callable[[bytes, Rules], Cut]
) -> ScannedLines:
    offsets, sizes, cuts = [], [], []
    for line in lines:
        cut = read(line, rules)
        if not is_left_out(cut, rules.quarantine):
            offsets.append(begin)
            sizes.append(len(line))
            cuts.append(cut)
        begin += len(line)
    return ScannedLines(len(lines), offsets, sizes, judge_cuts(cuts, rules.wanted))


def _cut(line: bytes, rules: Rules) -> Cut:
    row = json.loads(line)
    check_row(row, rules.manifest, allow_commands=rules.allow_commands)
    return deserialize_item(row)


def _fast_cut(line: bytes, rules: Rules) -> Cut:
    """Return what ``_cut`` does, as far as rules ask for it."""
    row = json.loads(line)
    if not (rules.allow_commands or is_harmless(line)):
        check_row(row, rules.manifest, allow_commands=False)
    cut = plain_cut(row)
    return deserialize_item(row) if cut is None else cut
