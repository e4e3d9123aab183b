"""Atomic writing of files: whole, or not there; removal of what killed processes left."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from zipasr.base.errors import ResourceError, is_disk_full

logger = logging.getLogger(__name__)

_TEMPORARY = ".tmp-"
_MAX_NAME_BYTES = 255  # of most file systems


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary sibling of ``path`` to write; rename it over ``path`` when all went well.

    The temporary name keeps the suffixes of ``path`` (libraries choose formats by suffix). What
    was written is flushed to disk before the rename, and the folder after it, so a power cut
    leaves the old file or the new one. When the block raises, the temporary file is removed and
    ``path`` is as before. The file is locked while it is written: one that is not is the rest of a
    process that was killed, which ``sweep`` removes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(_temporary_name(path.name))
    descriptor = _created(temporary)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as problem:
        if problem.filename is None and is_disk_full(problem):
            problem.filename = str(path)  # which a failed write does not tell
        raise
    finally:
        temporary.unlink(missing_ok=True)
        os.close(descriptor)


def write_text(path: Path, text: str, errors: str = "strict") -> None:
    """Write a UTF-8 file whole or not at all; see ``atomic_path``.

    Args:
        path: of the file.
        text: its contents.
        errors: what to do about characters that UTF-8 has not, as in ``str.encode``.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=errors)


def sweep(folder: Path, *, levels: int = 1) -> list[Path]:
    """Remove the temporary files that killed processes left, and say so.

    Files that another process is writing stay.

    Args:
        folder: where to look; may be missing.
        levels: of folders to look into; 1 is ``folder`` alone.

    Returns:
        The files that were removed.
    """
    removed, freed = [], 0
    for path in _temporary_files(folder, levels):
        try:
            size = path.stat().st_size
            if _unlink_abandoned(path):
                removed.append(path)
                freed += size
        except OSError:  # it has its name by now, or is not ours to remove
            continue
    if removed:
        logger.info(
            "removed %d temporary files (%.1f MB) that killed processes left in %s",
            len(removed),
            freed / 1e6,
            folder,
        )
    return removed


class FolderIdentity:
    """A folder that a run writes to, known by what it is and not only by its name.

    Args:
        path: the folder, which is there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._there = path.stat()

    def is_same(self) -> bool:
        """Say whether the folder is still where it was."""
        try:
            return os.path.samestat(self.path.stat(), self._there)
        except OSError:
            return False

    def check(self) -> None:
        """Refuse to go on in a folder of the same name that is another one.

        Raises:
            ResourceError: the folder was deleted, renamed or replaced.
        """
        if not self.is_same():
            raise ResourceError(
                f"the folder {self.path} was deleted or renamed while a run wrote to it: the run "
                "ends.",
                "put it back under its name, then give the same command: it goes on from the last "
                "checkpoint in it.",
            )


def lack_of(path: Path) -> str:
    """Return why a path is no file that can be read, for an error message."""
    return "is a folder" if path.is_dir() else "is no file" if path.exists() else "does not exist"


def sha256_of(paths: Iterable[Path]) -> str:
    """Return the digest of the contents of files, one after another, in hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def flush_files(folder: Path) -> None:
    """Have all files of a folder written to disk, before the folder gets its name."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())


def digest_of(path: Path) -> str:
    """Return a checksum of a file, or of the names and contents of all files in a folder."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        if file != path:
            digest.update(f"{file.relative_to(path).as_posix()}\0".encode())
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _temporary_name(name: str) -> str:
    """Return a name for this process; a long one loses its beginning and keeps its suffixes."""
    start, encoded = f"{_TEMPORARY}{os.getpid()}-", os.fsencode(name)
    if len(start) + len(encoded) > _MAX_NAME_BYTES:
        # Threads may write files whose names differ in the beginning only.
        start += hashlib.blake2b(encoded, digest_size=8).hexdigest() + "-"
    kept = encoded[-(_MAX_NAME_BYTES - len(start)) :]
    return start + kept.decode(errors="ignore")


def _temporary_files(folder: Path, levels: int) -> Iterator[Path]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.is_file(follow_symlinks=False) and entry.name.startswith(_TEMPORARY):
            yield Path(entry.path)
        elif levels > 1 and entry.is_dir(follow_symlinks=False):
            yield from _temporary_files(Path(entry.path), levels - 1)


def _created(temporary: Path) -> int:
    """Create a file, locked; return its descriptor."""
    while True:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666)
        _lock(descriptor)
        if temporary.exists():
            return descriptor
        os.close(descriptor)  # another process swept it before it was locked


def _lock(descriptor: int) -> None:
    # flock, not lockf: the libraries that write open and close the file themselves, and the first
    # close would end a lock of the other kind.
    try:
        # It waits for a process that sweeps: the name is this process's own.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:  # not every file system has locks; then nothing is swept either
        return


def _unlink_abandoned(path: Path) -> bool:
    """Remove a file that nobody writes, under its lock; say whether it was one."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        path.unlink()
        return True
    finally:
        os.close(descriptor)


def _flush_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # not every system opens folders
        return
    try:
        os.fsync(descriptor)
    except OSError:  # nor does every file system flush them
        pass
    finally:
        os.close(descriptor)
