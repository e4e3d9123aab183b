"""Back-off n-gram models: probabilities of words after others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
LN10 = math.log(10.0)
# What a word gets that the file does not know, where the file does not say: log10.
_UNSEEN = -100.0
# What files write for a probability of nothing, such as that of the start of a sentence: log10.
NEVER = -99.0

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
        has_start = self.order > 1 and START in self._known
        return self.next_context((), START) if has_start else ()

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
