"""Atomic writing of files: whole, or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary sibling of ``path`` to write; rename it over ``path`` when all went well.

    The temporary name keeps the suffixes of ``path`` (libraries choose formats by suffix). What
    was written is flushed to disk before the rename, and the folder after it, so a power cut
    leaves the old file or the new one. When the block raises, the temporary file is removed and
    ``path`` is as before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


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
