"""Construction of n-gram models: n-grams of one length after the other, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zipasr.lm.ngram import UNKNOWN, UNSEEN, Floats, NgramLm, Ngrams, Places

_AT_ONCE = 1 << 20  # rows, so that what is computed on the way stays small


class Repeat(NamedTuple):
    """An n-gram that was added for the second time: its numbers of words, and its mark."""

    ids: tuple[int, ...]
    mark: int


class _Level(NamedTuple):
    """The n-grams of a length.

    Attributes:
        keys: (K,) row of all words but the last among those one shorter, times the number of words,
            plus the last word; sorted.
        log_probs: (K,), NaN where only a longer n-gram says that it is there.
        weights: (K,), NaN where there is none.
    """

    keys: Places
    log_probs: Floats
    weights: Floats


class _Part(NamedTuple):
    """N-grams that were added: as in ``_Level``, in any order, and the marks of the caller."""

    keys: Places
    log_probs: Floats
    weights: Floats
    marks: Places


class NgramLevels:
    """The n-grams that were added so far.

    Args:
        num_words: how many numbers of words there are.
    """

    def __init__(self, num_words: int) -> None:
        self._num_words = num_words
        self._levels: list[_Level] = []
        self._parts: list[_Part] = []
        self._orphans: list[tuple[Ngrams, Places]] = []

    def add(self, ngrams: Ngrams, marks: Places) -> None:
        """Add n-grams one word longer than those of the level closed last.

        Args:
            ngrams: with any numbers.
            marks: (K,) anything by which the caller knows them.
        """
        rows = self._rows(ngrams.ids[:, :-1])
        is_known = rows >= 0
        if not is_known.all():
            self._orphans.append((ngrams.rows(~is_known), marks[~is_known]))
            rows, ngrams, marks = rows[is_known], ngrams.rows(is_known), marks[is_known]
        keys = rows * self._num_words + ngrams.ids[:, -1]
        self._parts.append(_Part(keys, ngrams.log_probs, ngrams.weights, marks))

    def close(self) -> Repeat | None:
        """End the level: sort it; return the first n-gram that was added again, if one was."""
        self._adopt()
        parts = self._parts or [_Part(*(np.zeros(0, kind) for kind in ("i8", "f4", "f4", "i8")))]
        keys, log_probs, weights, marks = (np.concatenate(one) for one in zip(*parts, strict=True))
        self._parts = []
        repeat = None
        if not (keys[1:] > keys[:-1]).all():
            order = keys.argsort(kind="stable")
            keys, log_probs, weights = keys[order], log_probs[order], weights[order]
            again = np.flatnonzero(keys[1:] == keys[:-1]) + 1
            if len(again):
                first = again[order[again].argmin()]
                repeat = Repeat(self._words_of(keys[first]), int(marks[order[first]]))
        self._levels.append(_Level(keys, log_probs, weights))
        return repeat

    def model(self, names: Sequence[str], token_table: str | None = None) -> NgramLm:
        """Put the closed levels together.

        Args:
            names: the words; ``num_words`` of them, each once, all of which were added.
            token_table: see ``NgramLm``.
        """
        names, has_unknown = list(names), UNKNOWN in names
        levels = self._levels
        if not has_unknown:
            names.append(UNKNOWN)
            keys, log_probs, weights = levels[0]
            levels[0] = _Level(
                np.append(keys, len(keys)),
                np.append(log_probs, log_probs.dtype.type(UNSEEN)),
                np.append(weights, weights.dtype.type(np.nan)),
            )
        graph = _Graph(sum(len(level.keys) for level in levels), len(names), levels[0])
        for n, level in enumerate(levels):
            longer = levels[n + 1] if n + 1 < len(levels) else None
            rows = None if longer is None else longer.keys // self._num_words
            graph.add(level, rows, self._num_words if n else len(names))
        return NgramLm(
            names,
            graph.keys,
            graph.log_probs,
            graph.after,
            graph.backoffs,
            graph.shorter,
            tuple(graph.splits),
            has_unknown,
            token_table,
        )

    def _rows(self, beginnings: NDArray[np.int32]) -> Places:
        """Rows (M,) of n-grams (M, n) in the level of their length; -1 where there is none."""
        rows = np.zeros(len(beginnings), dtype=np.int64)
        for level, words in zip(self._levels, beginnings.T, strict=False):
            wanted = rows * self._num_words + words
            if level is self._levels[0]:
                rows = wanted  # each word has a row, and its number
                continue
            found = level.keys.searchsorted(wanted)
            found[found == len(level.keys)] = -1
            is_there = (level.keys[found] == wanted) if len(level.keys) else found >= 0
            rows = np.where(is_there & (rows >= 0), found, -1)
        return rows

    def _adopt(self) -> None:
        """Add what the n-grams begin with that stand nowhere themselves."""
        orphans, self._orphans = self._orphans, []
        for n in range(2, len(self._levels) + 1):
            for ngrams, _ in orphans:
                words = ngrams.ids
                keys = self._rows(words[:, : n - 1]) * self._num_words + words[:, n - 1]
                new = np.setdiff1d(keys, self._levels[n - 1].keys)
                self._insert(n, new)
        for ngrams, marks in orphans:
            self.add(ngrams, marks)

    def _insert(self, n: int, new: Places) -> None:
        keys, log_probs, weights = self._levels[n - 1]
        places = keys.searchsorted(new)

        def moved(longer: Places) -> Places:
            rows, last = np.divmod(longer, self._num_words)
            return (rows + places.searchsorted(rows, "right")) * self._num_words + last

        self._levels[n - 1] = _Level(
            np.insert(keys, places, new),
            np.insert(log_probs, places, np.nan),
            np.insert(weights, places, np.nan),
        )
        if n < len(self._levels):
            level = self._levels[n]
            self._levels[n] = level._replace(keys=moved(level.keys))
        else:
            self._parts = [part._replace(keys=moved(part.keys)) for part in self._parts]

    def _words_of(self, key: int) -> tuple[int, ...]:
        """The words of an n-gram, by its key in the level after the closed ones."""
        words: list[int] = []
        for level in (*reversed(self._levels), None):
            row, word = divmod(int(key), self._num_words)
            words.append(word)
            if level is not None:
                key = level.keys[row]
        return tuple(reversed(words))


class _Graph:
    """Contexts and n-grams of a model, level by level.

    Args:
        size: of all n-grams.
        num_words: of the model.
        kinds: a level, of the types of numbers that are kept.
    """

    def __init__(self, size: int, num_words: int, kinds: _Level) -> None:
        self._num_words = num_words
        self._filled = 0
        # The context that each row of the last level is; the only row of no word is the empty one.
        self._contexts = np.zeros(1, dtype=np.int64)
        self.keys = np.empty(size, dtype=np.int64)
        self.log_probs = np.empty(size, dtype=kinds.log_probs.dtype)
        self.after = np.empty(size, dtype=np.int32)
        self.backoffs = np.zeros(1, dtype=kinds.weights.dtype)
        self.shorter = np.zeros(1, dtype=np.int32)
        self.splits = [0, 1]

    def add(self, level: _Level, begun: Places | None, num_words: int) -> None:
        """Add a level.

        Args:
            level: the n-grams.
            begun: their rows that longer n-grams begin with; ``None`` for the longest ones.
            num_words: by which the keys of the level were made.
        """
        rows, words = np.divmod(level.keys, num_words)
        before = self._contexts[rows]
        here = slice(self._filled, self._filled + len(rows))
        after = np.zeros(len(words), dtype=np.int64)
        for first in range(0, len(words), _AT_ONCE):
            block = slice(first, first + _AT_ONCE)
            after[block], implied = self._backed_off(before[block], words[block])
            gaps = np.isnan(level.log_probs[block])
            level.log_probs[block][gaps] = implied[gaps]
        self.keys[here], self.log_probs[here] = before * self._num_words + words, level.log_probs
        if begun is not None:
            # NaN, no weight, is not above 0 either.
            is_context = np.abs(level.weights) > 0
            is_context[begun] = True
            self._contexts = self.splits[-1] + is_context.cumsum() - 1
            weights = np.nan_to_num(level.weights[is_context], nan=0.0)
            self.backoffs = np.append(self.backoffs, weights)
            self.shorter = np.append(self.shorter, after[is_context].astype(np.int32))
            self.splits.append(self.splits[-1] + int(is_context.sum()))
            after = np.where(is_context, self._contexts, after)
        self.after[here] = after
        self._filled = here.stop

    def _backed_off(self, contexts: Places, words: Places) -> tuple[Places, Floats]:
        """Read words (M,) after contexts (M,), by shorter n-grams than there may be.

        Returns:
            The contexts after them, and the logarithms of their probabilities.
        """
        after, total = np.zeros_like(words), np.zeros(len(words))
        if not self._filled:
            return after, total
        left, keys = np.arange(len(words)), self.keys[: self._filled]
        while len(left):
            total[left] += self.backoffs[contexts]
            contexts = self.shorter[contexts].astype(np.int64)
            wanted = contexts * self._num_words + words[left]
            place = keys.searchsorted(wanted) if contexts.any() else wanted
            is_there = keys[np.minimum(place, self._filled - 1)] == wanted
            at, found = place[is_there], left[is_there]
            after[found] = self.after[at]
            total[found] += self.log_probs[at]
            left, contexts = left[~is_there], contexts[~is_there]
        return after, total


def ngram_lm(names: Sequence[str], by_length: Sequence[Ngrams]) -> NgramLm:
    """Build a model of n-grams by length.

    Args:
        names: the words, each of which is an n-gram.
        by_length: the n-grams of one word in the order of ``names``, those of two, and so on.
    """
    levels = NgramLevels(len(names))
    for ngrams in by_length:
        levels.add(ngrams, np.arange(len(ngrams.ids)))
        levels.close()
    return levels.model(names)
