"""Scores of tokens beside the model's, for many hypotheses at once; sums of several scorers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from zipasr.search.batched_state import pad_last_dim

ScorerState: TypeAlias = tuple[Tensor, ...]
"""What a scorer remembers of M hypotheses: tensors (M, ...), the same number for every M.

The last dimension of a tensor may grow with the hypotheses; shorter rows are padded.
"""


class TokenScorer(Protocol):
    """Scores of the next token, for many hypotheses at once; a state belongs to one hypothesis."""

    @property
    def on_host(self) -> bool:
        """Whether the host has to know the tokens, so that it waits for a GPU once a frame."""

    def start(self, num: int, device: torch.device) -> ScorerState:
        """State of ``num`` hypotheses without tokens."""

    def score(self, state: ScorerState, tokens: Tensor) -> Tensor:
        """Scores (M,) of the tokens (M,) that follow, float32."""

    def extend(self, state: ScorerState, tokens: Tensor) -> ScorerState:
        """State after the tokens (M,)."""

    def step(self, state: ScorerState, tokens: Tensor) -> tuple[Tensor, ScorerState]:
        """Return both: scores (M,) of the tokens (M,), and the state after them."""

    def step_where(
        self, state: ScorerState, tokens: Tensor, where: Tensor
    ) -> tuple[Tensor, ScorerState]:
        """Do as the function ``step_where``; it calls this for a GPU."""

    def finish(self, state: ScorerState) -> Tensor:
        """Scores (M,) of ending here, float32."""


class ScorerBase:
    """Base of scorers: one of ``step``, or of ``score`` and ``extend``, says the rest."""

    on_host = False

    def start(self, num: int, device: torch.device) -> ScorerState:
        """State of ``num`` hypotheses without tokens."""
        raise NotImplementedError

    def score(self, state: ScorerState, tokens: Tensor) -> Tensor:
        """Scores (M,) of the tokens (M,) that follow."""
        return self.step(state, tokens)[0]

    def extend(self, state: ScorerState, tokens: Tensor) -> ScorerState:
        """State after the tokens (M,)."""
        return self.step(state, tokens)[1]

    def step(self, state: ScorerState, tokens: Tensor) -> tuple[Tensor, ScorerState]:
        """Return both: scores (M,) of the tokens (M,), and the state after them."""
        return self.score(state, tokens), self.extend(state, tokens)

    def step_where(
        self, state: ScorerState, tokens: Tensor, where: Tensor
    ) -> tuple[Tensor, ScorerState]:
        """Return scores (M, B) and the state after the tokens that count; all are scored."""
        return step_all(self, state, tokens, where)

    def finish(self, state: ScorerState) -> Tensor:
        """Scores (M,) of ending here."""
        raise NotImplementedError


@dataclass(frozen=True)
class Sum:
    """Several scorers as one: their scores are added."""

    scorers: Sequence[TokenScorer]

    @property
    def on_host(self) -> bool:
        """Whether the host has to know the tokens."""
        return any(scorer.on_host for scorer in self.scorers)

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

    def step(self, state: ScorerState, tokens: Tensor) -> tuple[Tensor, ScorerState]:
        """Return both: scores (M,) of the tokens (M,), and the state after them."""
        total = torch.zeros(tokens.size(0), device=tokens.device)
        after: list[Tensor] = []
        for scorer, own in self._parts(state, tokens.device):
            scores, news = scorer.step(own, tokens)
            total = total + scores
            after += news
        return total, tuple(after)

    def step_where(
        self, state: ScorerState, tokens: Tensor, where: Tensor
    ) -> tuple[Tensor, ScorerState]:
        """Let each do as the function ``step_where``; at once, if none is on the host."""
        if not self.on_host:
            return step_all(self, state, tokens, where)
        total = torch.zeros(tokens.shape, device=tokens.device)
        after: list[Tensor] = []
        for scorer, own in self._parts(state, tokens.device):
            scores, news = scorer.step_where(own, tokens, where)
            total = total + scores
            after += news
        return total, tuple(after)

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


def view_as_beams(state: ScorerState, num: int, slots: int) -> ScorerState:
    """Lay out the state of ``num * slots`` hypotheses as (num, slots, ...)."""
    return tuple(part.view(num, slots, *part.shape[1:]) for part in state)


def scored_where(scorer: TokenScorer, state: ScorerState, tokens: Tensor, where: Tensor) -> Tensor:
    """Return the scores (M, B) of a token for each hypothesis; 0 but where asked for.

    On a GPU all are scored, as the host would have to wait to know which to leave out.

    Args:
        scorer: which one.
        state: each tensor (M, B, ...).
        tokens: (M, B).
        where: (M, B).
    """
    if where.is_cuda:
        every = scorer.score(_flat(state), tokens.flatten())
        return torch.where(where, every.view_as(tokens), 0.0)
    scores, at = torch.zeros(tokens.shape, device=tokens.device), where.nonzero(as_tuple=True)
    if at[0].numel():
        scores[at] = scorer.score(tuple(part[at] for part in state), tokens[at])
    return scores


def step_where(
    scorer: TokenScorer, state: ScorerState, tokens: Tensor, where: Tensor
) -> tuple[Tensor, ScorerState]:
    """Return the scores as ``scored_where`` does, and the state after the tokens that count."""
    if where.is_cuda:
        return scorer.step_where(state, tokens, where)
    scores, at = torch.zeros(tokens.shape, device=tokens.device), where.nonzero(as_tuple=True)
    if not at[0].numel():
        return scores, state
    scores[at], news = scorer.step(tuple(part[at] for part in state), tokens[at])
    pairs = [
        pad_last_dim(pair) if pair[1].dim() > 1 else pair for pair in zip(state, news, strict=True)
    ]
    parts = [part.clone() for part, _ in pairs]
    for part, (_, new) in zip(parts, pairs, strict=True):
        part[at] = new
    return scores, tuple(parts)


def step_all(
    scorer: TokenScorer, state: ScorerState, tokens: Tensor, where: Tensor
) -> tuple[Tensor, ScorerState]:
    """Do as ``step_where`` for all hypotheses, and leave out what does not count."""
    scores, news = scorer.step(_flat(state), tokens.flatten())
    masks = [where.view(*where.shape, *[1] * (part.dim() - 2)) for part in state]
    after = [
        torch.where(mask, new.view_as(old), old)
        for mask, new, old in zip(masks, news, state, strict=True)
    ]
    return torch.where(where, scores.view_as(tokens), 0.0), tuple(after)


def _flat(state: ScorerState) -> ScorerState:
    return tuple(part.flatten(0, 1) for part in state)


def scored(scorer: TokenScorer, state: ScorerState, scores: Tensor) -> Tensor:
    """Add to the scores (N, B) of hypotheses what the scorer gives to their end."""
    return scores + scorer.finish(_flat(state)).view_as(scores) if scores.numel() else scores


def sum_scorers(scorers: Sequence[TokenScorer]) -> TokenScorer | None:
    """Return one scorer for several; ``None`` for none."""
    return scorers[0] if len(scorers) == 1 else Sum(tuple(scorers)) if scorers else None
