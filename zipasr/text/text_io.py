"""Text files of any origin: decoded, in one Unicode form, written whole or not at all."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from zipasr.base.errors import DataError, ResourceError, UserError
from zipasr.base.files import atomic_path
from zipasr.base.progress import Progress
from zipasr.text.encodings import differing_words, likely_encodings

BOM = "byte-order marks removed"
CRLF = "files with Windows line ends"
NOT_COMPOSED = "files with decomposed characters, composed now (NFC)"

_SHOWN_BYTES = 6


def check_encoding(name: str) -> None:
    """Refuse the name of an encoding that Python does not know.

    Raises:
        UserError: no such encoding.
    """
    try:
        is_text = "a".encode(name).decode(name) == "a"
    except (LookupError, ValueError):  # no such name, or a code that is not for text
        is_text = False
    if not is_text:
        raise UserError(
            f"--encoding {name!r} is not the name of an encoding of text.",
            "try utf-8, cp1252 or gb18030.",
        )


def read_text(path: Path, encoding: str = "utf-8", notes: Counter[str] | None = None) -> str:
    """Return the text of a file in NFC, with plain line ends and without a byte-order mark.

    Args:
        path: of the file.
        encoding: of its bytes.
        notes: what had to be changed is counted here.

    Raises:
        DataError: bytes that are none of this encoding; the message names line, column and bytes.
        ResourceError: the file cannot be read.
    """
    try:
        raw = path.read_bytes()
    except OSError as problem:
        raise ResourceError(f"{path} cannot be read: {problem.strerror}.") from problem
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as problem:
        raise DataError(*encoding_problem(path, raw, problem)) from problem
    except UnicodeError as problem:
        raise DataError(
            f"{path} is not {encoding}: {problem}.", "give another --encoding."
        ) from problem
    return normalised_text(text, Counter() if notes is None else notes)


def normalised_text(text: str, notes: Counter[str]) -> str:
    """Return ``text`` in NFC, with plain line ends, without a byte-order mark.

    Args:
        text: as decoded.
        notes: what had to be changed is counted here.
    """
    if text.startswith("\ufeff"):
        notes[BOM] += 1
        text = text.removeprefix("\ufeff")
    if "\r" in text:
        notes[CRLF] += 1
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    composed = unicodedata.normalize("NFC", text)
    if composed != text:
        notes[NOT_COMPOSED] += 1
    return composed


def read_lines(path: Path, name: str = "", fix: str = "convert the file to UTF-8.") -> list[str]:
    """Return the lines of a UTF-8 file as they are, without a byte-order mark and line ends.

    Line feeds end lines, with or without a carriage return; other characters, such as a Unicode
    line separator, are part of a line.

    Args:
        path: of the file.
        name: what messages call it; by default its path.
        fix: what a message proposes for a file that is not text.

    Raises:
        DataError: it is no file, or no UTF-8 text; the message names the line.
    """
    name = name or str(path)
    if not path.is_file():
        what = (
            "is a folder" if path.is_dir() else "is no file" if path.exists() else "does not exist"
        )
        raise DataError(f"{name} {what}.", "give a text file.")
    try:
        raw = path.read_bytes()
    except OSError as problem:
        raise ResourceError(f"{name} cannot be read: {problem.strerror}.") from problem
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        what, _ = encoding_problem(path, raw, problem)
        raise DataError(what.replace(str(path), name, 1), fix) from problem
    if "\0" in text:
        number = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{name}, line {number}: there is a NUL byte.", fix)
    return [line.removesuffix("\r") for line in text.split("\n")]


def fields_of(line: str) -> list[str]:
    """Split a line at blanks and tabs; other white space is part of a field."""
    return [part for part in line.replace("\t", " ").split(" ") if part]


def encoding_problem(path: Path, raw: bytes, problem: UnicodeDecodeError) -> tuple[str, str]:
    """Return what is wrong with the bytes of a file and what to do, for an error message."""
    before = raw[: problem.start]
    line = before.count(b"\n") + 1
    start = before.rfind(b"\n") + 1
    column = len(before[start:].decode(problem.encoding, errors="replace")) + 1
    shown = raw[problem.start : problem.start + _SHOWN_BYTES].hex(" ").upper()
    likely, *others = likely_encodings(raw)
    looks, choice = likely, likely
    for other in others:
        if words := differing_words(raw, likely, other):
            looks = f"{likely} or {other}: {words[0]!r} as {likely}, {words[1]!r} as {other}"
            choice = f"{likely}, or {other} if that word is right"
            break
    what = (
        f"{path} is not {problem.encoding}: line {line}, column {column}, bytes {shown}; "
        f"it looks like {looks}."
    )
    return what, f"give --encoding {choice}, or convert the file to UTF-8."


_LINES_PER_STEP = 100_000


def write_lines(path: Path, texts: Iterable[str]) -> int:
    """Write the texts that are not empty and return how many there are.

    Args:
        path: the file.
        texts: may be more than memory holds.

    Raises:
        DataError: all texts are empty.
    """
    written = 0
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8") as out,
        Progress(f"lines of {path.name}", None) as progress,
    ):
        for text in texts:
            line = " ".join(text.split())
            if line:
                out.write(f"{line}\n")
                written += 1
                if written % _LINES_PER_STEP == 0:
                    progress.step(count=_LINES_PER_STEP)
        out.flush()
        if not written:
            raise DataError(f"there is no text for {path}.", "look at the transcripts.")
    return written
