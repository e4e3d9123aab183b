"""Cuts by number, read from lines on disk; processes share one table that says where they are."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lhotse.cut import Cut
from lhotse.serialization import deserialize_item

from zipasr.base.files import atomic_path
from zipasr.data.epoch_plan import Numbers, Seconds
from zipasr.data.manifests import check_row


class CutTable(NamedTuple):
    """Where cuts are, and what a plan needs to know of them.

    Attributes:
        parts: (N,) which of several files.
        offsets: (N,) first byte of the line.
        sizes: (N,) bytes of the line.
        seconds: (N,) duration.
        tokens: (N,) number of tokens of the transcript.
        shards: (N,) number of the shard; None when features are not in shards.
    """

    parts: Numbers
    offsets: Numbers
    sizes: Numbers
    seconds: Seconds
    tokens: Numbers
    shards: Numbers | None

    def columns(self) -> list[Numbers]:
        """Return the arrays as they are stored."""
        known = [self.parts, self.offsets, self.sizes, self.seconds.view(np.int64), self.tokens]
        return known if self.shards is None else [*known, self.shards]


def mapped_table(path: Path) -> CutTable:
    """Return a table whose pages are read when they are needed, and are shared by processes.

    Raises:
        Exception: what numpy says of a file that is missing or damaged.
    """
    columns = np.asarray(np.load(path, mmap_mode="r"))
    parts, offsets, sizes, seconds, tokens, *shards = columns
    return CutTable(
        parts, offsets, sizes, seconds.view(np.float64), tokens, shards[0] if shards else None
    )


def is_table(path: Path, table: CutTable) -> bool:
    """Say whether a file holds a table."""
    try:
        stored, wanted = mapped_table(path).columns(), table.columns()
    except Exception:  # whatever a damaged file says
        return False
    return len(stored) == len(wanted) and all(map(np.array_equal, stored, wanted))


def write_table(path: Path, table: CutTable) -> None:
    """Write a table as ``mapped_table`` reads it, whole or not at all."""
    columns = table.columns()
    shape = (len(columns), len(table.offsets))
    header = {"descr": "<i8", "fortran_order": False, "shape": shape}
    # Not by a map: where the disk is full, that ends the process.
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for column in columns:
            file.write(np.ascontiguousarray(column, "<i8").data)


@dataclass(frozen=True, slots=True)
class LinesOnDisk:
    """Cuts by number, read from disk on demand; memory holds their offsets only.

    Attributes:
        paths: uncompressed manifests.
        parts: (N,) which of them.
        offsets: (N,) first byte of the line.
        sizes: (N,) bytes of the line.
        allow_commands: shell commands that the lines name may run.
        table: file that another process maps the arrays from; None sends them to it.
    """

    paths: tuple[Path, ...]
    parts: Numbers
    offsets: Numbers
    sizes: Numbers
    allow_commands: bool = False
    table: Path | None = None

    def __len__(self) -> int:
        """N, the number of cuts."""
        return len(self.offsets)

    def __getitem__(self, number: int) -> Cut:
        """Return a cut."""
        # Opened each time: a file that processes share would be read from where another one left.
        path = self.paths[self.parts[number]]
        with path.open("rb") as file:
            file.seek(int(self.offsets[number]))
            row = json.loads(file.read(int(self.sizes[number])))
        check_row(row, path, allow_commands=self.allow_commands)
        return deserialize_item(row)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.table is not None:
            return lines_of_table, (self.paths, self.table, self.allow_commands)
        arrays = (self.parts, self.offsets, self.sizes)
        return LinesOnDisk, (self.paths, *arrays, self.allow_commands)


def lines_of_table(paths: Iterable[Path], path: Path, allow_commands: bool) -> LinesOnDisk:
    """Return the cuts of a table in a file; see ``LinesOnDisk``."""
    table = mapped_table(path)
    arrays = (table.parts, table.offsets, table.sizes)
    return LinesOnDisk(tuple(paths), *arrays, allow_commands, path)
