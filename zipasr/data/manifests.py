"""Manifests: one file or numbered pieces for a split, and reading them, where nothing is run.

What is too large to be made at once is split, as lhotse does: ``NAME.00000001.jsonl.gz`` and so on
in the folder ``CORPUS_SPLIT_split_COUNT``. Pieces of which the features are still to be computed
have ``_raw`` in their names.

Manifests may come from strangers. lhotse runs a shell command for a source of the type ``command``,
for a URL ``pipe:COMMAND`` wherever it opens one, and in the shell that it decodes some formats in.
All of these are refused, unless whoever starts the program says that the manifest is trusted.
"""

from __future__ import annotations

import gzip
import itertools
import math
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.lazy import LazyJsonlIterator
from lhotse.serialization import deserialize_item

from zipasr.base.errors import DataError
from zipasr.base.files import atomic_path
from zipasr.data.config import cuts_path

_NUMBERED = re.compile(r"(.+)\.(\d+)\.jsonl\.gz")
_AGAIN = "mend the manifest, or make it again: ./prepare.sh --stage 2 --force"
_MAX_SHOWN = 60
# lhotse gives the names of these files to a shell.
_READ_BY_SHELL = re.compile(r"\.(sph|opus)$", re.IGNORECASE)
_HARMLESS_NAME = re.compile(r"[\w@%+=:,./ -]*")
# The same in bytes of UTF-8, and wherever it stands.
_READ_BY_SHELL_BYTES = re.compile(rb"\.(?:sph|opus)", re.IGNORECASE)
_LONG_S = "\u017f".encode()  # counts as "s" where case does not matter
_FLAT = 64  # brackets of a row that no recursion is too deep for
_BLOCKING = (stat.S_ISFIFO, stat.S_ISCHR, stat.S_ISSOCK)


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


@dataclass(frozen=True, slots=True)
class CutsOfFile:
    """Cuts of a manifest, read from disk each time they are iterated over, each one checked.

    Attributes:
        path: ``.jsonl`` or ``.jsonl.gz``.
        allow_commands: see ``check_row``.
    """

    path: Path
    allow_commands: bool = False

    def __iter__(self) -> Iterator[Cut]:
        """Yield the cuts.

        Raises:
            DataError: a cut has a time that is none, or reading it would run a command or wait
                for ever.
        """
        last_storage = ""
        for row in LazyJsonlIterator(self.path):
            check_row(row, self.path, allow_commands=self.allow_commands)
            cut = deserialize_item(row)
            _check_values(cut, self.path)
            features = getattr(cut, "features", None)
            if features is not None and features.storage_path != last_storage:
                last_storage = str(features.storage_path)
                _check_file(Path(last_storage), self.path)
            yield cut

    def __len__(self) -> int:
        """Count the cuts."""
        return len(LazyJsonlIterator(self.path))


def read_cuts(path: Path, *, allow_commands: bool = False) -> CutSet:
    """Return the cuts of a manifest, read from disk when they are needed; see ``CutsOfFile``."""
    return CutSet(CutsOfFile(path, allow_commands))


def check_rows(path: Path, *, allow_commands: bool = False) -> None:
    """Check every row of a manifest of any kind; see ``check_row``."""
    for row in LazyJsonlIterator(path):
        check_row(row, path, allow_commands=allow_commands)


def check_row(row: Any, path: Path, *, allow_commands: bool) -> None:
    """Refuse a row of a manifest that names a shell command.

    Args:
        row: what a line holds.
        path: of the manifest, named in errors.
        allow_commands: nothing is refused: the manifest is trusted.

    Raises:
        DataError: the row names a command.
    """
    if allow_commands:
        return
    command = next(_commands(row), None)
    if command is None:
        return
    name = row.get("id", "a row") if isinstance(row, dict) else "a row"
    shown = command if len(command) <= _MAX_SHOWN else command[: _MAX_SHOWN - 3] + "..."
    raise DataError(
        f"{path}: {name} would be read by the shell command {shown!r}.",
        "store the sound and the features in files, or, if you trust the manifest, add "
        "--allow-commands 1.",
    )


def is_harmless(line: bytes) -> bool:
    """Say whether a line is, at a glance, a row that ``check_row`` accepts; many others are too.

    Characters may be written otherwise behind a backslash, and in UTF-16, which has zeros.
    """
    return not (
        b"command" in line
        or b"pipe:" in line
        or b"\\" in line
        or b"\0" in line
        or (not line.isascii() and _LONG_S in line)
        or line.count(b"{") + line.count(b"[") > _FLAT
        or _READ_BY_SHELL_BYTES.search(line)
    )


def _commands(value: Any) -> Iterator[str]:
    """Yield what a value of JSON, at any depth, would have a shell run."""
    if isinstance(value, dict):
        if value.get("type") == "command":
            yield str(value.get("source", ""))
        for name, inner in value.items():
            if name != "text":  # what is said may be anything, and is never opened
                yield from _commands(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _commands(inner)
    elif isinstance(value, str) and _runs(value):
        yield value


def _runs(name: str) -> bool:
    """Say whether a shell sees the name of a file or a URL when it is opened."""
    is_seen = _READ_BY_SHELL.search(name) is not None
    return name.lstrip().startswith("pipe:") or (is_seen and not _HARMLESS_NAME.fullmatch(name))


def _check_values(cut: Any, path: Path) -> None:
    """Refuse a cut with times that are no numbers, or a text that is none."""
    if not isinstance(cut, Cut):
        raise DataError(
            f"{path}: a row is a {type(cut).__name__}, not a cut.",
            "name a manifest of cuts, as ./prepare.sh --stage 2 writes.",
        )
    times: list[tuple[str, Any]] = [("duration", cut.duration)]
    for supervision in cut.supervisions:
        times += [("supervision's start", supervision.start)]
        times += [("supervision's duration", supervision.duration)]
        if not isinstance(supervision.text, str | None):
            raise DataError(f"{path}: {cut.id}: its text is {supervision.text!r}.", _AGAIN)
    for name, value in times:
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise DataError(f"{path}: {cut.id}: its {name} is {value!r}.", _AGAIN)
    if not cut.duration > 0:
        raise DataError(f"{path}: {cut.id}: its duration is {cut.duration!r}.", _AGAIN)


def _check_file(storage: Path, manifest: Path) -> None:
    """Refuse what is no file or folder: reading it could wait for ever."""
    try:
        mode = storage.stat().st_mode
    except OSError:  # told when the cut is read, with its name
        return
    if any(is_kind(mode) for is_kind in _BLOCKING):
        raise DataError(
            f"{manifest}: the features in {storage} cannot be read: it is a pipe or a device.",
            _AGAIN,
        )
