"""Lines of text files that people give: decoded line by line, ended by line feeds alone."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from zipasr.base.errors import DataError, ResourceError
from zipasr.corpora.custom.utterances import ImportedCorpus
from zipasr.text.text_io import BOM, encoding_problem, normalised_text

NOT_DECODED = "bytes that are not of the encoding"
NUL = "a NUL character"
LONE_RETURNS = "files with carriage returns inside lines: they are blanks now"

# More of them than that: the file is in UTF-16.
_NUL_SHARE = 0.1
_LONE_RETURN = re.compile("\r+(?!\n)")


class Line(NamedTuple):
    """A line of a file; the first one is number 1."""

    number: int
    text: str


def place(path: Path, line: int) -> str:
    """Return file and line as messages give them."""
    return f"{path.name}, line {line}"


def json_of(line: str | bytes) -> Any:
    """Return what a text in JSON says, or None where it is none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def read_lines(path: Path, encoding: str, found: ImportedCorpus) -> list[Line]:
    """Return the lines that are not blank, in NFC; what was put right is noted in ``found``.

    Only a line feed ends a line (or a carriage return, in a file without line feeds). A line that
    is not of the encoding is left out when the others show that the encoding is right.

    Raises:
        DataError: the file is in another encoding.
        ResourceError: it cannot be read.
    """
    text, undecoded = _decoded(path, encoding)
    if text.count("\0") > _NUL_SHARE * len(text):
        raise DataError(f"{path} has NUL characters between the others.", "try --encoding utf-16.")
    text = _one_kind_of_line_end(text, found.notes)
    lines = []
    for number, line in enumerate(text.split("\n"), start=1):
        fault = NOT_DECODED if number in undecoded else NUL if "\0" in line else ""
        if fault:
            detail = undecoded.get(number, encoding)
            found.drop(fault, detail if fault == NOT_DECODED else "", where=place(path, number))
        elif line.strip():
            lines.append(Line(number, line))
    return lines


def read_whole(path: Path, encoding: str, notes: Counter[str]) -> str:
    """Return the text of a file, whole, in NFC.

    Raises:
        DataError: bytes that are not of the encoding.
        ResourceError: the file cannot be read.
    """
    raw = _bytes(path)
    try:
        return _one_kind_of_line_end(raw.decode(encoding), notes)
    except UnicodeDecodeError as problem:
        raise DataError(*encoding_problem(path, raw, problem)) from problem


def _decoded(path: Path, encoding: str) -> tuple[str, dict[int, str]]:
    """Return the text, empty lines in place of those that are not of the encoding, and these."""
    raw = _bytes(path)
    try:
        return raw.decode(encoding), {}
    except UnicodeDecodeError as problem:
        wrong = DataError(*encoding_problem(path, raw, problem))
    if "\n".encode(encoding) != b"\n":
        raise wrong
    lines: list[str] = []
    undecoded: dict[int, str] = {}
    shown_right = False
    for number, line in enumerate(raw.split(b"\n"), start=1):
        try:
            lines.append(line.decode(encoding))
            shown_right = shown_right or not line.isascii()
        except UnicodeDecodeError as problem:
            shown = line[problem.start : problem.start + 6].hex(" ").upper()
            undecoded[number] = f"{encoding}, bytes {shown}"
            lines.append("")
    if not is_one_off(len(undecoded), shown_right=shown_right):
        raise wrong
    return "\n".join(lines), undecoded


def is_one_off(undecoded: int, *, shown_right: bool) -> bool:
    """Say whether bytes that cannot be decoded are damage, and the encoding is right.

    Args:
        undecoded: lines or files with such bytes.
        shown_right: others have characters beyond ASCII, and can be decoded.
    """
    return undecoded == 1 or shown_right


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise ResourceError(f"{path} cannot be read: {problem.strerror}.") from problem


def _one_kind_of_line_end(text: str, notes: Counter[str]) -> str:
    if "\n" in text and _LONE_RETURN.search(text):
        notes[LONE_RETURNS] += 1
        text = _LONE_RETURN.sub(" ", text)
    text = normalised_text(text, notes)
    if "\ufeff" in text:  # files put behind one another
        notes[BOM] += text.count("\ufeff")
        text = text.replace("\ufeff", "")
    return text
