"""What the header of a sound file promises, beside what is in the file."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import NamedTuple

from zipasr.audio.spliced import Content, Piece

# Seconds of sound that may be missing or too many: less than a word.
TOLERANCE = 0.1

NO_LENGTH = "no length in its header"

# Programs that write to pipes give the largest number they know, or a round one just below it.
_NEARLY = 1 << 20
_LARGEST = (1 << 31, 1 << 32)
_TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICSBEGIN")
_OF_CHUNK_NAMES = frozenset((string.ascii_letters + string.digits + " _-").encode())
_PRINTABLE = frozenset(string.printable.encode())
_CHUNK_HEAD = 8
_LOOK_AT = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a file is to be read.

    Attributes:
        parts: files in it, one after the other, each of pieces; empty: the file as it is.
        told: what was put right, for people.
        fault: why the file is not whole; empty when it is.
        declared: samples of each channel in the header; None where nothing is promised.
        is_counted: the samples that come are to be compared with ``declared``.
        is_plain: any program reads the same samples from it.
    """

    parts: tuple[tuple[Piece, ...], ...] = ()
    told: str = ""
    fault: str = ""
    declared: int | None = None
    is_counted: bool = False
    is_plain: bool = False


class Verdict(NamedTuple):
    """What to read of the bytes of sound.

    Attributes:
        length: in bytes.
        told: what is unusual about it.
        fault: why it is not whole.
    """

    length: int
    told: str = ""
    fault: str = ""


def is_no_length(size: int) -> bool:
    """Say whether a size is what programs write that do not know it yet."""
    return size < 0 or any(limit - _NEARLY <= size <= limit for limit in _LARGEST)


def judge(content: Content, start: int, declared: int, bytes_per_second: float) -> Verdict:
    """Compare the length that a header declares with what follows it.

    A shortage is a fault, unless the declared size is one that stands for "unknown". More sound
    than was declared is read, if it is sound: not the chunks, tags and padding that may follow.

    Args:
        content: of the file.
        start: of the sound in it.
        declared: bytes of sound.
        bytes_per_second: of sound.
    """
    there = max(0, content.size - start)
    slack = TOLERANCE * bytes_per_second
    if declared > there and not is_no_length(declared):
        if declared - there <= slack:
            return Verdict(there, "the last samples of its header are missing")
        return Verdict(there, fault=cut(there / bytes_per_second, declared / bytes_per_second))
    if declared > there or declared < 0:
        return Verdict(there, more(there / bytes_per_second, None))
    if there - declared <= slack or not is_sound(content, start + declared):
        return Verdict(declared)
    if declared == 0:
        return Verdict(there, more(there / bytes_per_second, None))
    return Verdict(there, more(there / bytes_per_second, declared / bytes_per_second))


def more(there: float, declared: float | None) -> str:
    """Tell of a file that holds more than it declares; both in seconds."""
    promise = NO_LENGTH if declared is None else f"its header declares {declared:.2f} s"
    return f"{promise}: all {there:.2f} s are read"


def cut(there: float, declared: float) -> str:
    """Return the fault of a file that ends before its time; both in seconds."""
    return f"ends after {there:.2f} s of the {declared:.2f} s in its header"


def is_sound(content: Content, start: int) -> bool:
    """Say whether what follows the sound may be more of it: no chunks, tags, padding or text."""
    head = content.at(start, _LOOK_AT)
    if head.startswith(_TAGS) or set(head) <= _PRINTABLE or content.is_zero(start):
        return False
    return not (are_chunks(content, start) or are_chunks(content, start + 1))


def are_chunks(content: Content, start: int) -> bool:
    """Say whether bytes are chunks as in RIFF files: names of four letters and sizes that fit."""
    place = start
    while content.size - place >= _CHUNK_HEAD:
        name, size = content.at(place, 4), content.number(place + 4, 4, "little")
        if not _OF_CHUNK_NAMES.issuperset(name) or size > content.size - place - _CHUNK_HEAD:
            return False
        place += _CHUNK_HEAD + size + size % 2
    return place > start and content.is_zero(place)
