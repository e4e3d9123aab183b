"""Text of an ARPA file: its lines one by one, or its n-grams in blocks by a compiled loop."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from io import BufferedIOBase
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zipasr.base.errors import DataError
from zipasr.lm.ngram import Ngrams, Places

AGAIN = "copy or make it again."
_BOM = b"\xef\xbb\xbf"
_BLOCK, _PART = 1 << 22, 1 << 16


class WordTable(NamedTuple):
    """Words as the loop looks them up.

    Attributes:
        table: hash table of entries.
        letters: (B,) the words in UTF-8, one after the other.
        bounds: (E + 1,) where each entry begins, and the last ends.
        numbers: (E,) number of the word; two entries may be two ways to write one.
    """

    table: NDArray[np.int32]
    letters: NDArray[np.uint8]
    bounds: Places
    numbers: NDArray[np.int32]


def word_table(words: Mapping[str, int]) -> WordTable:
    """Lay out words and their numbers."""
    encoded = [word.encode() for word in words]
    letters = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    bounds = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    table = np.full(4 << len(words).bit_length(), -1, dtype=np.int32)
    if words:
        import_module("zipasr.kernels.numba.ngrams").word_table(letters, bounds, table)
    return WordTable(table, letters, bounds, np.array([*words.values()], dtype=np.int32))


class NgramLines(NamedTuple):
    """N-grams of consecutive lines that have nothing odd.

    Attributes:
        ngrams: their numbers; of single words none.
        words: single words; empty for longer n-grams.
        lines: (K,) number of the line of each.
        num_strangers: how many n-grams between them have words that are not known.
        stranger: the line and the word of the first of those.
        is_stopped: whether a line comes next that is no n-gram, or an odd one.
    """

    ngrams: Ngrams
    words: list[str]
    lines: Places
    num_strangers: int
    stranger: tuple[int, str]
    is_stopped: bool


@dataclass
class ArpaText:
    """A file, read from its beginning to its end.

    Attributes:
        path: of the file, for messages.
        file: its bytes, unpacked.
        watch: called after each block.
        number: of the line read last.
    """

    path: Path
    file: BufferedIOBase
    watch: Callable[[], None]
    number: int = 0

    def __post_init__(self) -> None:
        self._blocks = _blocks(self.file)
        self._block, self._position, self._valid = b"", 0, 0

    def fault(self, what: str, fix: str = "", line: int | None = None) -> DataError:
        """Say what is wrong with a line, the one read last if no other is given."""
        return DataError(f"{self.path}:{line or self.number}: {what}.", fix)

    def line(self) -> str | None:
        """Read a line, without white space at its ends; ``None`` at the end of the file.

        Raises:
            DataError: it is not UTF-8, or has a NUL byte.
        """
        if not self._has_more():
            return None
        end = self._block.find(b"\n", self._position) + 1 or len(self._block)
        raw = self._block[self._position : end]
        self._position, self.number = end, self.number + 1
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            shown = raw[error.start : error.start + 4].hex(" ").upper()
            raise self.fault(
                f"the bytes {shown} are not UTF-8", "convert the file to UTF-8."
            ) from error
        if "\0" in text:
            raise self.fault("there is a NUL byte: it is damaged, or not UTF-8", AGAIN)
        return text.strip(" \t\r\n")

    def lines(self) -> Iterator[str]:
        """Read the lines that are left."""
        while (text := self.line()) is not None:
            yield text

    def ngrams(self, order: int, highest: float, words: WordTable) -> NgramLines | None:
        """Read n-grams up to a line that is none, or has something odd; that one comes next.

        Args:
            order: their length.
            highest: the largest logarithm of a probability there may be.
            words: known ones; of no use to single words.

        Returns:
            What was read, if anything; ``None`` at the end of the file.
        """
        if not self._has_more():
            return None
        loops = import_module("zipasr.kernels.numba.ngrams")
        text, size = np.frombuffer(self._block, dtype=np.uint8), self._valid - self._position
        most = size // (2 * order + 1) + 1  # a blank before each word, a number before them
        ids = np.empty((most, max(order, 2)), dtype=np.int32)
        values, lines = np.empty((most, 2)), np.empty(most, dtype=np.int64)
        state = np.array([self._position, self.number, 0, 0, 0, 0, 0], dtype=np.int64)
        loops.read_ngrams(
            text, self._valid, order, highest, tuple(words), ids, values, lines, state
        )
        self._position, self.number, num, strangers, *where = state.tolist()
        stranger = (where[0], self._block[where[1] : where[2]].decode())
        ids, numbers = ids[:num], values[:num].astype(np.float32)
        names = []
        if order == 1 and num:
            spans = ids.tolist()
            names = b"\n".join([self._block[a:b] for a, b in spans]).decode().split("\n")
        ngrams = Ngrams(ids[:, :order].copy(), np.minimum(numbers[:, 0], 0.0), numbers[:, 1])
        is_stopped = self._position < len(self._block)
        return NgramLines(ngrams, names, lines[:num].copy(), strangers, stranger, is_stopped)

    def _has_more(self) -> bool:
        """Read on, where all that was read is used up; False at the end of the file."""
        if self._position < len(self._block):
            return True
        is_first = self.number == 0
        self._block = next(self._blocks, b"")
        self.watch()
        if is_first:
            self._block = self._block.removeprefix(_BOM)
        self._position, self._valid = 0, _valid_lines(self._block)
        return bool(self._block)


def _valid_lines(block: bytes) -> int:
    """Where the first line begins that is not UTF-8 or has a NUL byte; else the end."""
    bad = block.find(b"\0")
    try:
        if not block.isascii():
            block.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = error.start if bad < 0 else min(bad, error.start)
    return len(block) if bad < 0 else block.rfind(b"\n", 0, bad) + 1


def _blocks(file: BufferedIOBase) -> Iterator[bytes]:
    """Whole lines, many at a time; those before a damage come before the error."""
    kept = bytearray()
    while True:
        try:
            part = file.read1(_PART)
        except (EOFError, zlib.error, OSError):
            if whole := bytes(kept[: kept.rfind(b"\n") + 1]):
                yield whole
            raise
        kept += part
        end = kept.rfind(b"\n") + 1 if len(kept) >= _BLOCK else 0
        if not part:
            yield bytes(kept)
            return
        if end:
            yield bytes(kept[:end])
            del kept[:end]
