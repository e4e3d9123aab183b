"""The cuts of several splits as one, in a shuffled order that is the same everywhere."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Sequence
from pathlib import Path
from random import Random

from zipasr.base.files import atomic_path
from zipasr.data.fbank import cuts_path

_SEED = 42


def join_splits(corpus: str, name: str, parts: Sequence[str], folder: Path) -> int:
    """Write the cuts of ``parts`` as the split ``name``, unless that was done after they were made.

    A large manifest is read a piece at a time, in its own order: batches of mixed splits need a
    shuffled one.

    Args:
        corpus: first part of the file names.
        name: last part of the name of the new manifest.
        parts: splits whose manifests are there.
        folder: where the manifests are.

    Returns:
        The number of cuts; 0 when nothing had to be done.
    """
    target = cuts_path(folder, corpus, name)
    sources = [cuts_path(folder, corpus, part) for part in parts]
    newest = max(source.stat().st_mtime_ns for source in sources)
    if target.is_file() and target.stat().st_mtime_ns > newest:
        logging.info("%s is up to date", target)
        return 0
    lines = [line for source in sources for line in _lines(source)]
    Random(_SEED).shuffle(lines)
    with atomic_path(target) as temporary, gzip.open(temporary, "wb", compresslevel=6) as out:
        out.writelines(lines)
    logging.info("%s: %d cuts of %s, shuffled", target, len(lines), ", ".join(parts))
    return len(lines)


def _lines(path: Path) -> list[bytes]:
    with gzip.open(path) as content:
        return content.readlines()
