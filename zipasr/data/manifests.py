"""Manifests of a split: one file or numbered pieces; a spread subset.

What is too large to be made at once is split, as lhotse does: ``NAME.00000001.jsonl.gz`` and so on
in the folder ``CORPUS_SPLIT_split_COUNT``. Pieces of which the features are still to be computed
have ``_raw`` in their names.
"""

from __future__ import annotations

import gzip
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from lhotse import CutSet

from zipasr.base.errors import DataError
from zipasr.base.files import atomic_path
from zipasr.data.config import cuts_path

_NUMBERED = re.compile(r"(.+)\.(\d+)\.jsonl\.gz")


def split_folder(folder: Path, corpus: str, split: str, count: int) -> Path:
    """Return where the pieces of a split are, when they are ``count``."""
    return folder / f"{corpus}_{split}_split_{count}"


def manifests_of_split(folder: Path, corpus: str, split: str) -> list[Path]:
    """Return the manifest of the cuts of a split, or its pieces, by number.

    Where there is neither, the one manifest that is missing.

    Raises:
        DataError: the features of some pieces are still to be computed.
    """
    whole = cuts_path(folder, corpus, split)
    found = [] if whole.is_file() else sorted(folder.glob(f"{corpus}_{split}_split_*"))
    return manifests_at(found[0]) if found else [whole]


def manifests_at(path: Path) -> list[Path]:
    """Return a manifest, or, of a folder, the pieces in it, by number.

    Raises:
        DataError: the folder has no pieces, or some of them are still raw.
    """
    if not path.is_dir():
        return [path]
    numbered = {(m[1], int(m[2])): file for file, m in _numbered(path)}
    raw = {(name.removesuffix("_raw"), n) for name, n in numbered if name.endswith("_raw")}
    pieces = {key: file for key, file in numbered.items() if not key[0].endswith("_raw")}
    if not pieces:
        raise DataError(
            f"{path} holds no pieces with features (NAME.00000001.jsonl.gz and so on).",
            "run ./prepare.sh --stage 2 first, or name the manifest itself",
        )
    if missing := raw - pieces.keys():
        raise DataError(
            f"{path}: {len(missing)} of {len(raw)} pieces have no features yet.",
            "run ./prepare.sh --stage 2 again: it goes on where it was",
        )
    return [file for _, file in sorted(pieces.items(), key=lambda item: item[0][1])]


def numbered_pieces(folder: Path, name: str) -> list[Path]:
    """Return the pieces of this name in a folder, in any order."""
    return [file for file, match in _numbered(folder) if match[1] == name]


def _numbered(folder: Path) -> Iterator[tuple[Path, re.Match[str]]]:
    for file in folder.iterdir():
        if match := _NUMBERED.fullmatch(file.name):
            yield file, match


def split_lazily(manifest: Path, folder: Path, count: int) -> list[Path]:
    """Cut a manifest into ``count`` pieces of neighbours, reading it twice and holding one line.

    Done already, and after the manifest was written, it does nothing.

    Args:
        manifest: ends with ``.jsonl.gz``.
        folder: of the pieces; pieces of an older manifest in it are replaced.
        count: of the pieces; fewer where there are fewer lines.

    Returns:
        The pieces, by number, from 1.
    """
    name = manifest.name.removesuffix(".jsonl.gz")
    with gzip.open(manifest) as lines:
        total = sum(1 for _ in lines)
    count = min(count, total)
    paths = [folder / f"{name}.{n:08d}.jsonl.gz" for n in range(1, count + 1)]
    made = manifest.stat().st_mtime_ns
    if all(path.is_file() and path.stat().st_mtime_ns >= made for path in paths):
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    for old in numbered_pieces(folder, name):
        old.unlink()
    ends = [total * n // count for n in range(1, count + 1)]
    with gzip.open(manifest) as lines:
        for path, size in zip(paths, _steps(ends), strict=True):
            with atomic_path(path) as temporary, gzip.open(temporary, "wb", 6) as out:
                out.writelines(itertools.islice(lines, size))
    return paths


def _steps(ends: Sequence[int]) -> list[int]:
    return [end - begin for begin, end in itertools.pairwise([0, *ends])]


def evenly_spread(cuts: CutSet, count: int) -> CutSet:
    """Return ``count`` of ``cuts`` in their order, evenly spread; all when there are not more.

    Neighbours are often of one speaker, so the first ones alone would not stand for all.
    """
    every = list(cuts)
    if len(every) <= count:
        return cuts
    return CutSet.from_cuts(every[place * len(every) // count] for place in range(count))
