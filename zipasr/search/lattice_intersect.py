"""A lattice walked together with something that reads its labels and gives them scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from zipasr.search.beam_state import fingerprints_of
from zipasr.search.lattice import Lattice, segment_reduce
from zipasr.search.lexicon_graph import NONE, spread

Labels = Sequence[int]


class LabelScorer(Protocol):
    """Scores labels one after the other; its state is a number. ``WordGraph`` scores words so."""

    def starts(self, num: int, device: torch.device) -> Tensor:
        """Where it stands before the first label of each of ``num`` utterances."""

    def step(self, states: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Read the labels (M,) in the states (M,), each in no, one or several ways.

        Returns:
            For each way the place (A,) in what was asked, its score (A,) float64, and the state
            (A,) after the label.
        """

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


def product(lattice: Lattice, reader: LabelScorer) -> Pairs:
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
        rows, scores, after = _read(reader, reading[pairs], lattice.labels[taken])
        pairs, taken = pairs[rows], taken[rows]
        states, reading, targets = _merged(lattice.targets[taken], after)
        columns.append((pairs + first, targets + first + len(all_states[-1]), taken, scores))
        first += len(all_states[-1])
        all_states.append(states)
        all_reading.append(reading)
        arc_splits.append(arc_splits[-1] + len(taken))
    return _joined(lattice, reader, all_states, all_reading, columns, arc_splits)


def _read(reader: LabelScorer, states: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Let the reader step where there is a label; see ``LabelScorer.step``."""
    silent, says = (labels == NONE).nonzero().squeeze(1), (labels != NONE).nonzero().squeeze(1)
    rows, scores, after = reader.step(states[says], labels[says])
    nothing = torch.zeros_like(silent, dtype=torch.float64)
    return (
        torch.cat((silent, says[rows])),
        torch.cat((nothing, scores)),
        torch.cat((states[silent], after)),
    )


def _merged(states: Tensor, reading: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Number the different pairs: states and reading of each, and (A,) the number of each given."""
    if not states.numel():
        return states, reading, states
    width = int(reading.max()) + 1
    keys, numbers = torch.unique(states * width + reading, return_inverse=True)
    return keys // width, keys % width, numbers


def _joined(
    lattice: Lattice,
    reader: LabelScorer,
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
        lattice.alike[pairs],
        arc_splits,
        splits,
    )
    return Pairs(both, pairs, read, taken)


class ListScorer:
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

    def step(self, states: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The labels with which a sequence goes on, with the score 0."""
        keys = states * self._width + labels
        if not self._keys.numel():
            return states[:0], states[:0].double(), states[:0]
        place = torch.searchsorted(self._keys, keys).clamp(max=len(self._keys) - 1)
        fits = (self._keys[place] == keys) & (labels < self._width)
        rows = fits.nonzero().squeeze(1)
        return rows, torch.zeros_like(rows, dtype=torch.float64), self._after[place[rows]]

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


def totals(lattice: Lattice, lists: Sequence[Sequence[Labels]]) -> list[list[float]]:
    """Add up all paths of each label sequence, by the scores of model and grammar.

    Args:
        lattice: the paths.
        lists: label sequences of each utterance.

    Returns:
        Logarithms of the sums; -inf for a sequence that no path of the lattice has.
    """
    reader = ListScorer(lists)
    both = product(lattice, reader)
    before = both.lattice.arrivals(lattice.scores[both.arcs], summed=True)
    return _by_leaf(before + lattice.ends[both.states], both.reading, reader)


def acoustic_totals(lattice: Lattice, lists: Sequence[Sequence[Labels]]) -> list[list[float]]:
    """Add up all alignments of each label sequence, by the scores of the model alone.

    An alignment counts once, however many paths of the grammar it has. For arguments and what is
    returned see ``totals``.
    """
    reader = ListScorer(lists)
    both = product(lattice, reader)
    alignments, reading = _alignments(both)
    before = alignments.arrivals(alignments.sound, summed=True)
    return _by_leaf(before + alignments.ends, reading, reader)


def _by_leaf(at_ends: Tensor, reading: Tensor, reader: ListScorer) -> list[list[float]]:
    by_node = segment_reduce(at_ends, reading, reader.num_nodes, summed=True).tolist()
    return [[by_node[leaf] for leaf in leaves] for leaves in reader.leaves]


def _alignments(both: Pairs) -> tuple[Lattice, Tensor]:
    """Let pairs meet that differ in what the grammar remembers alone; the grammar gives nothing.

    Returns:
        The lattice of the S pairs that are left, and the state (S,) of the reader in each.
    """
    old = both.lattice
    splits = torch.tensor(old.state_splits, device=old.owners.device)
    frames = torch.repeat_interleave(torch.arange(len(splits) - 1, device=splits.device),
                                     splits.diff())  # fmt: skip
    # In the order of frames, and of owners: as a lattice has its states.
    num = old.num_utterances
    states, kept = _unique((frames, old.owners, both.reading, old.alike), frames * num + old.owners)
    state_splits = torch.searchsorted(frames[kept], torch.arange(len(splits), device=splits.device))
    sources, targets = states[old.sources], states[old.targets]
    _, arcs = _unique((sources, targets, old.tokens), sources)
    ends = segment_reduce(old.ends, states, len(kept), summed=False)
    met = replace(
        old,
        sources=sources[arcs],
        targets=targets[arcs],
        tokens=old.tokens[arcs],
        words=None if old.words is None else old.words[arcs],
        sound=old.sound[arcs],
        grammar=torch.zeros_like(old.grammar[arcs]),
        owners=old.owners[kept],
        ends=ends,
        alike=old.alike[kept],
        arc_splits=torch.searchsorted(sources[arcs], state_splits[:-1]).tolist(),
        state_splits=state_splits.tolist(),
    )
    return met, both.reading[kept]


def _unique(parts: tuple[Tensor, ...], ranks: Tensor) -> tuple[Tensor, Tensor]:
    """Number rows so that equal ones share a number, in the order of ``ranks`` (M,).

    Args:
        parts: (M,) each, what the rows are made of.
        ranks: (M,) equal for equal rows.

    Returns:
        The number (M,) of each row, and for each number one of its rows.
    """
    found, numbers = torch.unique(fingerprints_of(*parts), return_inverse=True)
    rows = torch.arange(len(numbers), device=numbers.device)
    example = torch.zeros_like(found).scatter(0, numbers, rows)
    order = ranks[example].argsort(stable=True)
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order), device=order.device)
    return places[numbers], example[order]
