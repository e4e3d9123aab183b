"""Table of files and utterances that are left out, with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from zipasr.base.errors import DataError
from zipasr.base.files import write_text

FILE_NAME = "quarantine.tsv"


class LeftOut(NamedTuple):
    """A file, or an utterance of it, that is not used.

    Attributes:
        path: of the sound file; empty where there is none.
        reason: in a few words.
        utterance: the one that is left out; empty when it is the whole file.
        found_by: the step that found it.
    """

    path: str
    reason: str
    utterance: str = ""
    found_by: str = "hand"


_HEAD = LeftOut("path", "reason", "utterance", "found_by")


class Quarantine:
    """What a table leaves out.

    Args:
        rows: of the table.
    """

    def __init__(self, rows: Iterable[LeftOut] = ()) -> None:
        self.rows = list(rows)
        self._files = {row.path for row in self.rows if not row.utterance}
        self._utterances = {(row.path, row.utterance) for row in self.rows if row.utterance}

    @classmethod
    def read(cls, folder: Path) -> Quarantine:
        """Read ``quarantine.tsv`` of a folder; nothing is left out where there is none.

        Only the path is needed in a row that was written by hand.

        Raises:
            DataError: the file is not such a table.
        """
        path = folder / FILE_NAME
        if not path.is_file():
            return cls()
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as problem:
            raise DataError(f"{path} is not UTF-8.", "save it as UTF-8.") from problem
        return cls(_row(line) for line in lines[1:] if line.strip())

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def holds(self, path: str, utterance: str) -> bool:
        """Say whether an utterance of a file is left out."""
        return path in self._files or bool(self._utterances & {(path, utterance), ("", utterance)})


def too_many_lost(lost: int, total: int) -> bool:
    """Say whether more than 1 % (and more than three), or all, cannot be used: a broken copy."""
    return lost > max(3, total // 100) or 0 < lost == total


def write_quarantine(folder: Path, rows: Iterable[LeftOut], found_by: str) -> Path:
    """Write what one step found to ``quarantine.tsv``; rows of the other steps stay.

    Without any row there is no file. Returns the path.
    """
    kept = [row for row in Quarantine.read(folder).rows if row.found_by != found_by]
    table = [*kept, *(row._replace(found_by=found_by) for row in rows)]
    path = folder / FILE_NAME
    if not table:
        path.unlink(missing_ok=True)
        return path
    write_text(path, "".join("\t".join(map(_field, row)) + "\n" for row in (_HEAD, *table)))
    return path


def _row(line: str) -> LeftOut:
    fields = line.split("\t")[: len(_HEAD)]
    given = LeftOut(fields[0], *(fields[1:2] or ["no reason given"]), *fields[2:])
    return given if given.found_by else given._replace(found_by="hand")


def _field(text: str) -> str:
    return " ".join(text.split())
