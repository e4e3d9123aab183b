"""Rescoring: hypotheses of a first search are judged again, with one or many weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from zipasr.lm.ngram_table import NgramStates
from zipasr.search.language_models import LanguageModel
from zipasr.search.types import Utterance
from zipasr.search.word_graph import NONE, WordGraph

_EMPTY = torch.zeros(0, 0, dtype=torch.int64)

NbestSearch: TypeAlias = Callable[[Tensor, Tensor], list[list[Utterance]]]
"""Encoder frames (N, T', C) and lengths (N,) to the hypotheses of each utterance, best first."""


class AttentionDecoderLike(Protocol):
    """The attention decoder as rescoring sees it."""

    def nll(
        self, memory: Tensor, memory_lens: Tensor, token_ids: Sequence[Sequence[int]]
    ) -> Tensor:
        """Negative log-likelihoods (N, S + 1) of the tokens and the end."""


class Weighing(NamedTuple):
    """One way to add up: the name of the setting, and the weight of each judge."""

    name: str
    weights: tuple[float, ...]


class Judged(NamedTuple):
    """Hypotheses of one utterance, and what each judge says to each: log-probabilities (J, H)."""

    hypotheses: list[Utterance]
    scores: Tensor

    def best(self, weights: Sequence[float]) -> Utterance:
        """Return the hypothesis with the largest weighted sum."""
        total = torch.tensor(weights, dtype=self.scores.dtype) @ self.scores
        return self.hypotheses[int(total.argmax())]


Judge: TypeAlias = Callable[[Tensor, Tensor, list[list[Utterance]]], list[list[float]]]
"""Frames, lengths and the hypotheses of each utterance to a log-probability for each."""


@dataclass(frozen=True)
class Rescoring:
    """A search whose hypotheses are judged again.

    Args:
        nbest: the first search; its log-probability is the first judge.
        judges: the others.
        weighings: settings, at least one.
        default: the setting that ``__call__`` uses.
    """

    nbest: NbestSearch
    judges: tuple[Judge, ...]
    weighings: tuple[Weighing, ...]
    default: Weighing

    def __call__(self, frames: Tensor, lens: Tensor) -> list[Utterance]:
        """Return the best hypothesis of each utterance under the default setting."""
        return [one.best(self.default.weights) for one in self._judged(frames, lens)]

    def settings(self, frames: Tensor, lens: Tensor) -> dict[str, list[Utterance]]:
        """Return the best hypothesis of each utterance under every setting, by its name."""
        judged = self._judged(frames, lens)
        return {name: [one.best(weights) for one in judged] for name, weights in self.weighings}

    def only(self, name: str) -> Rescoring:
        """Return the same with one setting.

        Raises:
            KeyError: there is no setting of this name.
        """
        chosen = {one.name: one for one in self.weighings}[name]
        return Rescoring(self.nbest, self.judges, (chosen,), chosen)

    @torch.no_grad()
    def _judged(self, frames: Tensor, lens: Tensor) -> list[Judged]:
        nbest = self.nbest(frames, lens)
        first = [[one.log_prob for one in hypotheses] for hypotheses in nbest]
        said = [first, *(judge(frames, lens, nbest) for judge in self.judges)]
        return [
            Judged(hypotheses, torch.tensor([by_judge[row] for by_judge in said]).double())
            for row, hypotheses in enumerate(nbest)
        ]


def language_judge(model: LanguageModel) -> Judge:
    """Judge hypotheses by a language model, ends included."""

    def judge(_: Tensor, __: Tensor, nbest: list[list[Utterance]]) -> list[list[float]]:
        flat = [one.tokens for hypotheses in nbest for one in hypotheses]
        values = iter(model.log_probs(flat) if flat else [])
        return [[next(values) for _ in hypotheses] for hypotheses in nbest]

    return judge


def grammar_judge(graph: WordGraph) -> Judge:
    """Judge hypotheses by the best path of each through the grammar of words, ends included."""
    numbers, grammar = {word: n for n, word in enumerate(graph.words)}, graph.grammar
    assert grammar is not None, "a method with a judge has the grammar that judges"

    def judge(_: Tensor, __: Tensor, nbest: list[list[Utterance]]) -> list[list[float]]:
        flat = [one.words or () for hypotheses in nbest for one in hypotheses]
        rows = [torch.tensor([numbers[word] for word in words]) for words in flat]
        table = pad_sequence(rows, batch_first=True, padding_value=NONE).long() if rows else _EMPTY
        standing = grammar.standing(len(rows))
        for column in table.T:
            says, moved = (column != NONE)[:, None], grammar.moved(standing, column.clamp(min=0))
            contexts = torch.where(says, moved.contexts, standing.contexts)
            standing = NgramStates(contexts, torch.where(says, moved.scores, standing.scores))
        values = iter((graph.scale * grammar.ended(standing)).tolist())
        return [[next(values) for _ in hypotheses] for hypotheses in nbest]

    return judge


def attention_judge(decoder: AttentionDecoderLike) -> Judge:
    """Judge hypotheses by an attention decoder, ends included."""

    def judge(frames: Tensor, lens: Tensor, nbest: list[list[Utterance]]) -> list[list[float]]:
        # One utterance after the other: all hypotheses of it look at the same frames.
        said = []
        for row, hypotheses in enumerate(nbest):
            num = max(int(lens[row]), 1)
            memory = frames[row : row + 1, :num].expand(len(hypotheses), -1, -1)
            tokens = [one.tokens for one in hypotheses]
            nll = decoder.nll(memory, torch.full((len(tokens),), num, device=frames.device), tokens)
            values: list[float] = (-nll.sum(dim=1)).tolist()
            said.append(values)
        return said

    return judge


def lm_weighings() -> tuple[Weighing, ...]:
    """Weights of the first search and a language model, as published: 0.10 to 0.49."""
    return tuple(
        Weighing(f"_nnlm_scale_{percent / 100:.2f}", (1.0, percent / 100))
        for percent in range(10, 50)
    )


def lodr_weighings() -> tuple[Weighing, ...]:
    """Weights of the first search, a language model and a low-order one, as published.

    The low-order model stands for what the acoustic model has learnt of language, so that it
    counts negatively.
    """
    return tuple(
        Weighing(
            f"_nnlm_scale_{lm / 100:.2f}_lodr_scale_{lodr / 100:.2f}",
            (1.0, lm / 100, -lm / 100 * lodr / 100),
        )
        for lm in range(4, 60, 2)
        for lodr in range(5, 100, 5)
    )


ATTENTION_SCALES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 7.0, 9.0)


def attention_weighings() -> tuple[Weighing, ...]:
    """Weights of CTC and the attention decoder."""
    return tuple(Weighing(f"_attention_scale_{a}", (1.0, a)) for a in ATTENTION_SCALES)


# Of a grammar, against the CTC head.
GRAMMAR_SCALES = tuple(tenths / 10 for tenths in range(1, 21))
_NGRAM_SCALES = (0.1, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0)


def grammar_weighings() -> tuple[Weighing, ...]:
    """Weights of CTC and a grammar: 0.1 to 2.0."""
    return tuple(Weighing(f"_lm_scale_{scale}", (1.0, scale)) for scale in GRAMMAR_SCALES)


def attention_ngram_weighings() -> tuple[Weighing, ...]:
    """Weights of CTC, a grammar and the attention decoder."""
    return tuple(
        Weighing(f"_ngram_lm_scale_{n}_attention_scale_{a}", (1.0, n, a))
        for n in _NGRAM_SCALES
        for a in ATTENTION_SCALES
    )
