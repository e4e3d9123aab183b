"""The header of a sound file: what it promises beside what is in the file, and a right one."""

from __future__ import annotations

import io
import os
import string
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple, TypeAlias

_BLOCK = 1 << 16


class Content:
    """Bytes of a file by their place; a file that becomes shorter meanwhile gives fewer.

    Args:
        descriptor: of the file, open for reading.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def at(self, start: int, length: int) -> bytes:
        """Return what is there of ``length`` bytes."""
        wanted = min(length, self.size - start)
        return os.pread(self._descriptor, wanted, start) if wanted > 0 and start >= 0 else b""

    def number(
        self, start: int, length: int, order: Literal["little", "big"], signed: bool = False
    ) -> int:
        """Return the integer at a place."""
        return int.from_bytes(self.at(start, length), order, signed=signed)

    def is_zero(self, start: int) -> bool:
        """Say whether all is zero from a place on."""
        while block := self.at(start, _BLOCK):
            if block.count(0) < len(block):
                return False
            start += len(block)
        return True


class Stretch(NamedTuple):
    """Part of a file, in bytes."""

    start: int
    length: int


Piece: TypeAlias = "bytes | Stretch"


class SplicedFile(io.RawIOBase):
    """Pieces one after the other; what a mended header and the sound behind it make up.

    Args:
        content: that the stretches are of.
        pieces: in order.
    """

    def __init__(self, content: Content, pieces: Sequence[Piece]) -> None:
        super().__init__()
        self._content = content
        self._pieces = [piece for piece in pieces if _length(piece)]
        self._ends = list(accumulate(map(_length, self._pieces)))
        self._place = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, counted as in other files."""
        size = self._ends[-1] if self._ends else 0
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: object) -> int:
        """Fill a buffer as far as there is something; return the number of bytes."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        filled = 0
        for piece, end in zip(self._pieces, self._ends, strict=True):
            if filled == len(view):
                break
            if self._place >= end:
                continue
            inside = self._place - (end - _length(piece))
            part = self._read(piece, inside, min(len(view) - filled, end - self._place))
            view[filled : filled + len(part)] = part
            filled += len(part)
            self._place += len(part)
            if not part:
                break  # the file has become shorter
        return filled

    def _read(self, piece: Piece, inside: int, wanted: int) -> bytes:
        if isinstance(piece, bytes):
            return piece[inside : inside + wanted]
        return self._content.at(piece.start + inside, wanted)


def _length(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else piece.length


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
