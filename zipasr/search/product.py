"""A lattice walked together with something that reads its labels and gives them scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from zipasr.search.lattice import Lattice, gathered
from zipasr.search.word_graph import NONE, WordGraph, spread

Labels = Sequence[int]


class Reader(Protocol):
    """Reads labels one after the other; where it stands is a number."""

    def starts(self, num: int, device: torch.device) -> Tensor:
        """Where it stands before the first label of each of ``num`` utterances."""

    def step(self, states: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (M,) float64 of the labels (M,), -inf where it does not go on, and (M,) states."""

    def finish(self, states: Tensor) -> Tensor:
        """Scores (M,) float64 of the end, -inf where there may be none."""


class Pairs(NamedTuple):
    """States of a lattice, each with a state of a reader.

    Attributes:
        lattice: of the pairs; its ``grammar`` and ``ends`` are the scores of the reader.
        states: (S,) state of the old lattice in each pair.
        reading: (S,) state of the reader in each pair.
        arcs: (A,) arc of the old lattice that each arc is.
    """

    lattice: Lattice
    states: Tensor
    reading: Tensor
    arcs: Tensor


def product(lattice: Lattice, reader: Reader) -> Pairs:
    """Pair each state of a lattice with all states of a reader that stands there."""
    states = torch.arange(lattice.num_utterances, device=lattice.owners.device)
    reading = reader.starts(lattice.num_utterances, states.device)
    all_states, all_reading = [states], [reading]
    columns: list[tuple[Tensor, ...]] = []
    arc_splits, first = [0], 0
    for frame in range(lattice.num_frames):
        arcs = lattice.arcs_of(frame)
        sources, order = lattice.sources[arcs].sort(stable=True)
        pairs, place = spread(
            torch.searchsorted(sources, states), torch.searchsorted(sources, states, right=True)
        )
        taken = order[place] + arcs.start
        scores, after = _read(reader, reading[pairs], lattice.labels[taken])
        goes_on = scores > -math.inf
        pairs, taken, scores, after = (one[goes_on] for one in (pairs, taken, scores, after))
        states, reading, targets = _merged(lattice.targets[taken], after)
        columns.append((pairs + first, targets + first + len(all_states[-1]), taken, scores))
        first += len(all_states[-1])
        all_states.append(states)
        all_reading.append(reading)
        arc_splits.append(arc_splits[-1] + len(taken))
    return _joined(lattice, reader, all_states, all_reading, columns, arc_splits)


def _read(reader: Reader, states: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Let the reader step where there is a label."""
    scores = torch.zeros(len(labels), dtype=torch.float64, device=labels.device)
    after, says = states.clone(), labels != NONE
    scores[says], after[says] = reader.step(states[says], labels[says])
    return scores, after


def _merged(states: Tensor, reading: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Number the different pairs: states and reading of each, and (A,) the number of each given."""
    if not states.numel():
        return states, reading, states
    width = int(reading.max()) + 1
    keys, numbers = torch.unique(states * width + reading, return_inverse=True)
    return keys // width, keys % width, numbers


def _joined(
    lattice: Lattice,
    reader: Reader,
    states: list[Tensor],
    reading: list[Tensor],
    columns: list[tuple[Tensor, ...]],
    arc_splits: list[int],
) -> Pairs:
    pairs, read = torch.cat(states), torch.cat(reading)
    none = torch.zeros(0, dtype=torch.int64, device=pairs.device)
    parts = zip(*columns, strict=True) if columns else [[none], [none], [none], [none.double()]]
    sources, targets, taken, scores = (torch.cat(list(part)) for part in parts)
    is_end = lattice.ends[pairs] > -math.inf
    splits = torch.tensor([0, *(len(one) for one in states)]).cumsum(0).tolist()
    both = Lattice(
        sources,
        targets,
        lattice.tokens[taken],
        None if lattice.words is None else lattice.words[taken],
        lattice.sound[taken],
        scores,
        lattice.owners[pairs],
        reader.finish(read).masked_fill(~is_end, -math.inf),
        arc_splits,
        splits,
    )
    return Pairs(both, pairs, read, taken)


@dataclass(frozen=True)
class WordReader:
    """Reads words as a grammar does.

    Attributes:
        graph: of the words and the grammar; its scale counts.
    """

    graph: WordGraph

    def starts(self, num: int, device: torch.device) -> Tensor:
        """Context of the first word."""
        return torch.full((num,), self.graph.start, dtype=torch.int64, device=device)

    def step(self, states: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of words, and the contexts after them."""
        return self.graph.step(states, labels)

    def finish(self, states: Tensor) -> Tensor:
        """Scores of the end of the sentence."""
        return self.graph.ends(torch.zeros_like(states), states)


class ListReader:
    """Reads nothing but sequences of a list, each utterance of its own; scores are 0.

    Args:
        lists: sequences of labels, of each utterance.
    """

    def __init__(self, lists: Sequence[Sequence[Labels]]) -> None:
        self._steps: list[dict[int, int]] = [{} for _ in lists]
        self.leaves = [[self._add(row, one) for one in those] for row, those in enumerate(lists)]
        rows = sorted(
            (node, label, after)
            for node, steps in enumerate(self._steps)
            for label, after in steps.items()
        )
        self._width = 1 + max((label for _, label, _ in rows), default=0)
        self._keys = torch.tensor([node * self._width + label for node, label, _ in rows])
        self._after = torch.tensor([after for _, _, after in rows])

    @property
    def num_nodes(self) -> int:
        """How many different beginnings the sequences have."""
        return len(self._steps)

    def starts(self, num: int, device: torch.device) -> Tensor:
        """The beginning of each utterance's list."""
        self._keys, self._after = self._keys.to(device), self._after.to(device)
        return torch.arange(num, device=device)

    def step(self, states: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """0 where a sequence goes on so, else -inf."""
        keys = states * self._width + labels
        nothing = torch.zeros(len(keys), dtype=torch.float64, device=keys.device)
        if not self._keys.numel():
            return nothing - math.inf, states
        place = torch.searchsorted(self._keys, keys).clamp(max=len(self._keys) - 1)
        fits = (self._keys[place] == keys) & (labels < self._width)
        return nothing.masked_fill(~fits, -math.inf), self._after[place]

    def finish(self, states: Tensor) -> Tensor:
        """0: what ends where no sequence does is looked at by nobody."""
        return torch.zeros(len(states), dtype=torch.float64, device=states.device)

    def _add(self, row: int, labels: Labels) -> int:
        node = row
        for label in labels:
            steps = self._steps[node]
            if label not in steps:
                steps[label] = len(self._steps)
                self._steps.append({})
            node = steps[label]
        return node


def totals(
    lattice: Lattice, lists: Sequence[Sequence[Labels]], scores: Tensor, ends: Tensor
) -> list[list[float]]:
    """Add up all paths of each label sequence.

    Args:
        lattice: the paths.
        lists: label sequences of each utterance.
        scores: (A,) of the arcs.
        ends: (S,) of ending in each state.

    Returns:
        Logarithms of the sums; -inf for a sequence that no path of the lattice has.
    """
    reader = ListReader(lists)
    both = product(lattice, reader)
    before = both.lattice.arrivals(scores[both.arcs], summed=True)
    at_ends = before + ends[both.states]
    by_node = gathered(at_ends, both.reading, reader.num_nodes, summed=True).tolist()
    return [[by_node[leaf] for leaf in leaves] for leaves in reader.leaves]
