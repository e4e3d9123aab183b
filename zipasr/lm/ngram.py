"""Back-off n-gram models: ARPA files, read, written and asked."""

from __future__ import annotations

import gzip
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TypeAlias

from zipasr.base.errors import DataError
from zipasr.base.files import atomic_path

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
LN10 = math.log(10.0)
# What a word gets that the file does not know, where the file does not say: log10.
_UNSEEN = -100.0
_HASH = "token-table: "

Words: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class NgramLm:
    """A back-off n-gram model; logarithms are to base 10, as in the file.

    Attributes:
        log_probs: n-gram to log-probability of its last word after the others.
        backoffs: n-gram to the weight of a word that does not follow it in ``log_probs``; 0 for
            n-grams that are not there.
        order: length of the longest n-grams.
        token_table: hash of the table whose tokens the words are, if the file says it.

    Source: Katz, "Estimation of probabilities from sparse data", 1987.
    """

    log_probs: Mapping[Words, float]
    backoffs: Mapping[Words, float]
    order: int
    token_table: str | None = None
    _known: frozenset[str] = field(init=False, repr=False, compare=False)
    _contexts: frozenset[Words] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        known = frozenset(ngram[0] for ngram in self.log_probs if len(ngram) == 1)
        object.__setattr__(self, "_known", known)
        # A file may leave out the weight 0 of an n-gram that longer ones begin with.
        begun = frozenset(ngram[:-1] for ngram in self.log_probs if ngram[:-1] not in self.backoffs)
        object.__setattr__(self, "_contexts", begun)

    @property
    def words(self) -> frozenset[str]:
        """The words that have a probability, sentence marks included."""
        return self._known

    def with_unknown(self) -> NgramLm:
        """Return the same with ``<unk>``, as probable as its rarest word, where it has none."""
        return self.with_words([UNKNOWN])

    def with_words(self, words: Iterable[str]) -> NgramLm:
        """Return the same with ``words``, each as probable as its rarest one where it lacks it.

        All else stays as it is, so that probabilities then add up to a little more than 1.
        """
        missing = [(word,) for word in words if word not in self._known]
        if not missing:
            return self
        rarest = min(self.log_probs[word,] for word in self._known - {START})
        return replace(self, log_probs={**self.log_probs, **dict.fromkeys(missing, rarest)})

    def score(self, context: Words, word: str) -> float:
        """Natural logarithm of the probability of ``word`` after ``context``.

        Words that are not known count as ``<unk>``, or as very improbable where there is none.
        """
        return self._log10(self._seen(context), word if word in self._known else UNKNOWN) * LN10

    def next_context(self, context: Words, word: str) -> Words:
        """What has to be remembered after ``word``: the longest end that an n-gram begins with."""
        grown = self._seen((*context, word))
        while grown and grown not in self.backoffs and grown not in self._contexts:
            grown = grown[1:]
        return grown

    def sentence(self, words: Sequence[str]) -> float:
        """Natural logarithm of the probability of a sentence, its end included."""
        context, total = self.start(), 0.0
        for word in (*words, END):
            total += self.score(context, word)
            context = self.next_context(context, word)
        return total

    def start(self) -> Words:
        """Context of the first word."""
        return self.next_context((), START) if self.order > 1 else ()

    def _seen(self, context: Words) -> Words:
        if self.order == 1:
            return ()
        ends = context[-(self.order - 1) :]
        return tuple(word if word in self._known else UNKNOWN for word in ends)

    def _log10(self, context: Words, word: str) -> float:
        total = 0.0
        while True:
            found = self.log_probs.get((*context, word))
            if found is not None:
                return total + found
            if not context:
                return total + _UNSEEN
            total += self.backoffs.get(context, 0.0)
            context = context[1:]


def read_arpa(path: Path) -> NgramLm:
    """Read an ARPA file, which may be gzipped.

    Raises:
        DataError: the file is missing, is no ARPA file, or is cut off.
    """
    if not path.is_file():
        raise DataError(f"there is no n-gram language model at {path}.", "give an ARPA file.")
    try:
        with _opened(path) as lines:
            return _parsed(lines, path)
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise DataError(f"{path} is no ARPA file, or a damaged one.") from error


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


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8")
    return path.open(encoding="utf-8")


def _parsed(lines: Iterable[str], path: Path) -> NgramLm:
    log_probs: dict[Words, float] = {}
    backoffs: dict[Words, float] = {}
    expected: dict[int, int] = {}
    order, token_table, is_whole = 0, None, False
    for number, line in enumerate(map(str.strip, lines), start=1):
        if line.startswith(_HASH):
            token_table = line.removeprefix(_HASH)
        elif line.startswith("ngram ") and not order:
            length, _, count = line.removeprefix("ngram ").partition("=")
            expected[int(length)] = int(count)
        elif line.endswith("-grams:") and line.startswith("\\"):
            order = int(line[1 : -len("-grams:")])
        elif line == "\\end\\":
            is_whole = True
            break
        elif line and order:
            _add(line, order, log_probs, backoffs, f"{path}:{number}")
    if not is_whole or len(log_probs) != sum(expected.values()):
        raise DataError(
            f"{path} is no ARPA file, or is cut: it has {len(log_probs)} of "
            f"{sum(expected.values())} n-grams.",
            "give the .arpa file that it was made from."
            if path.name.endswith(".fst.txt")
            else "copy or make it again.",
        )
    return NgramLm(log_probs, backoffs, max(expected, default=1), token_table)


def _add(
    line: str,
    order: int,
    log_probs: dict[Words, float],
    backoffs: dict[Words, float],
    place: str,
) -> None:
    fields = line.split()
    if len(fields) not in (order + 1, order + 2):
        raise DataError(f"{place}: {len(fields)} fields are not a {order}-gram.")
    ngram = tuple(fields[1 : order + 1])
    try:
        log_probs[ngram] = float(fields[0])
        if len(fields) == order + 2:
            backoffs[ngram] = float(fields[-1])
    except ValueError as error:
        raise DataError(f"{place}: a probability is no number.") from error
