"""Token sequences that spell words of a lexicon, scored by a grammar over these words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zipasr.lm.arpa import END, NgramLm, Words
from zipasr.search.fusion import ScorerState

_ROOT, _DEAD = 0, 0

State = tuple[int, Words]
"""Where a reading stands: node of the trie, context of the grammar."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Words that a token sequence was read as so far, and what the grammar gave them."""

    score: float = 0.0
    words: Words = ()


class WordGraph:
    """A lexicon as a trie of token sequences, and a grammar over its words.

    Words may share beginnings, and whole pronunciations; one word may be the beginning of another.
    The words of a token sequence are those that the grammar likes best, at a tie those that stand
    first in the lexicon. The grammar counts a word where its last token is.

    Args:
        lexicon: words with the token ids of each, at least one; a word may come several times.
        grammar: its words are those of the lexicon; ``None`` for all words alike.
        scale: weight of its log-probabilities.

    Raises:
        ValueError: a word has no tokens.
    """

    def __init__(
        self,
        lexicon: Iterable[tuple[str, Sequence[int]]],
        grammar: NgramLm | None = None,
        scale: float = 1.0,
    ) -> None:
        self._children: list[dict[int, int]] = [{}]
        self._words: list[list[str]] = [[]]
        self._grammar, self._scale = grammar, scale
        for word, tokens in lexicon:
            if not tokens:
                raise ValueError(f"the word {word!r} has no tokens")
            self._add(word, tokens)

    def start(self) -> dict[State, Reading]:
        """Return the readings of no tokens: one, without words."""
        return {(_ROOT, self._grammar.start() if self._grammar else ()): Reading()}

    def step(self, readings: Mapping[State, Reading], token: int) -> dict[State, Reading]:
        """Return the best reading for each state after one token more; none if no word fits."""
        after: dict[State, Reading] = {}

        def offer(state: State, reading: Reading) -> None:
            if state not in after or reading.score > after[state].score:
                after[state] = reading

        for (node, context), reading in readings.items():
            child = self._children[node].get(token)
            if child is None:
                continue
            if self._children[child]:
                offer((child, context), reading)
            for word in self._words[child]:
                score, grown = self._word(context, word)
                offer((_ROOT, grown), Reading(reading.score + score, (*reading.words, word)))
        return after

    def ended(self, readings: Mapping[State, Reading]) -> Reading | None:
        """Return the best reading whose last word is whole, its end scored; ``None`` if none is."""
        whole = [
            Reading(reading.score + self._word(context, END)[0], reading.words)
            for (node, context), reading in readings.items()
            if node == _ROOT
        ]
        return max(whole, key=lambda reading: reading.score, default=None)

    def read(self, tokens: Iterable[int]) -> Reading | None:
        """Return the words of a whole token sequence; ``None`` if it spells none."""
        readings = self.start()
        for token in tokens:
            readings = self.step(readings, token)
        return self.ended(readings)

    def _add(self, word: str, tokens: Sequence[int]) -> None:
        node = _ROOT
        for token in tokens:
            if token not in self._children[node]:
                self._children[node][token] = len(self._children)
                self._children.append({})
                self._words.append([])
            node = self._children[node][token]
        if word not in self._words[node]:
            self._words[node].append(word)

    def _word(self, context: Words, word: str) -> tuple[float, Words]:
        """Scaled log-probability of a word, and the context after it."""
        if self._grammar is None:
            return 0.0, ()
        score = self._scale * self._grammar.score(context, word)
        return score, self._grammar.next_context(context, word)


class WordScorer:
    """Lets a search take only tokens that spell words, and adds what the grammar gives.

    The state of a hypothesis is the number of its readings: where each stands, and how far it is
    behind the best. Tokens that fit no word get -inf, as does an end inside a word.
    """

    def __init__(self, graph: WordGraph) -> None:
        self._graph = graph
        self._readings: list[Mapping[State, Reading]] = [{}]
        self._numbers: dict[frozenset[tuple[State, float]], int] = {frozenset(): _DEAD}
        self._known: dict[tuple[int, int], tuple[float, int]] = {}
        self._start = self._numbered(graph.start())[1]

    def start(self, num: int, device: torch.device) -> ScorerState:
        """State of ``num`` hypotheses without tokens."""
        return (torch.full((num,), self._start, dtype=torch.int64, device=device),)

    def score(self, state: ScorerState, tokens: Tensor) -> Tensor:
        """Scores (M,) of the tokens (M,): 0 within a word, of the grammar at its end."""
        scores = [score for score, _ in self._looked_up(state, tokens)]
        return torch.tensor(scores, dtype=torch.float32, device=tokens.device)

    def extend(self, state: ScorerState, tokens: Tensor) -> ScorerState:
        """State after the tokens (M,)."""
        numbers = [number for _, number in self._looked_up(state, tokens)]
        return (torch.tensor(numbers, dtype=torch.int64, device=tokens.device),)

    def finish(self, state: ScorerState) -> Tensor:
        """Scores (M,) of the end of the sentence."""
        ends = [self._graph.ended(self._readings[number]) for number in state[0].tolist()]
        scores = [-math.inf if end is None else end.score for end in ends]
        return torch.tensor(scores, dtype=torch.float32, device=state[0].device)

    def _looked_up(self, state: ScorerState, tokens: Tensor) -> list[tuple[float, int]]:
        return [
            self._known.get(pair) or self._find(pair)
            for pair in zip(state[0].tolist(), tokens.tolist(), strict=True)
        ]

    def _find(self, pair: tuple[int, int]) -> tuple[float, int]:
        found = self._numbered(self._graph.step(self._readings[pair[0]], pair[1]))
        self._known[pair] = found
        return found

    def _numbered(self, readings: Mapping[State, Reading]) -> tuple[float, int]:
        """Score of the best reading, and the number of all of them relative to it."""
        if not readings:
            return -math.inf, _DEAD
        best = max(reading.score for reading in readings.values())
        # The words are read off the tokens at the end: a state does not grow with the sentence.
        relative = {state: Reading(reading.score - best) for state, reading in readings.items()}
        key = frozenset((state, reading.score) for state, reading in relative.items())
        if key not in self._numbers:
            self._numbers[key] = len(self._readings)
            self._readings.append(relative)
        return best, self._numbers[key]
