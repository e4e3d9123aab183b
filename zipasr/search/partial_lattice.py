"""The lattice of a search while it runs: what no path can need any more is dropped early."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import torch
from numpy.typing import NDArray

from zipasr.lm.ngram import Floats, Places
from zipasr.search.beam_state import fingerprints_of
from zipasr.search.lattice import Lattice, LatticeWriter

#: Frames between two looks at what can be dropped.
_FRAMES_BETWEEN = 10
# Rounding must not take an arc away that the last look at the lattice would keep.
_SLACK = 1e-3


@dataclass(slots=True)
class _States:
    """States between two frames.

    Attributes:
        states: (S, 4) utterance, node, context and memory.
        scores: (S,) of the best path to each.
        ends: (S,) see ``Lattice``; None for no ends.
    """

    states: Places
    scores: Floats
    ends: Floats | None = None

    def taken(self, which: NDArray[np.bool_]) -> _States:
        ends = None if self.ends is None else self.ends[which]
        return _States(self.states[which], self.scores[which], ends)

    def costs_of_ends(self) -> Floats:
        """(S,) how much worse it is to end in each state than in the best one; inf for no end."""
        costs: Floats = np.full(len(self.scores), math.inf)
        if self.ends is None:
            return costs
        at = np.flatnonzero(self.ends > -math.inf)
        owners, totals = self.states[at, 0], self.scores[at] + self.ends[at]
        best = np.full(int(owners.max(initial=-1)) + 1, -math.inf)
        np.maximum.at(best, owners, totals)
        costs[at] = best[owners] - totals
        return costs


@dataclass(slots=True)
class _Arcs:
    """Arcs (A, 5) of a frame, and their scores (A, 2), as ``search_frame`` finds them."""

    arcs: Places
    values: Floats


class PartialLattice:
    """Collects arcs and states, and drops arcs of which all paths are too bad.

    An arc goes when each state of the last frame that it leads to has a path that is better than
    that through the arc by more than the beam: whatever comes after is the same for both.

    Args:
        states: (N, 4) that the utterances start from.
        beam: the lattice will have all paths that are at most so much worse than the best of
            their utterance; inf to drop nothing.

    Source: Povey et al., "Generating exact lattices in the WFST framework", 2012, section 2.
    """

    def __init__(self, states: Places, beam: float) -> None:
        self._levels = [_States(states, np.zeros(len(states)))]
        self._frames: list[_Arcs] = []
        self._beam = beam
        self._num_pruned = 0
        self._loop = import_module("zipasr.kernels.numba.word_search").prune_frame

    def end(self, ends: Floats) -> None:
        """Say what it gives (S,) to end in the last states; -inf for no end."""
        self._levels[-1].ends = ends

    def frame(self, arcs: Places, values: Floats, states: Places, scores: Floats) -> None:
        """Add the arcs of a frame, and the states after it, as ``search_frame`` finds them."""
        self._frames.append(_Arcs(arcs, values))
        self._levels.append(_States(states, scores))
        if math.isfinite(self._beam) and len(self._frames) % _FRAMES_BETWEEN == 0:
            self._prune()

    def _prune(self) -> None:
        """Go back from the last states, whose paths are all as good as the best, till all stays."""
        after, limit = self._levels[-1], self._beam + _SLACK
        costs: Floats = np.zeros(len(after.scores))
        places: Places = np.arange(len(after.scores))
        for frame in reversed(range(len(self._frames))):
            before, found = self._levels[frame], self._frames[frame]
            costs_before: Floats = before.costs_of_ends()
            scores = before.scores, after.scores
            num = self._loop(found.arcs, found.values, *scores, costs, places, costs_before, limit)
            is_kept = costs_before <= limit
            if frame == 0:
                is_kept[:] = True  # each utterance has its start
            costs, places = costs_before, np.where(is_kept, is_kept.cumsum() - 1, -1)
            found.arcs[:num, 0] = places[found.arcs[:num, 0]]
            self._frames[frame] = _Arcs(found.arcs[:num].copy(), found.values[:num].copy())
            after = before
            if is_kept.all():
                if frame < self._num_pruned:
                    break
            else:
                self._levels[frame] = before.taken(is_kept)
        self._num_pruned = len(self._frames)

    def written(self) -> Lattice:
        """Return the lattice.

        Raises:
            NumericError: a score is no number, so that no path is the best.
        """
        first, *others = self._levels
        writer = LatticeWriter(len(first.scores), torch.device("cpu"), has_words=True)
        for found, level in zip(self._frames, others, strict=True):
            sources, targets, tokens, words, _ = map(torch.from_numpy, found.arcs.T)
            model, grammar = map(torch.from_numpy, found.values.T)
            owners, nodes, _, memories = map(torch.from_numpy, level.states.T)
            alike = fingerprints_of(nodes, memories)
            writer.frame(sources, targets, (tokens, words), (model, grammar), owners, alike)
        ends = [
            torch.full((len(level.scores),), -math.inf, dtype=torch.float64)
            if level.ends is None
            else torch.from_numpy(level.ends)
            for level in self._levels
        ]
        lattice = writer.written(ends)
        return lattice.within(self._beam) if math.isfinite(self._beam) else lattice
