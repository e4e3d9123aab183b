"""ARPA files of back-off n-gram models, read and written.

The format: a line ``ngram N=COUNT`` for each length, and a section for each length with lines
``LOG10 WORD ... [BACKOFF]``, between lines that begin with a backslash. Blanks and tabs separate,
nothing else: other white space, such as a no-break space, may be part of a word.
"""

from __future__ import annotations

import gzip
import logging
import math
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from zipasr.base.errors import DataError
from zipasr.base.files import atomic_path
from zipasr.lm.ngram import END, NEVER, START, UNKNOWN, NgramLm, Words

_HASH = "token-table: "
_COUNT = re.compile(r"ngram[ \t]+([0-9]{1,4})[ \t]*=[ \t]*([0-9]{1,15})", re.IGNORECASE)
_SECTION = re.compile(r"\\([0-9]{1,4})-grams:", re.IGNORECASE)
_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
# Beyond this a logarithm to base 10 is no probability of speech but a way to write zero.
_ZERO = -1000.0
# Programs that round may write a probability of 1 as a little more.
_ROUNDING = 1e-4
_AGAIN = "copy or make it again."


def read_arpa(path: Path) -> NgramLm:
    r"""Read an ARPA file, which may be gzipped.

    What stands before ``\data\`` is not read, the hash of a token table excepted. ``<S>``,
    ``</S>`` and ``<UNK>`` in capitals are the sentence marks and the unknown word where the file
    has no others, minus infinity is the logarithm -99 of other programs, and n-grams with words
    that are no 1-grams are left out; all of this is told.

    Raises:
        DataError: the file is missing, is no ARPA file, is cut off or says something that cannot
            be: a probability above 1 or that is no number, an n-gram twice, other counts than
            n-grams, no end of sentences. The message names the line.
    """
    if not path.is_file():
        what = (
            "is a folder" if path.is_dir() else "is no file" if path.exists() else "does not exist"
        )
        raise DataError(
            f"there is no n-gram language model at {path}: it {what}.", "give an ARPA file."
        )
    reader = _Reader(path)
    try:
        with _opened(path) as lines:
            return reader.read(lines)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path} is a damaged gzip file, readable up to line {reader.number}: {error}.", _AGAIN
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def write_arpa(path: Path, model: NgramLm) -> None:
    """Write an ARPA file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(arpa_text(model), encoding="utf-8")


def arpa_text(model: NgramLm) -> str:
    """Format a model as an ARPA file."""
    by_order: dict[int, list[Words]] = {n: [] for n in range(1, model.order + 1)}
    for ngram in sorted(model.log_probs):
        by_order[len(ngram)].append(ngram)
    head = [f"{_HASH}{model.token_table}", ""] if model.token_table else []
    counts = [f"ngram {order}={len(ngrams)}" for order, ngrams in by_order.items()]
    lines = [*head, "\\data\\", *counts]
    for order, ngrams in by_order.items():
        lines += ["", f"\\{order}-grams:"]
        for ngram in ngrams:
            backoff = f"\t{model.backoffs[ngram]:.7f}" if ngram in model.backoffs else ""
            lines.append(f"{model.log_probs[ngram]:.7f}\t{' '.join(ngram)}{backoff}")
    return "\n".join([*lines, "", "\\end\\", ""])


@contextmanager
def _opened(path: Path) -> Iterator[Iterable[bytes]]:
    with path.open("rb") as file:
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
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0
        self._log_probs: dict[Words, float] = {}
        self._backoffs: dict[Words, float] = {}
        self._counts: dict[int, int] = {}
        self._count_lines: dict[int, int] = {}
        self._words: frozenset[str] = frozenset()
        self._marks: dict[str, str] = {}
        self._zeros: list[int] = []
        self._strangers: list[tuple[int, str]] = []

    def read(self, lines: Iterable[bytes]) -> NgramLm:
        """Return the model of all lines.

        Raises:
            DataError: a line is wrong, or lines are missing.
        """
        texts = self._texts(lines)
        token_table = self._read_head(texts)
        order = self._read_counts(texts)
        while order:
            order = self._read_section(texts, order)
        self._check_rest(texts)
        self._tell()
        return NgramLm(self._log_probs, self._backoffs, max(self._counts), token_table)

    def _texts(self, lines: Iterable[bytes]) -> Iterator[str]:
        for raw in lines:
            self.number += 1
            if self.number == 1:
                raw = raw.removeprefix(_BOM)
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                shown = raw[error.start : error.start + 4].hex(" ").upper()
                raise self._fault(
                    f"the bytes {shown} are not UTF-8", "convert the file to UTF-8."
                ) from error
            if "\0" in text:
                raise self._fault("there is a NUL byte: it is damaged, or not UTF-8", _AGAIN)
            yield text.strip(" \t\r\n")

    def _read_head(self, texts: Iterator[str]) -> str | None:
        token_table = None
        for text in texts:
            if text.lower() == "\\data\\":
                return token_table
            if text.startswith(_HASH):
                token_table = text.removeprefix(_HASH)
        fix = (
            "give the .arpa file that it was made from."
            if self.path.name.endswith(".fst.txt")
            else "give an ARPA file."
        )
        raise DataError(f"{self.path} is no ARPA file: it has no line \\data\\.", fix)

    def _read_counts(self, texts: Iterator[str]) -> int:
        """Read how many n-grams there are; return the length of the first section."""
        for text in filter(None, texts):
            if text.startswith("\\"):
                break
            found = _COUNT.fullmatch(text)
            if found is None:
                raise self._fault(f"{_shown(text)} is not of the form ngram N=COUNT")
            length, count = int(found[1]), int(found[2])
            if length != len(self._counts) + 1:
                raise self._fault(f"the count of {len(self._counts) + 1}-grams is expected here")
            self._counts[length], self._count_lines[length] = count, self.number
        else:
            raise self._cut()
        if not self._counts:
            raise self._fault("there are no counts of n-grams before it", _AGAIN)
        return self._next_section(text, 0)

    def _read_section(self, texts: Iterator[str], order: int) -> int:
        """Read the n-grams of a length; return the next length, 0 at the end."""
        before = len(self._log_probs) + len(self._strangers)
        for text in filter(None, texts):
            if text.startswith("\\"):
                break
            self._add(text, order)
        else:
            raise self._cut()
        found = len(self._log_probs) + len(self._strangers) - before
        if found != self._counts[order]:
            raise DataError(
                f"{self.path}:{self._count_lines[order]}: {self._counts[order]} {order}-grams are "
                f"promised, but it has {found} of them (line {self.number} ends them).",
                _AGAIN,
            )
        if order == 1:
            self._set_words()
        return self._next_section(text, order)

    def _next_section(self, text: str, order: int) -> int:
        found, is_end = _SECTION.fullmatch(text), text.lower() == "\\end\\"
        for wanted in range(order + 1, len(self._counts) + 1):
            if found is not None and int(found[1]) == wanted:
                return wanted
            if self._counts[wanted] > 0:  # a section of nothing may be left out
                raise self._fault(f"{_shown(text)} stands where \\{wanted}-grams: is expected")
        if not is_end:
            raise self._fault(f"{_shown(text)} stands where \\end\\ is expected")
        return 0

    def _add(self, text: str, order: int) -> None:
        fields = [part for part in text.replace("\t", " ").split(" ") if part]
        if not order + 1 <= len(fields) <= order + 2:
            raise self._fault(f"{len(fields)} fields are not a {order}-gram")
        ngram = self._ngram(fields[1 : order + 1])
        if order > 1 and not self._words.issuperset(ngram):
            stranger = next(word for word in ngram if word not in self._words)
            self._strangers.append((self.number, stranger))
            return
        log_prob = self._number(fields[0], "probability")
        if log_prob > _ROUNDING:
            raise self._fault(
                f"a probability is the logarithm {fields[0]}, above 0",
                "write logarithms to base 10 of probabilities.",
            )
        self._log_probs[ngram] = min(0.0, log_prob)
        if len(fields) == order + 2:
            backoff = self._number(fields[-1], "back-off weight")
            if order < len(self._counts):
                self._backoffs[ngram] = backoff

    def _ngram(self, words: list[str]) -> Words:
        if self._marks:
            words = [self._marks.get(word, word) for word in words]
        ngram = tuple(words)
        if ngram in self._log_probs:
            raise self._fault(
                f"the {len(ngram)}-gram {_shown(' '.join(ngram))} is there twice",
                "remove one of them.",
            )
        return ngram

    def _number(self, field: str, kind: str) -> float:
        try:
            value = math.nan if "_" in field else float(field)
        except ValueError:
            value = math.nan
        if not value < -_ZERO:
            raise self._fault(f"a {kind} is no number: {_shown(field)}")
        if value < _ZERO:
            self._zeros.append(self.number)
            return NEVER
        return value

    def _set_words(self) -> None:
        """Find the sentence marks among the words, under another spelling if need be."""
        words = {ngram[0] for ngram in self._log_probs}
        for mark in (START, END, UNKNOWN):
            others = sorted(word for word in words if word.lower() == mark)
            if mark not in words and len(others) == 1:
                self._marks[others[0]] = mark
        for other, mark in self._marks.items():
            self._log_probs[mark,] = self._log_probs.pop((other,))
            if (other,) in self._backoffs:
                self._backoffs[mark,] = self._backoffs.pop((other,))
        self._words = frozenset(ngram[0] for ngram in self._log_probs)
        if END not in self._words:
            raise DataError(
                f"{self.path} has no {END} among its 1-grams, so that no sentence can end.",
                f"make it from text with {START} and {END} around each sentence.",
            )

    def _check_rest(self, texts: Iterator[str]) -> None:
        for text in texts:
            if text.lower() == "\\data\\":
                raise self._fault("a second model begins", "give a file with one model.")

    def _tell(self) -> None:
        if self._strangers:
            number, word = self._strangers[0]
            logging.warning(
                "%s:%d: %s is not among the 1-grams; %d n-grams with such words are not used",
                self.path,
                number,
                _shown(word),
                len(self._strangers),
            )
        if self._marks:
            read = ", ".join(f"{other} as {mark}" for other, mark in self._marks.items())
            logging.warning("%s: %s", self.path, f"read {read}")
        if self._zeros:
            logging.warning(
                "%s:%d: minus infinity is read as %g, as in %d places",
                self.path,
                self._zeros[0],
                NEVER,
                len(self._zeros),
            )

    def _cut(self) -> DataError:
        return DataError(
            f"{self.path} is cut: it ends with line {self.number}, before \\end\\.", _AGAIN
        )

    def _fault(self, what: str, fix: str = "") -> DataError:
        return DataError(f"{self.path}:{self.number}: {what}.", fix)


def _shown(text: str) -> str:
    """Quote a part of a line, long ones cut."""
    return repr(text if len(text) <= 60 else f"{text[:60]}...")
