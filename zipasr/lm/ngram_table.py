"""An n-gram model as tables of numbers: many words asked at once, where the tables are."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from zipasr.lm.ngram import END, LN10, NgramLm, Places
from zipasr.nn.numerics import to_device


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

    Seen as a graph (G.fst of other toolkits), the contexts are its states, each n-gram is an arc
    with its last word, and each context has an arc without a word, with its back-off weight, to
    the next shorter one. A path may back off where there is an n-gram: the word then has several
    arcs, of other log-probabilities and to other contexts, and a search takes what is best at the
    end. The exact probability of a word, in contrast, is that of its longest n-gram.

    Attributes:
        words: (W,) for each word of the user, the number of it in the model; unknown ones share
            that of ``<unk>``.
        keys: this and the next four are those of the model.
        log_probs: (K,).
        contexts: (K,) context after each n-gram.
        backoffs: (C,).
        shorter: (C,).
        splits: where the contexts of each length begin, and where the last end.
        num_words: of the model, ``<unk>`` included.
        start: context of the first word.
        start_length: how many words it has.
        end: number of the end of a sentence.
        exact_backoff: no path backs off where there is an n-gram.
    """

    words: Tensor
    keys: Tensor
    log_probs: Tensor
    contexts: Tensor
    backoffs: Tensor
    shorter: Tensor
    splits: Tensor
    num_words: int
    start: int
    start_length: int
    end: int
    exact_backoff: bool = False

    @property
    def order(self) -> int:
        """Length of the longest n-grams."""
        return len(self.splits) - 1

    @cached_property
    def first_keys(self) -> Places:
        """Where the n-grams of each context begin, and where the last end (C + 1,)."""
        keys = self.keys.numpy()
        return keys.searchsorted(np.arange(len(self.backoffs) + 1) * self.num_words)

    def lengths(self, contexts: Tensor) -> Tensor:
        """How many words each of the contexts has."""
        return torch.searchsorted(self.splits, contexts, right=True) - 1

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
        contexts[:, self.start_length], scores[:, self.start_length] = self.start, 0.0
        return NgramStates(contexts, scores)

    def moved(self, standing: NgramStates, words: Tensor) -> NgramStates:
        """Return where sequences stand after one more of the user's ``words`` (M,) each."""
        contexts, scores, words = standing.contexts, standing.scores, self.words[words][:, None]
        total = torch.zeros_like(scores)
        found, after = [], []
        # No step depends on which contexts there are, so nothing waits for a GPU.
        for _ in range(self.order):
            place, is_there = self._find(contexts, words)
            read = scores + (total + self.log_probs[place]) * LN10
            found.append(torch.where(is_there, read, -math.inf))
            after.append(self.contexts[place].long())
            goes_on = contexts != 0
            if self.exact_backoff:
                goes_on = goes_on & ~is_there
            scores = torch.where(goes_on, scores, -math.inf)
            total, contexts = total + self.backoffs[contexts], self.shorter[contexts].long()
        reached, best = torch.cat(after, dim=1), torch.cat(found, dim=1)
        length = self.lengths(reached)
        best_of = torch.full_like(standing.scores, -math.inf)
        best_of = best_of.scatter_reduce(1, length, best, "amax")
        # Of one length there is one end of a sequence, whichever paths lead there.
        reached = torch.where(best > -math.inf, reached, 0)
        ends = torch.zeros_like(standing.contexts).scatter_reduce(1, length, reached, "amax")
        return NgramStates(ends, best_of)

    def ended(self, standing: NgramStates) -> Tensor:
        """Log-probabilities (M,) float64 of whole sequences, their ends included."""
        ends = self.ends(standing.contexts.flatten()).view_as(standing.scores)
        return (standing.scores + ends).amax(dim=1)

    def to(self, device: torch.device) -> NgramTable:
        """Return the same on a device."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in values.items():
            values[name] = to_device(value, device) if isinstance(value, Tensor) else value
        return NgramTable(**values)

    def _look_up(self, contexts: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros(len(words), dtype=torch.float64, device=words.device)
        while True:
            place, is_there = self._find(contexts, words)
            # Every word has a probability by itself, so this ends at the empty context.
            if bool(is_there.all()):
                return (total + self.log_probs[place]) * LN10, self.contexts[place].long()
            total = torch.where(is_there, total, total + self.backoffs[contexts])
            contexts = torch.where(is_there, contexts, self.shorter[contexts].long())

    def _all(self, contexts: Tensor, words: Tensor) -> Arcs:
        rows = torch.arange(len(words), device=words.device)
        total, found = torch.zeros_like(rows, dtype=torch.float64), []
        for _ in range(self.order):
            place, is_there = self._find(contexts, words[rows])
            at, log10 = place[is_there], total[is_there]
            found.append(
                (rows[is_there], (log10 + self.log_probs[at]) * LN10, self.contexts[at].long())
            )
            longer = contexts != 0
            total = (total + self.backoffs[contexts])[longer]
            rows, contexts = rows[longer], self.shorter[contexts][longer].long()
        return Arcs(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def _find(self, contexts: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Places (M,) of n-grams, and whether they are there (M,)."""
        key = contexts * self.num_words + words
        place = torch.searchsorted(self.keys, key).clamp(max=len(self.keys) - 1)
        return place, self.keys[place] == key


def ngram_table(model: NgramLm, words: Sequence[str], *, exact_backoff: bool = False) -> NgramTable:
    """Give a model to searches; the tables are those of the model, not copies.

    Args:
        model: what is asked.
        words: the user's words, in the order of their numbers.
        exact_backoff: no path of the graph backs off where there is an n-gram.
    """
    return NgramTable(
        torch.tensor([model.number(word) for word in words], dtype=torch.int64),
        torch.from_numpy(model.keys),
        torch.from_numpy(model.log_probs),
        torch.from_numpy(model.after),
        torch.from_numpy(model.backoffs),
        torch.from_numpy(model.shorter),
        torch.tensor(model.splits),
        len(model.names),
        model.start,
        bisect_right(model.splits, model.start) - 1,
        model.number(END),
        exact_backoff,
    )
