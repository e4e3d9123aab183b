"""An n-gram model as tables of numbers: many words asked at once, where the tables are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zipasr.lm.ngram import END, LN10, UNKNOWN, NgramLm, Words


class Arcs(NamedTuple):
    """Ways to read the words (M,) that were asked for, A of them.

    Attributes:
        rows: (A,) place in what was asked.
        log_probs: (A,) float64, natural logarithms.
        contexts: (A,) contexts after the words.
    """

    rows: Tensor
    log_probs: Tensor
    contexts: Tensor


class NgramStates(NamedTuple):
    """Where the best paths of M word sequences through the graph of a model stand.

    The contexts that a sequence may end in are ends of it, so that their lengths tell them apart.

    Attributes:
        contexts: (M, order) the context of each length.
        scores: (M, order) float64, log-probability of the best path there; -inf for no path.
    """

    contexts: Tensor
    scores: Tensor


@dataclass(frozen=True)
class NgramTable:
    """The numbers of an ``NgramLm``, for the words of somebody's choice.

    A context is a number, 0 for the empty one. An n-gram is found by one number for its context
    and its last word; the numbers are sorted.

    Seen as a graph (G.fst of other toolkits), the contexts are its states, each n-gram is an arc
    with its last word, and each context has an arc without a word, with its back-off weight, to
    the next shorter one. A path may back off where there is an n-gram: the word then has several
    arcs, of other log-probabilities and to other contexts, and a search takes what is best at the
    end. The exact probability of a word, in contrast, is that of its longest n-gram.

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
        lengths: (C,) how many words each context has.
        order: length of the longest n-grams.
        exact_backoff: no path backs off where there is an n-gram.
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
    lengths: Tensor
    order: int
    exact_backoff: bool = False

    def step(self, contexts: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Exact log-probabilities (M,) of the user's ``words`` (M,) after ``contexts``.

        Returns:
            (M,) float64 natural logarithms, and (M,) contexts after the words.
        """
        return self._look_up(contexts, self.words[words])

    def arcs(self, contexts: Tensor, words: Tensor) -> Arcs:
        """Arcs with the user's ``words`` (M,) from ``contexts`` (M,), after any backing off.

        With ``exact_backoff`` one for each word, in order.
        """
        if self.exact_backoff:
            rows = torch.arange(len(words), device=words.device)
            return Arcs(rows, *self.step(contexts, words))
        return self._all(contexts, self.words[words])

    def ends(self, contexts: Tensor) -> Tensor:
        """Log-probabilities (M,) float64 of the best end of a sentence after ``contexts`` (M,)."""
        ends = torch.full_like(contexts, self.end)
        if self.exact_backoff:
            return self._look_up(contexts, ends)[0]
        arcs = self._all(contexts, ends)
        best = torch.full_like(contexts, -math.inf, dtype=torch.float64)
        return best.scatter_reduce(0, arcs.rows, arcs.log_probs, "amax")

    def standing(self, num: int) -> NgramStates:
        """Return where ``num`` sequences stand before their first words."""
        contexts = torch.zeros(num, self.order, dtype=torch.int64, device=self.keys.device)
        scores = torch.full_like(contexts, -math.inf, dtype=torch.float64)
        slot = int(self.lengths[self.start])
        contexts[:, slot], scores[:, slot] = self.start, 0.0
        return NgramStates(contexts, scores)

    def moved(self, standing: NgramStates, words: Tensor) -> NgramStates:
        """Return where sequences stand after one more of the user's ``words`` (M,) each."""
        there = (standing.scores > -math.inf).nonzero(as_tuple=True)
        rows, log_probs, after = self.arcs(standing.contexts[there], words[there[0]])
        places = there[0][rows] * self.order + self.lengths[after]
        contexts = torch.zeros_like(standing.contexts).flatten().scatter(0, places, after)
        scores = torch.full_like(standing.scores, -math.inf).flatten()
        scores = scores.scatter_reduce(0, places, standing.scores[there][rows] + log_probs, "amax")
        shape = standing.contexts.shape
        return NgramStates(contexts.view(shape), scores.view(shape))

    def ended(self, standing: NgramStates) -> Tensor:
        """Log-probabilities (M,) float64 of whole sequences, their ends included."""
        ends = self.ends(standing.contexts.flatten()).view_as(standing.scores)
        return (standing.scores + ends).amax(dim=1)

    def to(self, device: torch.device) -> NgramTable:
        """Return the same on a device."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in values.items():
            values[name] = value.to(device) if isinstance(value, Tensor) else value
        return NgramTable(**values)

    def _look_up(self, contexts: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros(len(words), dtype=torch.float64, device=words.device)
        while True:
            place, is_there = self._find(contexts, words)
            # Every word has a probability by itself, so this ends at the empty context.
            if bool(is_there.all()):
                return total + self.log_probs[place], self.contexts[place]
            total = torch.where(is_there, total, total + self.backoffs[contexts])
            contexts = torch.where(is_there, contexts, self.shorter[contexts])

    def _all(self, contexts: Tensor, words: Tensor) -> Arcs:
        rows = torch.arange(len(words), device=words.device)
        total, found = torch.zeros_like(rows, dtype=torch.float64), []
        for _ in range(self.order):
            place, is_there = self._find(contexts, words[rows])
            at = place[is_there]
            found.append((rows[is_there], total[is_there] + self.log_probs[at], self.contexts[at]))
            longer = contexts != 0
            total = (total + self.backoffs[contexts])[longer]
            rows, contexts = rows[longer], self.shorter[contexts][longer]
        return Arcs(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def _find(self, contexts: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Places (M,) of n-grams, and whether they are there (M,)."""
        key = contexts * self.num_words + words
        place = torch.searchsorted(self.keys, key).clamp(max=len(self.keys) - 1)
        return place, self.keys[place] == key


def ngram_table(model: NgramLm, words: Sequence[str], *, exact_backoff: bool = False) -> NgramTable:
    """Lay out a model as tables.

    Args:
        model: what is laid out; its scores are those of the tables.
        words: the user's words, in the order of their numbers.
        exact_backoff: no path of the graph backs off where there is an n-gram.
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
        torch.tensor([len(context) for context in contexts], dtype=torch.int64),
        model.order,
        exact_backoff,
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
