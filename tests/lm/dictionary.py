"""Back-off models as dictionaries, by the definition: what the arrays are compared with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from zipasr.lm.ngram import END, LN10, START, UNKNOWN, NgramLm, Ngrams, Words
from zipasr.lm.ngram_levels import ngram_lm

Table = Mapping[Words, float]


def lm_of(log_probs: Table, backoffs: Table, order: int) -> NgramLm:
    """Build a model of logarithms to base 10."""
    names = [gram[0] for gram in log_probs if len(gram) == 1]
    number = {name: n for n, name in enumerate(names)}
    by_length = []
    for length in range(1, order + 1):
        grams = [gram for gram in log_probs if len(gram) == length]
        ids = np.array([[number[word] for word in gram] for gram in grams], dtype=np.int32)
        values = [[log_probs[g] for g in grams], [backoffs.get(g, np.nan) for g in grams]]
        by_length.append(Ngrams(ids.reshape(-1, length), *np.array(values)))
    return ngram_lm(names, by_length)


def log_probs_of(model: NgramLm) -> dict[Words, float]:
    """All n-grams of a model."""
    return {gram: value for gram, value, _ in _entries(model)}


def backoffs_of(model: NgramLm) -> dict[Words, float]:
    """The weights of all contexts of a model."""
    return {gram: value for gram, _, value in _entries(model) if not np.isnan(value)}


def _entries(model: NgramLm) -> list[tuple[Words, float, float]]:
    rows = [zip(*(part.tolist() for part in one), strict=True) for one in model.by_length()]
    named = [(tuple(model.names[i] for i in ids), p, w) for row in rows for ids, p, w in row]
    return [one for one in named if model.has_unknown or one[0] != (UNKNOWN,)]


class DictionaryLm:
    """A model that looks everything up in dictionaries.

    Args:
        log_probs: n-gram to log-probability of its last word after the others.
        backoffs: n-gram to the weight of a word that does not follow it.
        order: length of the longest n-grams.
    """

    def __init__(self, log_probs: Table, backoffs: Table, order: int) -> None:
        self.log_probs, self.backoffs, self.order = log_probs, backoffs, order

    def score(self, context: Words, word: str) -> float:
        """Natural logarithm of the probability of a word after all words before it."""
        *context, word = (w if (w,) in self.log_probs else UNKNOWN for w in (*context, word))
        context = tuple(context[len(context) - self.order + 1 :] if self.order > 1 else ())
        total = 0.0
        while (*context, word) not in self.log_probs:
            if not context:
                return (total - 100.0) * LN10
            total += self.backoffs.get(context, 0.0)
            context = context[1:]
        return (total + self.log_probs[(*context, word)]) * LN10

    def sentence(self, words: Words) -> float:
        """Natural logarithm of the probability of a sentence, its end included."""
        start = (START,) if (START,) in self.log_probs else ()
        said = (*start, *words, END)
        return sum(self.score(said[:at], said[at]) for at in range(len(start), len(said)))
