"""Searches that take more than one path from a lattice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from zipasr.search.lattice import Lattice
from zipasr.search.paths import Heard, best_paths, best_paths_by, distinct, drawn_paths
from zipasr.search.product import Labels, WordReader, product, sound_totals, totals
from zipasr.search.types import Utterance
from zipasr.search.word_graph import WordGraph

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
        return self._results(self.lattice(frames, lens), sound_totals)

    def _results(self, lattice: Lattice, add_up: AddUp) -> list[list[Utterance]]:
        found = distinct(lattice, drawn_paths(lattice, self.num_paths, self.scale))
        values = add_up(lattice, [[one.labels for one in those] for those in found])
        results = [
            [utterance_of(one, value, self.words) for one, value in zip(*both, strict=True)]
            for both in zip(found, values, strict=True)
        ]
        return [sorted(those, key=lambda one: -one.log_prob) for those in results]


@dataclass(frozen=True)
class Oracle:
    """Results among which somebody who knows what was said chooses the nearest.

    Attributes:
        nbest: gives the results.
    """

    nbest: Nbest

    def choices(self, frames: Tensor, lens: Tensor) -> list[list[Utterance]]:
        """Return the results of each utterance."""
        return self.nbest.search(frames, lens)

    def __call__(self, frames: Tensor, lens: Tensor) -> list[Utterance]:
        """Return what is chosen by somebody who does not know."""
        return self.nbest(frames, lens)


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
        lattice = product(
            self.lattice(frames, lens), WordReader(self.graph.to(frames.device))
        ).lattice
        scales = torch.tensor(self.scales, dtype=torch.float64, device=frames.device)
        scores = lattice.sound[:, None] + scales * lattice.grammar[:, None]
        paths = best_paths_by(lattice, scores, scales * lattice.ends[:, None])
        found: list[dict[tuple[int, ...], Utterance]] = [{} for _ in lens]
        for column in paths.unbind(dim=1):
            sound = lattice.sound[column.clamp(min=0)].masked_fill(column < 0, 0.0).sum(dim=1)
            for row, (one,) in enumerate(distinct(lattice, column[:, None])):
                heard = utterance_of(one, float(sound[row]), self.graph.words)
                found[row].setdefault(one.labels, heard)
        return [list(those.values()) for those in found]


def utterance_of(heard: Heard, log_prob: float, words: Words) -> Utterance:
    """Say what was heard, with the words of a lattice that has some."""
    said = None if words is None else tuple(words[number] for number in heard.labels)
    return Utterance(heard.tokens, heard.frames, log_prob, said)
