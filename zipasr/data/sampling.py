"""Which cuts a rank is given, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from zipasr.data.plan import Budget, Layout, Lengths, Plan, make_plan


@dataclass(frozen=True, slots=True)
class SampledBatch:
    """The cuts of one batch and its place in the epoch.

    Attributes:
        index: position in the epoch, the same number on every rank.
        members: numbers of the cuts.
        step_seconds: length of the batches of this position over all ranks, padding included.
        corpus: that the cuts are from, where several are trained on; else empty.
    """

    index: int
    members: tuple[int, ...]
    step_seconds: float = 0.0
    corpus: str = ""


class PlannedBatches:
    """The batches of one rank, from any of them on.

    Args:
        plan: of the epoch, or of what is left of it.
        lengths: of all cuts.
        rank: of this process.
        first: position in the epoch of the first step of ``plan``.
        start: position in the epoch to start from.
    """

    def __init__(
        self, plan: Plan, lengths: Lengths, rank: int, *, first: int = 0, start: int = 0
    ) -> None:
        self._plan, self._lengths, self._rank = plan, lengths, rank
        self._first, self._start = first, start

    def __iter__(self) -> Iterator[SampledBatch]:
        """Yield the batches from ``start`` on."""
        for step in range(self._start - self._first, len(self._plan)):
            members = tuple(self._plan.batch(step, self._rank).tolist())
            yield SampledBatch(
                step + self._first,
                members,
                self._plan.step_seconds(step, self._lengths.seconds),
                self._lengths.corpus_of(members[0]) if members else "",
            )


def eval_batches(
    seconds: Sequence[float], max_duration: float, *, rank: int = 0, world_size: int = 1
) -> list[SampledBatch]:
    """Share out all cuts over the ranks, longest first, each cut once.

    A loss or an error rate would count a cut twice that is repeated to give all ranks equally
    many batches. Here the numbers of batches may differ by one.

    Args:
        seconds: (N,) durations of the cuts of the validation or test set.
        max_duration: seconds of a batch, padding included.
        rank: of this process.
        world_size: number of processes.
    """
    longest_first = np.argsort(-np.asarray(seconds, np.float64), kind="stable")
    lengths = Lengths(np.asarray(seconds, np.float64)[longest_first], np.zeros(len(seconds), int))
    layout = Layout(budget=Budget(max_duration=max_duration), num_buckets=1)
    plan = make_plan(lengths, layout, seed=0, epoch=0)
    batches = [
        SampledBatch(step, tuple(longest_first[plan.batch(step, 0)].tolist()))
        for step in range(len(plan))
    ]
    return batches[rank::world_size]
