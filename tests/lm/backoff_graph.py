"""The graph of a back-off n-gram model, arc by arc, and all paths of a sentence through it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

from hypothesis import strategies as st

from zipasr.lm.ngram import END, LN10, START, UNKNOWN, NgramLm

from .dictionary import backoffs_of, lm_of, log_probs_of

State = tuple[str, ...]
WORDS = ("a", "b", "c")


class Arc(NamedTuple):
    """An arc; ``word`` is ``None`` where it backs off, ``target`` where the sentence ends."""

    word: str | None
    weight: float
    target: State | None


class BackoffGraph:
    """As G.fst is made of an ARPA file: a state for each n-gram but the longest ones.

    Natural logarithms. An n-gram is an arc from the state of its beginning; a longest one leads to
    the longest end of it that is a state. Every state but the empty one has a back-off arc.
    """

    def __init__(self, model: NgramLm) -> None:
        self.model = model
        self.log_probs, backoffs = log_probs_of(model), backoffs_of(model)
        ngrams = [gram for gram in self.log_probs if gram[-1] != END]
        self.states: set[State] = {(), *(gram for gram in ngrams if len(gram) < model.order)}
        self.arcs: dict[State, list[Arc]] = {
            state: [Arc(None, backoffs.get(state, 0.0) * LN10, self._end(state[1:]))]
            for state in self.states
            if state
        } | {(): []}
        for gram, log10 in self.log_probs.items():
            word = gram[-1]
            if word != START:
                target = None if word == END else self._end(gram[-model.order + 1 :])
                self.arcs[gram[:-1]].append(Arc(word, log10 * LN10, target))
        self.start = (START,) if (START,) in self.states else ()

    def _end(self, gram: State) -> State:
        if self.model.order == 1:
            return ()
        while gram not in self.states:
            gram = gram[1:]
        return gram

    def paths(
        self, words: tuple[str, ...], state: State | None = None
    ) -> Iterator[tuple[float, State]]:
        """Score of each path that reads the words, and the state that its last word leads to."""
        state = self.start if state is None else state
        if not words:
            yield 0.0, state
            return
        word = words[0] if (words[0],) in self.log_probs else UNKNOWN
        for reached, score in self._backed_off(state):
            for arc in self.arcs[reached]:
                if arc.word == word:
                    assert arc.target is not None
                    for more, last in self.paths(words[1:], arc.target):
                        yield score + arc.weight + more, last

    def best_end(self, state: State) -> float:
        """The best of the paths from a state to an end."""
        return max(
            score + arc.weight
            for reached, score in self._backed_off(state)
            for arc in self.arcs[reached]
            if arc.word == END
        )

    def best(self, words: tuple[str, ...]) -> float:
        """Score of the best path of a sentence, its end included."""
        return max(score + self.best_end(state) for score, state in self.paths(words))

    def _backed_off(self, state: State) -> Iterator[tuple[State, float]]:
        yield state, 0.0
        for arc in self.arcs[state]:
            if arc.word is None:
                assert arc.target is not None
                for reached, score in self._backed_off(arc.target):
                    yield reached, arc.weight + score


@st.composite
def models(draw: st.DrawFn, words: Sequence[str] = WORDS) -> NgramLm:
    """Back-off models of random n-grams and weights: backing off is often better."""
    order = draw(st.integers(1, 3))
    value = st.floats(-3.0, -0.01)
    log_probs = {(word,): draw(value) for word in (*words, END)} | {(START,): -99.0}
    for length in range(2, order + 1):
        beginnings = [g for g in log_probs if len(g) == length - 1 and g[-1] != END]
        candidates = [(*g, w) for g, w in product(sorted(beginnings), (*words, END))]
        chosen = st.lists(st.sampled_from(candidates), unique=True, max_size=8)
        for gram in draw(chosen) if candidates else []:
            log_probs[gram] = draw(value)
    contexts = [g for g in sorted(log_probs) if len(g) < order and g[-1] != END]
    weights = draw(st.lists(st.floats(-2.0, 0.5), min_size=len(contexts), max_size=len(contexts)))
    return lm_of(log_probs, dict(zip(contexts, weights, strict=True)), order)


def log_sum(values: list[float]) -> float:
    """Logarithm of a sum of exponentials."""
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values))
