"""Back-off n-gram models: probabilities of words after others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
LN10 = math.log(10.0)
# What a word gets that the file does not know, where the file does not say: log10.
UNSEEN = -100.0
# What files write for a probability of nothing, such as that of the start of a sentence: log10.
NEVER = -99.0

Words: TypeAlias = tuple[str, ...]
Places: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.floating[Any]]


class Ngrams(NamedTuple):
    """The K n-grams of a length.

    Attributes:
        ids: (K, n) numbers of the words.
        log_probs: (K,) logarithm of the probability of the last word after the others.
        weights: (K,) logarithm of the weight of a word that does not follow; NaN for none.
    """

    ids: NDArray[np.int32]
    log_probs: Floats
    weights: Floats

    def rows(self, rows: NDArray[Any]) -> Ngrams:
        """Take some of them."""
        return Ngrams(self.ids[rows], self.log_probs[rows], self.weights[rows])


@dataclass(frozen=True, eq=False)
class NgramLm:
    """A back-off n-gram model; logarithms are to base 10, as in the file.

    A context is what n-grams begin with, or have a weight for. It is a number: 0 for the empty one,
    then those of one word, of two, and so on. Contexts and words together find an n-gram, in an
    array that is sorted: 16 bytes for each n-gram, and 8 for each context, which may lie in a file.

    Attributes:
        names: the words; a word's number is its place. ``<unk>`` is always there.
        keys: (K,) int64, sorted: context times number of words plus the last word of each n-gram.
        log_probs: (K,) logarithms of their probabilities.
        after: (K,) int32, the longest context that each of them ends with.
        backoffs: (C,) logarithms of the weights of the contexts.
        shorter: (C,) int32, the longest other context that each of them ends with.
        splits: where the contexts of no word, one word, ... begin, and where the last end.
        has_unknown: whether the model says how probable ``<unk>`` is.
        token_table: hash of the table whose tokens the words are, if the file says it.

    Source: Katz, "Estimation of probabilities from sparse data", 1987.
    """

    names: Sequence[str]
    keys: Places
    log_probs: Floats
    after: NDArray[np.int32]
    backoffs: Floats
    shorter: NDArray[np.int32]
    splits: tuple[int, ...]
    has_unknown: bool = True
    token_table: str | None = None

    @property
    def order(self) -> int:
        """Length of the longest n-grams."""
        return len(self.splits) - 1

    @cached_property
    def words(self) -> frozenset[str]:
        """The words that have a probability, sentence marks included."""
        return frozenset(self.names) - (frozenset() if self.has_unknown else {UNKNOWN})

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    def number(self, word: str) -> int:
        """Return the number of a word; that of ``<unk>`` for one that is not known."""
        found = self._numbers.get(word)
        return self._numbers[UNKNOWN] if found is None else found

    @cached_property
    def start(self) -> int:
        """Context of the first word of a sentence."""
        has_start = self.order > 1 and START in self._numbers
        return self.step(0, self._numbers[START])[1] if has_start else 0

    def with_unknown(self) -> NgramLm:
        """Return the same with ``<unk>``, as probable as its rarest word, where it has none."""
        return self.with_words([UNKNOWN])

    def with_words(self, words: Iterable[str]) -> NgramLm:
        """Return the same with ``words``, each as probable as its rarest one where it lacks it.

        All else stays as it is, so that probabilities then add up to a little more than 1.
        """
        missing = dict.fromkeys(word for word in words if word not in self.words)
        if not missing:
            return self
        new = [word for word in missing if word != UNKNOWN]
        old, num = len(self.names), len(self.names) + len(new)
        known = [n for n, name in enumerate(self.names) if name != START and name in self.words]
        rarest = self.log_probs[known].min()
        # Words are n-grams of the empty context, which come first.
        log_probs = np.insert(self.log_probs, [old] * len(new), rarest)
        if UNKNOWN in missing:
            log_probs[self._numbers[UNKNOWN]] = rarest
        contexts, last = np.divmod(self.keys, old)
        return replace(
            self,
            names=[*self.names, *new],
            keys=np.insert(contexts * num + last, [old] * len(new), np.arange(old, num)),
            log_probs=log_probs,
            after=np.insert(self.after, [old] * len(new), 0),
            has_unknown=self.has_unknown or UNKNOWN in missing,
        )

    def score(self, context: Sequence[str], word: str) -> float:
        """Natural logarithm of the probability of ``word`` after ``context``.

        Words that are not known count as ``<unk>``, or as very improbable where there is none.
        """
        at = 0
        for before in context:
            at = self.step(at, self.number(before))[1]
        return self.step(at, self.number(word))[0] * LN10

    def sentence(self, words: Sequence[str]) -> float:
        """Natural logarithm of the probability of a sentence, its end included."""
        context, total = self.start, 0.0
        for word in (*words, END):
            log10, context = self.step(context, self.number(word))
            total += log10
        return total * LN10

    def step(self, context: int, word: int) -> tuple[float, int]:
        """Read the number of a word after a context.

        Returns:
            Logarithm to base 10 of its probability, and the context after it.
        """
        total = 0.0
        while True:
            key = context * len(self.names) + word
            place = int(self.keys.searchsorted(key))
            if place < len(self.keys) and self.keys[place] == key:
                return total + float(self.log_probs[place]), int(self.after[place])
            # Every word has a probability by itself, so this ends at the empty context.
            total += float(self.backoffs[context])
            context = int(self.shorter[context])

    def by_length(self) -> Iterator[Ngrams]:
        """All n-grams, those of one word first; a context that no weight was given for has 0."""
        ends = self.keys.searchsorted(np.array(self.splits, dtype=np.int64) * len(self.names))
        before = np.zeros((1, 0), dtype=np.int32)  # the words of the contexts one shorter
        for n in range(1, self.order + 1):
            place = slice(ends[n - 1], ends[n])
            contexts, last = np.divmod(self.keys[place], len(self.names))
            beginnings = before[contexts - self.splits[n - 1]]
            ids = np.concatenate((beginnings, last[:, None]), axis=1).astype(np.int32)
            weights = np.full(len(ids), np.nan, self.backoffs.dtype)
            # An n-gram that is a context itself ends with no longer one.
            is_context = self.after[place] >= self.splits[n]
            weights[is_context] = self.backoffs[self.after[place][is_context]]
            yield Ngrams(ids, self.log_probs[place], weights)
            before = ids[is_context]
