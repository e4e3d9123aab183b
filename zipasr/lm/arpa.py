"""ARPA files of back-off n-gram models, read and written.

The format: a line ``ngram N=COUNT`` for each length, and a section for each length with lines
``LOG10 WORD ... [BACKOFF]``, between lines that begin with a backslash. Blanks and tabs separate,
nothing else: other white space, such as a no-break space, may be part of a word.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path

import numpy as np

from zipasr.base.errors import DataError
from zipasr.base.files import lack_of, write_text
from zipasr.lm.arpa_text import AGAIN, ArpaText, NgramLines, word_table
from zipasr.lm.ngram import END, NEVER, START, UNKNOWN, NgramLm, Ngrams
from zipasr.lm.ngram_levels import NgramLevels

_HASH = "token-table: "
_COUNT = re.compile(r"ngram[ \t]+([0-9]{1,4})[ \t]*=[ \t]*([0-9]{1,15})", re.IGNORECASE)
_SECTION = re.compile(r"\\([0-9]{1,4})-grams:", re.IGNORECASE)
_GZIP = b"\x1f\x8b"
# Beyond this a logarithm to base 10 is no probability of speech but a way to write zero.
_ZERO = -1000.0
# Programs that round may write a probability of 1 as a little more.
_ROUNDING = 1e-4


def read_arpa(
    path: Path, watch: Callable[[int], None] = lambda _: None
) -> tuple[NgramLm, list[str]]:
    r"""Read an ARPA file, which may be gzipped; return what there is to tell of it, too.

    What stands before ``\data\`` is not read, the hash of a token table excepted. ``<S>``,
    ``</S>`` and ``<UNK>`` in capitals are the sentence marks and the unknown word where the file
    has no others, minus infinity is the logarithm -99 of other programs, and n-grams with words
    that are no 1-grams are left out; all of this is told.

    Args:
        path: of the file.
        watch: told how many bytes of the file are read, from time to time.

    Raises:
        DataError: the file is missing, is no ARPA file, is cut off or says something that cannot
            be: a probability above 1 or that is no number, an n-gram twice, other counts than
            n-grams, no end of sentences. The message names the line.
    """
    if not path.is_file():
        raise DataError(
            f"there is no n-gram language model at {path}: it {lack_of(path)}.",
            "give an ARPA file.",
        )
    number = 0
    try:
        with path.open("rb") as file, _unpacked(file) as unpacked:
            text = ArpaText(path, unpacked, lambda: watch(file.tell()))
            try:
                return _Reader(text).read()
            finally:
                number = text.number
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path} is a damaged gzip file, readable up to line {number}: {error}.", AGAIN
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def write_arpa(path: Path, model: NgramLm) -> None:
    """Write an ARPA file, whole or not at all."""
    write_text(path, arpa_text(model))


def arpa_text(model: NgramLm) -> str:
    """Format a model as an ARPA file."""
    head = [f"{_HASH}{model.token_table}", ""] if model.token_table else []
    counts, sections = [], []
    for order, ngrams in enumerate(model.by_length(), start=1):
        lines = []
        for ids, log_prob, weight in zip(*(part.tolist() for part in ngrams), strict=True):
            words = " ".join(model.names[i] for i in ids)
            if words == UNKNOWN and not model.has_unknown:
                continue
            backoff = "" if math.isnan(weight) else f"\t{weight:.7f}"
            lines.append((words.split(" "), f"{log_prob:.7f}\t{words}{backoff}"))
        counts.append(f"ngram {order}={len(lines)}")
        sections += ["", f"\\{order}-grams:", *(line for _, line in sorted(lines))]
    return "\n".join([*head, "\\data\\", *counts, *sections, "", "\\end\\", ""])


@contextmanager
def _unpacked(file: BufferedIOBase) -> Iterator[BufferedIOBase]:
    is_packed = file.read(len(_GZIP)) == _GZIP
    file.seek(0)
    if not is_packed:
        yield file
        return
    with gzip.open(file) as unpacked:
        yield unpacked


class _Reader:
    """One pass through a file.

    Args:
        text: of the file.
    """

    def __init__(self, text: ArpaText) -> None:
        self._text = text
        self._counts: dict[int, int] = {}
        self._count_lines: dict[int, int] = {}
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._words = word_table({})
        self._singles: list[Ngrams] = []
        self._levels = NgramLevels(0)
        self._marks: dict[str, str] = {}
        self._zeros: list[int] = []
        self._num_strangers, self._stranger = 0, (0, "")

    def read(self) -> tuple[NgramLm, list[str]]:
        """Return the model of the file, and what there is to tell.

        Raises:
            DataError: a line is wrong, or lines are missing.
        """
        token_table = self._read_head()
        order = self._read_counts()
        while order:
            order = self._read_section(order)
        for text in self._text.lines():
            if text.lower() == "\\data\\":
                raise self._text.fault("a second model begins", "give a file with one model.")
        return self._levels.model(self._names, token_table), list(self._remarks())

    def _read_head(self) -> str | None:
        token_table = None
        for text in self._text.lines():
            if text.lower() == "\\data\\":
                return token_table
            if text.startswith(_HASH):
                token_table = text.removeprefix(_HASH)
        path = self._text.path
        fix = (
            "give the .arpa file that it was made from."
            if path.name.endswith(".fst.txt")
            else "give an ARPA file."
        )
        raise DataError(f"{path} is no ARPA file: it has no line \\data\\.", fix)

    def _read_counts(self) -> int:
        """Read how many n-grams there are; return the length of the first section."""
        fault = self._text.fault
        for text in filter(None, self._text.lines()):
            if text.startswith("\\"):
                break
            found = _COUNT.fullmatch(text)
            if found is None:
                raise fault(f"{_shown(text)} is not of the form ngram N=COUNT")
            length, count = int(found[1]), int(found[2])
            if length != len(self._counts) + 1:
                raise fault(f"the count of {len(self._counts) + 1}-grams is expected here")
            self._counts[length], self._count_lines[length] = count, self._text.number
        else:
            raise self._cut()
        if not self._counts:
            raise fault("there are no counts of n-grams before it", AGAIN)
        return self._next_section(text, 0)

    def _read_section(self, order: int) -> int:
        """Read the n-grams of a length; return the next length, 0 at the end."""
        try:
            found, text = self._read_ngrams(order)
        except DataError:
            self._close(order)  # an n-gram that is there twice stands before the other fault
            raise
        self._close(order)
        if found != self._counts[order]:
            raise DataError(
                f"{self._text.path}:{self._count_lines[order]}: {self._counts[order]} "
                f"{order}-grams are promised, but it has {found} of them (line "
                f"{self._text.number} ends them).",
                AGAIN,
            )
        if order == 1:
            self._set_words()
        return self._next_section(text, order)

    def _read_ngrams(self, order: int) -> tuple[int, str]:
        """Read the n-grams of a length; return how many there are, and the line behind them."""
        found = 0
        while (lines := self._text.ngrams(order, _ROUNDING, self._words)) is not None:
            found += len(lines.lines) + lines.num_strangers
            self._count_strangers(lines.num_strangers, lines.stranger)
            self._add(order, lines)
            if not lines.is_stopped:
                continue
            text = self._text.line()
            assert text, "what stops n-grams is a line"
            if text.startswith("\\"):
                return found, text
            found += 1
            self._read_odd(text, order)
        raise self._cut()

    def _add(self, order: int, lines: NgramLines) -> None:
        if order > 1:
            self._levels.add(lines.ngrams, lines.lines)
            return
        for word, line in zip(lines.words, lines.lines.tolist(), strict=True):
            self._add_word(word, line)
        self._singles.append(lines.ngrams)

    def _add_word(self, word: str, line: int) -> None:
        if self._numbers.setdefault(word, len(self._names)) < len(self._names):
            raise self._repeated([word], line)
        self._names.append(word)

    def _close(self, order: int) -> None:
        """End a length.

        Raises:
            DataError: an n-gram is there twice.
        """
        repeat = self._levels.close() if order > 1 else None
        if repeat is not None:
            raise self._repeated([self._names[number] for number in repeat.ids], repeat.mark)

    def _repeated(self, words: list[str], line: int) -> DataError:
        return self._text.fault(
            f"the {len(words)}-gram {_shown(' '.join(words))} is there twice",
            "remove one of them.",
            line,
        )

    def _next_section(self, text: str, order: int) -> int:
        found, is_end = _SECTION.fullmatch(text), text.lower() == "\\end\\"
        for wanted in range(order + 1, len(self._counts) + 1):
            if found is not None and int(found[1]) == wanted:
                return wanted
            if self._counts[wanted] > 0:  # a section of nothing may be left out
                raise self._text.fault(f"{_shown(text)} stands where \\{wanted}-grams: is expected")
            if wanted == 1:
                self._set_words()
            else:
                self._close(wanted)
        if not is_end:
            raise self._text.fault(f"{_shown(text)} stands where \\end\\ is expected")
        return 0

    def _read_odd(self, text: str, order: int) -> None:
        """Read a line that is not plain: wrong, or unusual."""
        fields = [part for part in text.replace("\t", " ").split(" ") if part]
        if not order + 1 <= len(fields) <= order + 2:
            raise self._text.fault(f"{len(fields)} fields are not a {order}-gram")
        words, line = fields[1 : order + 1], self._text.number
        if order == 1:
            self._add_word(words[0], line)
        ids = np.array([[self._numbers[word] for word in words]], dtype=np.int32)
        numbers = np.full((2, 1), np.nan, dtype=np.float32)
        try:
            log_prob = self._number(fields[0], "probability")
            if log_prob > _ROUNDING:
                raise self._text.fault(
                    f"a probability is the logarithm {fields[0]}, above 0",
                    "write logarithms to base 10 of probabilities.",
                )
            numbers[0] = min(0.0, log_prob)
            if len(fields) == order + 2:
                numbers[1] = self._number(fields[-1], "back-off weight")
        finally:
            one = NgramLines(Ngrams(ids, *numbers), [], np.array([line]), 0, (0, ""), True)
            if order == 1:
                self._singles.append(one.ngrams)
            else:
                self._levels.add(one.ngrams, one.lines)

    def _number(self, field: str, kind: str) -> float:
        try:
            value = math.nan if "_" in field else float(field)
        except ValueError:
            value = math.nan
        if not value < -_ZERO:
            raise self._text.fault(f"a {kind} is no number: {_shown(field)}")
        if value < _ZERO:
            self._zeros.append(self._text.number)
            return NEVER
        return value

    def _set_words(self) -> None:
        """Find the sentence marks among the words, under another spelling if need be."""
        for mark in (START, END, UNKNOWN):
            others = sorted(word for word in self._names if word.lower() == mark)
            if mark not in self._numbers and len(others) == 1:
                self._marks[others[0]] = mark
        for other, mark in self._marks.items():
            self._numbers[mark] = self._numbers[other]
            self._names[self._numbers[other]] = mark
        if END not in self._numbers:
            raise DataError(
                f"{self._text.path} has no {END} among its 1-grams, so that no sentence can end.",
                f"make it from text with {START} and {END} around each sentence.",
            )
        self._words = word_table(self._numbers)
        self._levels = NgramLevels(len(self._names))
        _, log_probs, weights = (np.concatenate(part) for part in zip(*self._singles, strict=True))
        ids = np.arange(len(self._names), dtype=np.int32)[:, None]
        self._levels.add(Ngrams(ids, log_probs, weights), np.zeros(len(ids), dtype=np.int64))
        self._levels.close()

    def _count_strangers(self, num: int, first: tuple[int, str]) -> None:
        if not self._num_strangers:
            self._stranger = first
        self._num_strangers += num

    def _remarks(self) -> Iterator[str]:
        path = self._text.path
        if self._num_strangers:
            number, word = self._stranger
            yield (
                f"{path}:{number}: {_shown(word)} is not among the 1-grams; {self._num_strangers} "
                "n-grams with such words are not used"
            )
        if self._marks:
            read = ", ".join(f"{other} as {mark}" for other, mark in self._marks.items())
            yield f"{path}: read {read}"
        if self._zeros:
            yield (
                f"{path}:{self._zeros[0]}: minus infinity is read as {NEVER:g}, as in "
                f"{len(self._zeros)} places"
            )

    def _cut(self) -> DataError:
        return DataError(
            f"{self._text.path} is cut: it ends with line {self._text.number}, before \\end\\.",
            AGAIN,
        )


def _shown(text: str) -> str:
    """Quote a part of a line, long ones cut."""
    return repr(text if len(text) <= 60 else f"{text[:60]}...")
