"""Language models over tokens as searches use them: token by token, and for whole hypotheses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from zipasr.lm.neural import NeuralLm
from zipasr.lm.ngram import NgramLm
from zipasr.lm.ngram_table import NgramStates, ngram_table
from zipasr.lm.rnn import RnnLm
from zipasr.lm.transformer import PrefixCache, TransformerLm
from zipasr.nn.numerics import OnItsWay, to_device
from zipasr.search.batched_state import PADDING, pad_last_dim
from zipasr.search.scorers import ScorerBase, ScorerState, TokenScorer, scored_where


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
        exact_backoff: for the scorer: no path of its graph backs off where there is an n-gram.
    """

    model: NgramLm
    pieces: Sequence[str]
    exact_backoff: bool = False

    def scorer(self, scale: float) -> TokenScorer:
        """Return what adds its log-probabilities, times ``scale``."""
        return NgramScorer(self, scale)

    def log_probs(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        """Return the exact log-probability of each token sequence, its end included."""
        return [self.model.sentence([self.pieces[i] for i in ids]) for ids in sequences]


class _Scorer(ScorerBase):
    """Scores times a scale."""

    def __init__(self, scale: float) -> None:
        self._scale = scale

    def finish(self, state: ScorerState) -> Tensor:
        """Nothing: as in the published searches, ends are not scored."""
        return torch.zeros(state[0].size(0), device=state[0].device)


class NgramScorer(_Scorer):
    """Scores of an n-gram model, by the best path of a hypothesis through its graph.

    The state of a hypothesis: where its paths stand, contexts (order,) and scores (order,) of
    those, of which the best is 0.
    """

    def __init__(self, tokens: NgramTokens, scale: float) -> None:
        super().__init__(scale)
        exact = tokens.exact_backoff
        self._table = ngram_table(tokens.model, tokens.pieces, exact_backoff=exact)

    def start(self, num: int, device: torch.device) -> ScorerState:
        """State of ``num`` hypotheses without tokens."""
        self._table = self._table.to(device)
        return tuple(self._table.standing(num))

    def step(self, state: ScorerState, tokens: Tensor) -> tuple[Tensor, ScorerState]:
        """Return both: scores (M,) of the tokens (M,), and the state after them."""
        contexts, scores = self._table.moved(NgramStates(*state), tokens)
        best = scores.amax(dim=1, keepdim=True)
        return self._scale * best.squeeze(1).float(), (contexts, scores - best)


@dataclass(frozen=True)
class NeuralTokens:
    """A recurrent model or a transformer over tokens."""

    model: NeuralLm

    def scorer(self, scale: float) -> TokenScorer:
        """Return what adds its log-probabilities, times ``scale``."""
        if isinstance(self.model, RnnLm):
            return RnnScorer(self.model, scale)
        return TransformerScorer(self.model, scale)

    @torch.no_grad()
    def log_probs(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        """Return the log-probability of each token sequence, its end included."""
        values: list[float] = (-self.model.nll(sequences).sum(dim=1)).tolist()
        return values


class _NextTokens(_Scorer):
    """Scores out of a state that begins with the log-probabilities (M, V) of what follows."""

    def score(self, state: ScorerState, tokens: Tensor) -> Tensor:
        """Scaled log-probabilities (M,) of the tokens (M,)."""
        return self._scale * state[0].gather(1, tokens[:, None]).squeeze(1)


class RnnScorer(_NextTokens):
    """Scores of a recurrent model.

    The state of a hypothesis: log-probabilities (V,) of what follows, and what the model
    remembers, twice (layers, width).
    """

    def __init__(self, model: RnnLm, scale: float) -> None:
        super().__init__(scale)
        self._model = model

    def start(self, num: int, device: torch.device) -> ScorerState:
        """State of ``num`` hypotheses without tokens."""
        if num == 0:
            return self._model.start(0, device)
        one = self._model.start(1, device)
        return tuple(part.expand(num, *part.shape[1:]).contiguous() for part in one)

    def extend(self, state: ScorerState, tokens: Tensor) -> ScorerState:
        """State after the tokens (M,): one step of the model for all."""
        _, hidden, cell = state
        return self._model.step(tokens, hidden, cell)


class TransformerScorer(_NextTokens):
    """Scores of a transformer.

    The state of a hypothesis: log-probabilities (V,) of what follows, and its tokens. What the
    model made of them is kept outside, once for all hypotheses that begin with them.
    """

    on_host = True

    def __init__(self, model: TransformerLm, scale: float) -> None:
        super().__init__(scale)
        self._prefixes = PrefixCache(model)

    def start(self, num: int, device: torch.device) -> ScorerState:
        """State of ``num`` hypotheses without tokens."""
        first = self._prefixes.log_probs([()]).to(device)
        tokens = torch.zeros(num, 0, dtype=torch.int64, device=device)
        return first.expand(num, -1).contiguous(), tokens

    def extend(self, state: ScorerState, tokens: Tensor) -> ScorerState:
        """State after the tokens (M,): one step of the model for all."""
        sequences = _grown(state[1], tokens)
        answers = self._prefixes.log_probs(sequences)
        return answers, to_device(_padded(sequences), tokens.device)

    def step_where(
        self, state: ScorerState, tokens: Tensor, where: Tensor
    ) -> tuple[Tensor, ScorerState]:
        """Return scores (M, B) and the state after the tokens that count; waits for them once."""
        scores = scored_where(self, state, tokens, where)
        on_way = OnItsWay(where), OnItsWay(tokens), OnItsWay(state[1])
        counts, last, before = (values.arrived() for values in on_way)
        grown = _grown(before[counts], last[counts])
        if not grown:
            return scores, state
        answers = self._prefixes.log_probs(grown)
        place = to_device(counts.flatten().nonzero().squeeze(1), tokens.device)
        after = state[0].flatten(0, 1).index_copy(0, place, answers)
        rows = pad_last_dim([before, _padded(grown)])
        rows[0][counts] = rows[1]
        return scores, (after.view_as(state[0]), to_device(rows[0], tokens.device))


def _grown(before: Tensor, tokens: Tensor) -> list[tuple[int, ...]]:
    """Return the tokens before (M, U), padding left out, and those that follow (M,)."""
    return [
        (*(token for token in ids if token != PADDING), last)
        for ids, last in zip(before.tolist(), tokens.tolist(), strict=True)
    ]


def _padded(sequences: Sequence[Sequence[int]]) -> Tensor:
    """Return token sequences as (M, U), on the host."""
    width = max(map(len, sequences))
    return torch.tensor([[*ids, *[PADDING] * (width - len(ids))] for ids in sequences])
