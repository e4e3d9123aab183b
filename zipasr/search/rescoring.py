"""Rescoring of n-best lists and lattices with language models and attention decoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from zipasr.lm.ngram_table import NgramStates
from zipasr.search.language_models import LanguageModel
from zipasr.search.lattice import (
    Lattice,
    NbestPath,
    best_paths,
    best_paths_by,
    distinct,
    random_paths,
)
from zipasr.search.lattice_intersect import Labels, acoustic_totals, product, totals
from zipasr.search.lexicon_graph import NONE, WordGraph
from zipasr.search.protocol import (
    UNWEIGHTED,
    ScaleSetting,
    ScoredNbest,
    Search,
    Utterance,
)
from zipasr.search.transducer_step import check_lens

_EMPTY = torch.zeros(0, 0, dtype=torch.int64)

NbestSearch: TypeAlias = Callable[[Tensor, Tensor], list[list[Utterance]]]
"""Encoder frames (N, T', C) and lengths (N,) to the hypotheses of each utterance, best first."""


class AttentionDecoderLike(Protocol):
    """The attention decoder as rescoring sees it."""

    def nll(
        self, memory: Tensor, memory_lens: Tensor, token_ids: Sequence[Sequence[int]]
    ) -> Tensor:
        """Negative log-likelihoods (N, S + 1) of the tokens and the end."""


Rescorer: TypeAlias = Callable[[Tensor, Tensor, list[list[Utterance]]], list[list[float]]]
"""Frames, lengths and the hypotheses of each utterance to a log-probability for each."""


@dataclass(frozen=True, slots=True)
class CollectedFrames:
    """Frames of N streams, kept until all are there: (N, T', C) and lengths (N,)."""

    frames: Tensor
    lens: Tensor


@dataclass(frozen=True)
class WholeUtteranceSearch(Search[CollectedFrames]):
    """A search that needs whole utterances, and what scores its hypotheses again.

    Attributes:
        nbest: the search; its log-probability has the first weight of a setting.
        rescorers: models that score the hypotheses, one weight each.
        settings: weights to compare hypotheses with, at least one.
        default: the setting of ``results``.
    """

    nbest: NbestSearch
    rescorers: tuple[Rescorer, ...] = ()
    settings: tuple[ScaleSetting, ...] = (UNWEIGHTED,)
    default: ScaleSetting = UNWEIGHTED

    def start(self, num: int, device: torch.device) -> CollectedFrames:
        """State of ``num`` streams without frames."""
        nothing = torch.zeros(num, 0, 0, device=device)
        return CollectedFrames(nothing, torch.zeros(num, dtype=torch.int64))

    def advance(self, state: CollectedFrames, frames: Tensor, lens: Tensor) -> CollectedFrames:
        """Keep the next frames (N, T', C) of each stream, ``lens`` (N,) of them valid.

        Raises:
            ValueError: a length is negative or longer than the frames given.
        """
        check_lens(lens, frames.size(1))
        if not state.frames.size(1):
            return CollectedFrames(frames, lens)
        rows = [
            torch.cat((before[:old], more[:new]))
            for before, old, more, new in zip(
                state.frames, state.lens.tolist(), frames, lens.tolist(), strict=True
            )
        ]
        return CollectedFrames(pad_sequence(rows, batch_first=True), state.lens + lens)

    def results(self, state: CollectedFrames) -> list[Utterance]:
        """Best hypothesis of each utterance under the default setting."""
        return [one.best(self.default.weights) for one in self.scored(state)]

    def hypotheses(self, state: CollectedFrames) -> list[list[Utterance]]:
        """Hypotheses of each utterance, best first under the default setting."""
        return [one.ranked(self.default.weights) for one in self.scored(state)]

    @torch.no_grad()
    def scored(self, state: CollectedFrames) -> list[ScoredNbest]:
        """Hypotheses of each utterance, with the scores of the search and of each rescorer."""
        nbest = self.nbest(state.frames, state.lens)
        first = [[one.log_prob for one in hypotheses] for hypotheses in nbest]
        given = (score(state.frames, state.lens, nbest) for score in self.rescorers)
        scores = [first, *given]
        return [
            ScoredNbest(hypotheses, torch.tensor([by_model[row] for by_model in scores]).double())
            for row, hypotheses in enumerate(nbest)
        ]


def language_model_scorer(model: LanguageModel) -> Rescorer:
    """Score hypotheses by a language model, ends included."""

    def score(_: Tensor, __: Tensor, nbest: list[list[Utterance]]) -> list[list[float]]:
        flat = [one.tokens for hypotheses in nbest for one in hypotheses]
        values = iter(model.log_probs(flat) if flat else [])
        return [[next(values) for _ in hypotheses] for hypotheses in nbest]

    return score


def ngram_scorer(graph: WordGraph) -> Rescorer:
    """Score hypotheses by the best path of each through the grammar of words, ends included."""
    numbers, grammar = {word: n for n, word in enumerate(graph.words)}, graph.grammar
    assert grammar is not None, "a method that rescores has the grammar for it"

    def score(_: Tensor, __: Tensor, nbest: list[list[Utterance]]) -> list[list[float]]:
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

    return score


def attention_scorer(decoder: AttentionDecoderLike) -> Rescorer:
    """Score hypotheses by an attention decoder, ends included."""

    def score(frames: Tensor, lens: Tensor, nbest: list[list[Utterance]]) -> list[list[float]]:
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

    return score


def lm_settings() -> tuple[ScaleSetting, ...]:
    """Weights of the first search and a language model, as published: 0.10 to 0.49."""
    return tuple(
        ScaleSetting(f"_nnlm_scale_{percent / 100:.2f}", (1.0, percent / 100))
        for percent in range(10, 50)
    )


def lodr_settings() -> tuple[ScaleSetting, ...]:
    """Weights of the first search, a language model and a low-order one, as published.

    The low-order model stands for what the acoustic model has learnt of language, so that it
    counts negatively.
    """
    return tuple(
        ScaleSetting(
            f"_nnlm_scale_{lm / 100:.2f}_lodr_scale_{lodr / 100:.2f}",
            (1.0, lm / 100, -lm / 100 * lodr / 100),
        )
        for lm in range(4, 60, 2)
        for lodr in range(5, 100, 5)
    )


ATTENTION_SCALES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 7.0, 9.0)


def attention_settings() -> tuple[ScaleSetting, ...]:
    """Weights of CTC and the attention decoder."""
    return tuple(ScaleSetting(f"_attention_scale_{a}", (1.0, a)) for a in ATTENTION_SCALES)


# Of a grammar, against the CTC head.
GRAMMAR_SCALES = tuple(tenths / 10 for tenths in range(1, 21))
_NGRAM_SCALES = (0.1, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0)


def ngram_settings() -> tuple[ScaleSetting, ...]:
    """Weights of CTC and a grammar: 0.1 to 2.0."""
    return tuple(ScaleSetting(f"_lm_scale_{scale}", (1.0, scale)) for scale in GRAMMAR_SCALES)


def attention_ngram_settings() -> tuple[ScaleSetting, ...]:
    """Weights of CTC, a grammar and the attention decoder."""
    return tuple(
        ScaleSetting(f"_ngram_lm_scale_{n}_attention_scale_{a}", (1.0, n, a))
        for n in _NGRAM_SCALES
        for a in ATTENTION_SCALES
    )


LatticeSearch: TypeAlias = Callable[[Tensor, Tensor], Lattice]
"""Encoder frames (N, T', C) and their lengths (N,) to the lattice of N utterances."""

Words: TypeAlias = Sequence[str] | None
"""The words that a lattice numbers, or ``None`` for a lattice of tokens."""


AddUp: TypeAlias = Callable[[Lattice, Sequence[Sequence[Labels]]], list[list[float]]]
"""A lattice and label sequences of each utterance to what the paths of each add up to."""


@dataclass(frozen=True)
class BestPath:
    """The best path of a lattice.

    Attributes:
        lattice: the first search.
        words: of the lattice.
    """

    lattice: LatticeSearch
    words: Words = None

    @torch.no_grad()
    def __call__(self, frames: Tensor, lens: Tensor) -> list[Utterance]:
        """Return the best path of each utterance; its log-probability is that of the path."""
        lattice = self.lattice(frames, lens)
        found = distinct(lattice, best_paths(lattice)[:, None])
        onward = lattice.departures(lattice.scores, lattice.ends, summed=False).tolist()
        return [utterance_of(one, onward[row], self.words) for row, (one,) in enumerate(found)]


@dataclass(frozen=True)
class Nbest:
    """Different results of paths that are drawn from a lattice, by what all their paths add up to.

    The best path is among those drawn, so that the results hold that of the best path, too.

    Attributes:
        lattice: the first search.
        num_paths: how many paths are drawn; their results are fewer.
        scale: of the scores when drawing: the smaller, the more the paths differ.
        words: of the lattice.
    """

    lattice: LatticeSearch
    num_paths: int
    scale: float
    words: Words = None

    def __call__(self, frames: Tensor, lens: Tensor) -> list[Utterance]:
        """Return the result of each utterance whose paths have the largest sum."""
        return [results[0] for results in self.search(frames, lens)]

    @torch.no_grad()
    def search(self, frames: Tensor, lens: Tensor) -> list[list[Utterance]]:
        """Return the results of each utterance, best first.

        The log-probability of each is the sum of all paths of the lattice with these words, or
        tokens: model and grammar together.
        """
        return self._results(self.lattice(frames, lens), totals)

    @torch.no_grad()
    def by_sound(self, frames: Tensor, lens: Tensor) -> list[list[Utterance]]:
        """Return the same results by what the model alone gives to them."""
        return self._results(self.lattice(frames, lens), acoustic_totals)

    def _results(self, lattice: Lattice, add_up: AddUp) -> list[list[Utterance]]:
        found = distinct(lattice, random_paths(lattice, self.num_paths, self.scale))
        values = add_up(lattice, [[one.labels for one in those] for those in found])
        results = [
            [utterance_of(one, value, self.words) for one, value in zip(*both, strict=True)]
            for both in zip(found, values, strict=True)
        ]
        return [sorted(those, key=lambda one: -one.log_prob) for those in results]


@dataclass(frozen=True)
class WholeLattice:
    """All paths of a lattice, judged by the model and by another grammar, under several weights.

    Attributes:
        lattice: the first search.
        graph: its words, and the grammar that counts instead of that of the lattice.
        scales: weights of that grammar.
    """

    lattice: LatticeSearch
    graph: WordGraph
    scales: Sequence[float]

    @torch.no_grad()
    def by_sound(self, frames: Tensor, lens: Tensor) -> list[list[Utterance]]:
        """Return the words of the best path of the lattice under each weight, without repeats.

        The log-probability is that of the best path with these words by the model alone. So
        judging these again, by the sum of it and the weighted grammar, gives the best path of the
        whole lattice under each of the weights.
        """
        lattice = product(self.lattice(frames, lens), self.graph).lattice
        scales = torch.tensor(self.scales, dtype=torch.float64)
        scores = lattice.sound[:, None] + scales * lattice.grammar[:, None]
        paths = best_paths_by(lattice, scores, scales * lattice.ends[:, None])
        found: list[dict[tuple[int, ...], Utterance]] = [{} for _ in lens]
        for column in paths.unbind(dim=1):
            sound = lattice.sound[column.clamp(min=0)].masked_fill(column < 0, 0.0).sum(dim=1)
            for row, (one,) in enumerate(distinct(lattice, column[:, None])):
                heard = utterance_of(one, float(sound[row]), self.graph.words)
                found[row].setdefault(one.labels, heard)
        return [list(those.values()) for those in found]


def utterance_of(heard: NbestPath, log_prob: float, words: Words) -> Utterance:
    """Say what was heard, with the words of a lattice that has some."""
    said = None if words is None else tuple(words[number] for number in heard.labels)
    return Utterance(heard.tokens, heard.frames, log_prob, said)
