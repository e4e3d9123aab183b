"""Rows of delimited text (CSV, TSV): quotation marks that are out of place cost one row each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from zipasr.base.errors import DataError
from zipasr.corpora.custom.source_text import Line, place
from zipasr.corpora.custom.utterances import ImportedCorpus

STRAY_QUOTE = "a quotation mark that is not closed"
AFTER_QUOTE = "text behind a closing quotation mark"
WIDTH = "another number of fields than the header"
SEVERAL_LINES = "rows with a field over several lines"
LONE_MARK = "rows with an odd number of quotation marks, taken as text"
ROW_NUMBERS = "rows with a number in front (row names of R), not used"

_MOST_LINES = 50
_EXCEL_HINT = re.compile(r"^sep=(.)$", re.IGNORECASE)


class Row(NamedTuple):
    """Fields of a row, and the line that it begins in."""

    line: int
    cells: list[str]


class _Parsed(NamedTuple):
    """Fields of a line; the fault that ended them, and the column (from 1) where it is."""

    cells: list[str]
    fault: str = ""
    column: int = 0


class Delimited:
    """Header and rows of a file.

    Args:
        path: of the file, for messages.
        lines: of the file.
        found: where rows that cannot be read are noted.

    Attributes:
        head: names of the columns.
        separator: between fields.
    """

    def __init__(self, path: Path, lines: Sequence[Line], found: ImportedCorpus) -> None:
        self._path, self._lines, self._found = path, list(lines), found
        first = self._lines[0].text if self._lines else ""
        hint = _EXCEL_HINT.match(first.strip())
        if hint and len(self._lines) > 1:
            del self._lines[0]
            first = self._lines[0].text
        self.separator = hint[1] if hint else separator_of(path, first)
        self._is_quoted = self.separator != "\t" or self._is_quoted_throughout()
        header = self._parse(first)
        if header.fault:
            raise DataError(
                f"{path}: {header.fault}, in column {header.column} of its first line.",
                "close the quotation mark, or leave it out.",
            )
        self.head = [name.strip() for name in header.cells] if self._lines else []

    def rows(self, audio_column: int | None, is_audio: Callable[[str], bool]) -> Iterator[Row]:
        """Yield the rows that can be read; the others are noted.

        Args:
            audio_column: column of the sound files, if there is one.
            is_audio: says whether a field names a sound file.
        """

        def begins_row(text: str) -> bool:
            cells = text.split(self.separator)
            if audio_column is None:
                return len(cells) == len(self.head)
            return len(cells) > audio_column and is_audio(cells[audio_column].strip(' "'))

        data = self._lines[1:]
        numbered = self._has_row_numbers(data)
        index = 0
        while index < len(data):
            line, used = data[index], 1
            parsed = self._parse(line.text)
            if parsed.fault == STRAY_QUOTE:
                joined = self._over_lines(data[index : index + _MOST_LINES], begins_row)
                parsed, used = joined or (parsed, 1)
            index += used
            cells = parsed.cells[1:] if numbered else parsed.cells
            if self._fits(line, parsed, cells):
                yield Row(line.number, cells[: len(self.head)])

    def _fits(self, line: Line, parsed: _Parsed, cells: list[str]) -> bool:
        """Say whether the fields are those of a row; note it when they are not."""
        if not parsed.fault and not any(cell.strip() for cell in cells):
            return False
        where, width = place(self._path, line.number), len(self.head)
        if self._is_quoted and not parsed.fault and any(cell.count('"') % 2 for cell in cells):
            self._found.note(LONE_MARK, where)
        if parsed.fault:
            self._found.drop(parsed.fault, f"it opens in column {parsed.column}", where=where)
            return False
        if len(cells) < width or any(cell.strip() for cell in cells[width:]):
            self._found.drop(WIDTH, f"{len(cells)}, not {width}", where=where)
            return False
        return True

    def _over_lines(
        self, lines: Sequence[Line], begins_row: Callable[[str], bool]
    ) -> tuple[_Parsed, int] | None:
        """Read a field that goes on in the next lines; None when these are rows of their own."""
        text = lines[0].text
        for count, line in enumerate(lines[1:], start=2):
            if begins_row(line.text):
                return None
            text += f"\n{line.text}"
            parsed = self._parse(text)
            if parsed.fault != STRAY_QUOTE:
                if parsed.fault or len(parsed.cells) != len(self.head):
                    return None
                self._found.note(SEVERAL_LINES, place(self._path, lines[0].number))
                return parsed, count
        return None

    def _parse(self, text: str) -> _Parsed:
        if '"' not in text:
            return _Parsed(text.split(self.separator))
        if self._is_quoted:
            return _split_quoted(text, self.separator)
        return _Parsed([_without_doubled(cell) for cell in text.split(self.separator)])

    def _is_quoted_throughout(self) -> bool:
        """Say whether every name in the header, or every field below it, is in quotation marks."""
        if not self._lines:
            return False
        head, *rows = (line.text.split("\t") for line in self._lines[:1000])
        if all(map(_is_enclosed, head)):
            return True
        return bool(rows) and all(_is_enclosed(cell) for row in rows for cell in row)

    def _has_row_numbers(self, data: Sequence[Line]) -> bool:
        """Say whether each row has its number in front, which the header does not name."""
        if not data:
            return False
        for number, line in enumerate(data[:1000], start=1):
            cells = self._parse(line.text).cells
            if len(cells) != len(self.head) + 1 or cells[0].strip() != str(number):
                return False
        self._found.notes[ROW_NUMBERS] += len(data)
        return True


def separator_of(path: Path, head: str) -> str:
    """Return what separates the fields: a tab where the header has one, else its commonest mark."""
    if "\t" in head:
        return "\t"
    best = max(",;|", key=head.count)
    return "\t" if path.suffix.lower() == ".tsv" and best not in head else best


def _is_enclosed(cell: str) -> bool:
    word = cell.strip()
    return len(word) >= 2 and word[0] == word[-1] == '"'


def _without_doubled(cell: str) -> str:
    """Return what a field stands for that has quotation marks around it and doubled ones inside."""
    inner = cell[1:-1]
    if not _is_enclosed(cell) or '""' not in inner or '"' in inner.replace('""', ""):
        return cell
    return inner.replace('""', '"')


def _split_quoted(text: str, separator: str) -> _Parsed:
    cells: list[str] = []
    start = 0
    while True:
        opened = start
        while text[opened : opened + 1] == " " != separator:
            opened += 1
        if text[opened : opened + 1] == '"':
            cell, end = _quoted_cell(text, opened, separator)
            if end is None:
                return _Parsed(cells, STRAY_QUOTE, len(cells) + 1)
            while text[end : end + 1] == " " != separator:
                end += 1
            if text[end : end + 1] not in ("", separator):
                return _Parsed(cells, AFTER_QUOTE, len(cells) + 1)
        else:
            end = text.find(separator, start)
            end = len(text) if end < 0 else end
            cell = text[start:end]
        cells.append(cell)
        if end >= len(text):
            return _Parsed(cells)
        start = end + 1


def _quoted_cell(text: str, opened: int, separator: str) -> tuple[str, int | None]:
    """Return the field whose quotation mark is at ``opened``, and where it ends; None: nowhere."""
    parts: list[str] = []
    begin = opened + 1
    while (mark := text.find('"', begin)) >= 0:
        after, ends = text[mark + 1 : mark + 2], ("", separator)
        is_escaped = mark > begin and text[mark - 1] == "\\"  # as R writes them
        closes_next = after == '"' and text[mark + 2 : mark + 3] in ends
        if is_escaped and after not in ends and (after != '"' or closes_next):
            parts.append(f'{text[begin : mark - 1]}"')
            begin = mark + 1
        elif after == '"':
            parts.append(text[begin : mark + 1])
            begin = mark + 2
        else:
            return "".join([*parts, text[begin:mark]]), mark + 1
    return "", None
