"""What helps a search beside the model: scores of tokens by what came before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from zipasr.search.streams import widened

ScorerState: TypeAlias = tuple[Tensor, ...]
"""What a scorer remembers of M hypotheses: tensors (M, ...), the same number for every M.

The last dimension of a tensor may grow with the hypotheses; shorter rows are padded.
"""


class TokenScorer(Protocol):
    """Scores of the next token, for many hypotheses at once; a state belongs to one hypothesis."""

    def start(self, num: int, device: torch.device) -> ScorerState:
        """State of ``num`` hypotheses without tokens."""

    def score(self, state: ScorerState, tokens: Tensor) -> Tensor:
        """Scores (M,) of the tokens (M,) that follow, float32."""

    def extend(self, state: ScorerState, tokens: Tensor) -> ScorerState:
        """State after the tokens (M,)."""

    def finish(self, state: ScorerState) -> Tensor:
        """Scores (M,) of ending here, float32."""


@dataclass(frozen=True)
class Sum:
    """Several scorers as one: their scores are added."""

    scorers: Sequence[TokenScorer]

    def start(self, num: int, device: torch.device) -> ScorerState:
        """State of ``num`` hypotheses without tokens."""
        return tuple(part for scorer in self.scorers for part in scorer.start(num, device))

    def score(self, state: ScorerState, tokens: Tensor) -> Tensor:
        """Scores (M,) of the tokens (M,) that follow."""
        total = torch.zeros(tokens.size(0), device=tokens.device)
        for scorer, own in self._parts(state, tokens.device):
            total = total + scorer.score(own, tokens)
        return total

    def extend(self, state: ScorerState, tokens: Tensor) -> ScorerState:
        """State after the tokens (M,)."""
        return tuple(
            part
            for scorer, own in self._parts(state, tokens.device)
            for part in scorer.extend(own, tokens)
        )

    def finish(self, state: ScorerState) -> Tensor:
        """Scores (M,) of ending here."""
        total = torch.zeros(state[0].size(0), device=state[0].device)
        for scorer, own in self._parts(state, total.device):
            total = total + scorer.finish(own)
        return total

    def _parts(
        self, state: ScorerState, device: torch.device
    ) -> list[tuple[TokenScorer, ScorerState]]:
        parts, place = [], 0
        for scorer in self.scorers:
            width = len(scorer.start(0, device))
            parts.append((scorer, state[place : place + width]))
            place += width
        return parts


@dataclass(frozen=True)
class Ranking:
    """A scorer whose sum so far says which hypotheses stay, but is no part of their score."""

    scorer: TokenScorer

    def start(self, num: int, device: torch.device) -> ScorerState:
        """State of ``num`` hypotheses without tokens."""
        return (torch.zeros(num, device=device), *self.scorer.start(num, device))

    def score(self, state: ScorerState, tokens: Tensor) -> Tensor:
        """Nothing (M,)."""
        return torch.zeros_like(tokens, dtype=state[0].dtype)

    def extend(self, state: ScorerState, tokens: Tensor) -> ScorerState:
        """State after the tokens (M,)."""
        total, *own = state
        more = self.scorer.score(tuple(own), tokens)
        return (total + more, *self.scorer.extend(tuple(own), tokens))

    def finish(self, state: ScorerState) -> Tensor:
        """Nothing (M,)."""
        return torch.zeros_like(state[0])


def in_slots(state: ScorerState, num: int, slots: int) -> ScorerState:
    """Lay out the state of ``num * slots`` hypotheses as (num, slots, ...)."""
    return tuple(part.view(num, slots, *part.shape[1:]) for part in state)


def put(state: ScorerState, where: tuple[Tensor, ...], news: ScorerState) -> ScorerState:
    """Return a state in which the hypotheses at the indices ``where`` have another one.

    The tensors of ``state`` are written to.
    """
    pairs = [widened(pair) if pair[1].dim() > 1 else pair for pair in zip(state, news, strict=True)]
    for part, new in pairs:
        part[where] = new
    return tuple(part for part, _ in pairs)


def scored(scorer: TokenScorer, state: ScorerState, scores: Tensor) -> Tensor:
    """Add to the scores (N, B) of hypotheses what the scorer gives to their end."""
    flat = tuple(part.flatten(0, 1) for part in state)
    return scores + scorer.finish(flat).view_as(scores) if scores.numel() else scores


def together(scorers: Sequence[TokenScorer]) -> TokenScorer | None:
    """Return one scorer for several; ``None`` for none."""
    return scorers[0] if len(scorers) == 1 else Sum(tuple(scorers)) if scorers else None
