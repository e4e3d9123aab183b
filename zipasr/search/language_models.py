"""Language models over tokens as searches use them: token by token, and for whole hypotheses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from zipasr.lm.arpa import NgramLm
from zipasr.lm.rnn import RnnLm
from zipasr.lm.table import ngram_table
from zipasr.search.fusion import ScorerState, TokenScorer


class LanguageModel(Protocol):
    """What a search asks of a language model."""

    def scorer(self, scale: float) -> TokenScorer:
        """Return what adds its log-probabilities, times ``scale``; ends count nothing."""

    def log_probs(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        """Return the log-probability of each token sequence, its end included."""


@dataclass(frozen=True)
class NgramTokens:
    """An n-gram model over tokens.

    Attributes:
        model: its words are the tokens.
        pieces: the token of each id.
    """

    model: NgramLm
    pieces: Sequence[str]

    def scorer(self, scale: float) -> TokenScorer:
        """Return what adds its log-probabilities, times ``scale``."""
        return NgramScorer(self, scale)

    def log_probs(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        """Return the log-probability of each token sequence, its end included."""
        return [self.model.sentence([self.pieces[i] for i in ids]) for ids in sequences]


class NgramScorer:
    """Scores of an n-gram model; the state of a hypothesis is the number of its context."""

    def __init__(self, tokens: NgramTokens, scale: float) -> None:
        self._table, self._scale = ngram_table(tokens.model, tokens.pieces), scale

    def start(self, num: int, device: torch.device) -> ScorerState:
        """State of ``num`` hypotheses without tokens."""
        self._table = self._table.to(device)
        return (torch.full((num,), self._table.start, dtype=torch.int64, device=device),)

    def score(self, state: ScorerState, tokens: Tensor) -> Tensor:
        """Scaled log-probabilities (M,) of the tokens (M,)."""
        return self._scale * self._table.step(state[0], tokens)[0].float()

    def extend(self, state: ScorerState, tokens: Tensor) -> ScorerState:
        """State after the tokens (M,)."""
        return (self._table.step(state[0], tokens)[1],)

    def finish(self, state: ScorerState) -> Tensor:
        """Nothing: as in the published searches, ends are not scored."""
        return torch.zeros(state[0].size(0), device=state[0].device)


@dataclass(frozen=True)
class RnnTokens:
    """A recurrent model over tokens."""

    model: RnnLm

    def scorer(self, scale: float) -> TokenScorer:
        """Return what adds its log-probabilities, times ``scale``."""
        return RnnScorer(self.model, scale)

    @torch.no_grad()
    def log_probs(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        """Return the log-probability of each token sequence, its end included."""
        values: list[float] = (-self.model.nll(sequences).sum(dim=1)).tolist()
        return values


class RnnScorer:
    """Scores of a recurrent model.

    The state of a hypothesis: log-probabilities (V,) of what follows, and what the model
    remembers, twice (layers, width).
    """

    def __init__(self, model: RnnLm, scale: float) -> None:
        self._model, self._scale = model, scale

    def start(self, num: int, device: torch.device) -> ScorerState:
        """State of ``num`` hypotheses without tokens."""
        if num == 0:
            return self._model.start(0, device)
        one = self._model.start(1, device)
        return tuple(part.expand(num, *part.shape[1:]).contiguous() for part in one)

    def score(self, state: ScorerState, tokens: Tensor) -> Tensor:
        """Scaled log-probabilities (M,) of the tokens (M,)."""
        return self._scale * state[0].gather(1, tokens[:, None]).squeeze(1)

    def extend(self, state: ScorerState, tokens: Tensor) -> ScorerState:
        """State after the tokens (M,): one step of the model for all."""
        _, hidden, cell = state
        return self._model.step(tokens, hidden, cell)

    def finish(self, state: ScorerState) -> Tensor:
        """Nothing: as in the published searches, ends are not scored."""
        return torch.zeros(state[0].size(0), device=state[0].device)
