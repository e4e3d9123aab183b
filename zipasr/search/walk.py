"""The walk of a beam search over the frames of a batch: who is alive, who came from whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

from zipasr.search.hypotheses import History, Partial
from zipasr.search.steps import LongestFirst
from zipasr.search.streams import rows_of, stack

B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Standing(Generic[B]):
    """Where a beam search stands in N streams.

    Attributes:
        beams: the hypotheses of each stream, a state as ``streams`` defines it.
        partials: for each stream and slot, what it has recognised.
        num_frames: for each stream, how many frames it has seen.
    """

    beams: B
    partials: list[list[Partial]]
    num_frames: list[int]

    @classmethod
    def at_start(cls, beams: B, num: int, slots: int) -> Standing[B]:
        """Stand before the first frame of ``num`` streams, with ``slots`` hypotheses each."""
        return cls(beams, [[Partial()] * slots for _ in range(num)], [0] * num)


def walk(
    standing: Standing[B],
    batch: LongestFirst,
    history: History,
    take: Callable[[B, Tensor], tuple[B, Tensor, Tensor]],
) -> Standing[B]:
    """Go on with the frames of a batch; utterances that have ended keep their beams.

    Args:
        standing: before the first frame, in the original order of the batch.
        batch: frames, longest utterances first.
        history: with room for them.
        take: beams of M utterances and the frame (M, ...) of each, to the new beams, (M, B) slots
            that they came from and (M, B) symbols that they took.

    Returns:
        Where the search stands after them, in the original order.
    """
    standing = rows_of(standing, batch.order)
    beams, ended, num = standing.beams, [], len(batch.lens)
    for frame, num_alive in enumerate(batch.num_alive):
        if num_alive < num:
            ended.append(rows_of(beams, range(num_alive, num)))
            beams, num = rows_of(beams, range(num_alive)), num_alive
        beams, parents, symbols = take(beams, batch.frames[:num_alive, frame])
        history.record(frame, parents, symbols)
    partials = history.grown(standing.partials, standing.num_frames)
    seen = [before + more for before, more in zip(standing.num_frames, batch.lens, strict=True)]
    return rows_of(Standing(stack([beams, *reversed(ended)]), partials, seen), batch.places())
