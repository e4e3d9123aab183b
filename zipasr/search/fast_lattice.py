"""The lattice that the fast beam search goes through."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from zipasr.search.fast_beam import FastBeamSearch
from zipasr.search.fast_frame import Arcs
from zipasr.search.lattice import Lattice, LatticeWriter
from zipasr.search.word_graph import NONE


@dataclass(frozen=True)
class FastLattice:
    """Search as ``FastBeamSearch`` does, and keep all that it looked at and did not prune.

    The best path of the lattice is what ``FastBeamSearch`` finds.

    Attributes:
        search: which search.
    """

    search: FastBeamSearch

    @torch.no_grad()
    def __call__(self, frames: Tensor, lens: Tensor) -> Lattice:
        """Return the lattice of N utterances; the frame of an end is not in it."""
        lens, order = lens.to(frames.device).sort(descending=True, stable=True)
        kept: list[tuple[Arcs, Tensor]] = []
        self.search.advance(
            self.search.start(len(lens), frames.device),
            frames[order],
            lens,
            lambda arcs, ends: kept.append((arcs, ends)),
        )
        writer = LatticeWriter(len(lens), frames.device)
        numbers, ends = order[:, None], []
        for frame, (arcs, may_end) in enumerate(kept):
            onward = int((lens > frame + 1).sum())
            ends.append(_ends(numbers, may_end, onward))
            if onward:
                numbers = self._write(writer, numbers, arcs, order[:onward])
        if not kept:
            ends.append(torch.zeros(len(lens), dtype=torch.float64, device=frames.device))
        return writer.written(ends)

    def _write(self, writer: LatticeWriter, numbers: Tensor, arcs: Arcs, owners: Tensor) -> Tensor:
        """Write the arcs of a frame of the utterances that go on.

        Args:
            writer: of the lattice.
            numbers: (M, S) of the states before the frame; ``NONE`` where there is none.
            arcs: of the frame.
            owners: (M',) utterances that go on, in the order of the rows.

        Returns:
            (M', D) numbers of the states after the frame.
        """
        num = len(owners)
        is_there = arcs.is_there[:num]
        after = (is_there.flatten().cumsum(0) - 1).view_as(is_there)
        columns = []
        for scores, has_token in ((arcs.tokens[:num], True), (arcs.blanks[:num], False)):
            row, source, target = (scores > -math.inf).nonzero(as_tuple=True)
            last = arcs.contexts[row, target, -1]
            tokens = last if has_token else torch.full_like(last, NONE)
            columns.append(
                (numbers[row, source], after[row, target], tokens, scores[row, source, target])
            )
        sources, targets, tokens, scores = (
            torch.cat(parts) for parts in zip(*columns, strict=True)
        )
        rows, _ = is_there.nonzero(as_tuple=True)
        writer.frame(sources, targets, (tokens, None), (scores, None), owners[rows])
        return after.masked_fill(~is_there, NONE)


def _ends(numbers: Tensor, may_end: Tensor, onward: int) -> Tensor:
    """Score of an end in each state before a frame: 0 where an utterance may, else -inf.

    Args:
        numbers: (M, S) of the states; ``NONE`` where there is none.
        may_end: (M', S) which may be the last, of the utterances that have this frame.
        onward: how many utterances go on after it.
    """
    is_end = torch.ones_like(numbers, dtype=torch.bool)
    is_end[: len(may_end)] = may_end[:, : numbers.size(1)]
    is_end[:onward] = False
    is_there = numbers != NONE
    ends = torch.zeros(int(is_there.sum()), dtype=torch.float64, device=numbers.device)
    ends[numbers[is_there]] = torch.where(is_end[is_there], 0.0, -math.inf).double()
    return ends
