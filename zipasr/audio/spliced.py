"""A file for reading that is put together from bytes in memory and stretches of another file."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
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
