"""An n-gram model as tables of numbers: many words asked at once, where the tables are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from zipasr.lm.arpa import END, LN10, UNKNOWN, NgramLm, Words


@dataclass(frozen=True)
class NgramTable:
    """The numbers of an ``NgramLm``, for the words of somebody's choice.

    A context is a number, 0 for the empty one. An n-gram is found by one number for its context
    and its last word; the numbers are sorted.

    Attributes:
        words: (W,) for each word of the user, the number of it in the model; unknown ones share
            that of ``<unk>``.
        keys: (K,) int64, sorted: context times ``num_words`` plus the word, for each n-gram.
        log_probs: (K,) float64, natural logarithms.
        contexts: (K,) context after each n-gram.
        backoffs: (C,) float64, natural logarithms of the weights of the contexts.
        shorter: (C,) each context without its oldest word.
        num_words: of the model, ``<unk>`` included.
        start: context of the first word.
        end: number of the end of a sentence.
    """

    words: Tensor
    keys: Tensor
    log_probs: Tensor
    contexts: Tensor
    backoffs: Tensor
    shorter: Tensor
    num_words: int
    start: int
    end: int

    def step(self, contexts: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities (M,) of the user's ``words`` (M,) after ``contexts``, and what follows.

        Returns:
            (M,) float64 natural logarithms, and (M,) contexts after the words.
        """
        return self._look_up(contexts, self.words[words])

    def ends(self, contexts: Tensor) -> Tensor:
        """Log-probabilities (M,) float64 of the end of a sentence after ``contexts`` (M,)."""
        return self._look_up(contexts, torch.full_like(contexts, self.end))[0]

    def to(self, device: torch.device) -> NgramTable:
        """Return the same on a device."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in values.items():
            values[name] = value.to(device) if isinstance(value, Tensor) else value
        return NgramTable(**values)

    def _look_up(self, contexts: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros(len(words), dtype=torch.float64, device=words.device)
        while True:
            key = contexts * self.num_words + words
            place = torch.searchsorted(self.keys, key).clamp(max=len(self.keys) - 1)
            is_there = self.keys[place] == key
            # Every word has a probability by itself, so this ends at the empty context.
            if bool(is_there.all()):
                return total + self.log_probs[place], self.contexts[place]
            total = torch.where(is_there, total, total + self.backoffs[contexts])
            contexts = torch.where(is_there, contexts, self.shorter[contexts])


def ngram_table(model: NgramLm, words: Sequence[str]) -> NgramTable:
    """Lay out a model as tables.

    Args:
        model: what is laid out; its scores are those of the tables.
        words: the user's words, in the order of their numbers.
    """
    contexts = _contexts_of(model)
    numbers = {context: number for number, context in enumerate(contexts)}
    known = sorted(model.words | {UNKNOWN, END})
    by_word = {word: number for number, word in enumerate(known)}
    keys, log_probs, after = [], [], []
    for ngram, value in _scored(model, contexts):
        before, word = numbers.get(ngram[:-1]), by_word.get(ngram[-1])
        if before is not None and word is not None:
            keys.append(before * len(known) + word)
            log_probs.append(value)
            after.append(numbers[_ending(ngram[-model.order + 1 :], numbers)])
    table = torch.tensor(keys, dtype=torch.int64).sort()
    return NgramTable(
        torch.tensor([by_word.get(word, by_word[UNKNOWN]) for word in words], dtype=torch.int64),
        table.values,
        torch.tensor(log_probs, dtype=torch.float64)[table.indices] * LN10,
        torch.tensor(after, dtype=torch.int64)[table.indices],
        torch.tensor([model.backoffs.get(c, 0.0) * LN10 for c in contexts], dtype=torch.float64),
        torch.tensor([numbers[_ending(c[1:], numbers)] for c in contexts], dtype=torch.int64),
        len(known),
        numbers[model.start()],
        by_word[END],
    )


def _scored(model: NgramLm, contexts: Sequence[Words]) -> Iterator[tuple[Words, float]]:
    """All n-grams, with the logarithms of the model."""
    yield from model.log_probs.items()
    # What only a longer n-gram says to be there has the probability that backing off gives.
    implied = {context for context in contexts if context} | {(UNKNOWN,), (END,)}
    for ngram in implied - model.log_probs.keys():
        yield ngram, model.score(ngram[:-1], ngram[-1]) / LN10


def _contexts_of(model: NgramLm) -> list[Words]:
    """All that n-grams begin with, the empty context first."""
    found = {ngram[:-1] for ngram in model.log_probs} | {
        context for context in model.backoffs if len(context) < model.order
    }
    words = model.words | {UNKNOWN}
    known = [context for context in found if words.issuperset(context)]
    return [(), *sorted({*known} - {()})]


def _ending(words: Words, numbers: dict[Words, int]) -> Words:
    """The longest end of ``words`` that is a context."""
    while words not in numbers:
        words = words[1:]
    return words
