"""Which cuts go together in a batch, and in which order."""

from __future__ import annotations

import logging
import warnings
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.dataset import DynamicBucketingSampler, SimpleCutSampler
from lhotse.dataset.sampling.base import CutSampler, TimeConstraint
from lhotse.dataset.sampling.dynamic_bucketing import estimate_duration_buckets

from zipasr.base.seed import derive_seed

_CUTS_FOR_ESTIMATE = 10_000
_CUTS_HELD_PER_BUCKET = 5_000
# The last batch of a bucket is incomplete: dropping it loses half a batch on average, here about
# a twelfth of an epoch at most, another one in each epoch. Fewer buckets mean more padding.
_BATCHES_PER_BUCKET = 6


@dataclass(frozen=True, slots=True)
class SampledBatch:
    """Cuts of one batch and its position in the epoch, on one rank."""

    index: int
    cuts: CutSet


class Order(NamedTuple):
    """What the order of the batches depends on, and nothing else does.

    Attributes:
        max_duration: seconds of a batch, padding included: number of cuts x longest cut.
        seed: of the run.
        epoch: counted from 1.
        rank: of this process; ranks get different batches of about the same length.
        world_size: number of processes.
        drop_last: leave out the batches that are not full.
        shuffle: another order in each epoch.
    """

    max_duration: float
    seed: int = 0
    epoch: int = 1
    rank: int = 0
    world_size: int = 1
    drop_last: bool = False
    shuffle: bool = False


class WithinBucket(TimeConstraint):  # type: ignore[misc]  # lhotse has no types
    """Close a batch before any cut that its bucket may still bring could make it too long.

    lhotse closes a batch when one more cut *like the longest so far* would exceed the limit, so a
    longer one does exceed it. Here the upper edge of the bucket stands for the longest.

    Args:
        max_duration: seconds of a batch, padding included.
        edges: upper edges of the buckets in seconds, ascending.
    """

    def __init__(self, max_duration: float, edges: Sequence[float]) -> None:
        super().__init__(max_duration=max_duration)
        self.edges = list(edges)

    def close_to_exceeding(self) -> bool:
        """Say whether one more cut of this bucket could exceed the limit."""
        bucket = bisect_left(self.edges, self.longest_seen)
        longest = self.edges[bucket] if bucket < len(self.edges) else self.longest_seen
        return bool((self.num_cuts + 1) * longest > self.max_duration)


class IndexedSampler:
    """Number the batches of an epoch and leave out those that were trained on before.

    Args:
        batches: the batches of this rank, from the start of the epoch.
        skip: so many are passed over; their data are not read.
    """

    def __init__(self, batches: Iterable[CutSet], skip: int = 0) -> None:
        self._batches = batches
        self._skip = skip

    def __iter__(self) -> Iterator[SampledBatch]:
        """Yield the batches from number ``skip`` on."""
        numbered = (SampledBatch(i, cuts) for i, cuts in enumerate(self._batches))
        return islice(numbered, self._skip, None)


def bucketed_batches(cuts: Iterable[Cut], order: Order, num_buckets: int) -> Iterable[CutSet]:
    """Group cuts of similar length (lhotse's dynamic bucketing).

    Args:
        cuts: in an order that is the same whenever they are read.
        order: limits, seed and rank.
        num_buckets: lowered with a notice when the corpus is small.

    Returns:
        An iterable of batches; it can be iterated again and gives the same batches. Fewer than
        two cuts cannot be bucketed and come as they are.
    """
    sample = list(islice(cuts, _CUTS_FOR_ESTIMATE))
    if len(sample) < 2:
        return simple_batches(sample, order)
    if len(sample) < _CUTS_FOR_ESTIMATE:
        num_buckets = fitting_buckets(sample, order, num_buckets)
    edges = estimate_duration_buckets(sample, num_buckets)
    longest = max(cut.duration for cut in sample)
    sampler = DynamicBucketingSampler(
        _Reiterable(cuts),
        constraint=WithinBucket(order.max_duration, [*edges, longest]),
        duration_bins=edges,
        buffer_size=_CUTS_HELD_PER_BUCKET * num_buckets,
        shuffle=order.shuffle,
        drop_last=order.drop_last,
        **_lhotse_position(order),
    )
    return _Epoch(sampler)


def simple_batches(cuts: Iterable[Cut], order: Order) -> Iterable[CutSet]:
    """Take the cuts as they come, or shuffled, whatever their length.

    Args:
        cuts: read into memory when they shall be shuffled.
        order: limits, seed and rank.
    """
    sampler = SimpleCutSampler(
        CutSet.from_cuts(cuts),
        max_duration=order.max_duration,
        shuffle=order.shuffle,
        drop_last=order.drop_last,
        **_lhotse_position(order),
    )
    return _Epoch(sampler)


def eval_batches(
    cuts: Iterable[Cut], max_duration: float, *, rank: int = 0, world_size: int = 1
) -> list[CutSet]:
    """Share out all cuts over the ranks, each cut once, in batches of similar length.

    lhotse repeats cuts so that all ranks get equally many batches; a loss or an error rate
    would count them twice. Here the numbers of batches may differ by one.

    Args:
        cuts: of the validation or test set.
        max_duration: seconds of a batch, padding included.
        rank: of this process.
        world_size: number of processes.
    """
    by_length = sorted(cuts, key=lambda cut: (-cut.duration, cut.id))
    batches = list(simple_batches(by_length, Order(max_duration)))
    return batches[rank::world_size]


def fitting_buckets(cuts: Sequence[Cut], order: Order, num_buckets: int) -> int:
    """Return the number of buckets that a corpus of ``cuts`` can fill, at most ``num_buckets``."""
    seconds = sum(cut.duration for cut in cuts)
    batches = seconds / (order.max_duration * order.world_size)
    fitting = max(2, min(num_buckets, len(cuts), int(batches / _BATCHES_PER_BUCKET)))
    # Said once in a run, not in every epoch.
    if fitting < num_buckets and order.rank == 0 and order.epoch <= 1:
        logging.info(
            "--num-buckets %d is more than %.0f s of speech in batches of %g s can fill: using %d",
            num_buckets,
            seconds,
            order.max_duration,
            fitting,
        )
    return fitting


class _Reiterable:
    """Cuts without lhotse's interface.

    lhotse warns when a bucketing sampler is given cuts that are in memory; that is what a small
    corpus wants.
    """

    def __init__(self, cuts: Iterable[Cut]) -> None:
        self._cuts = cuts

    def __iter__(self) -> Iterator[Cut]:
        return iter(self._cuts)


class _Epoch:
    """One epoch of a lhotse sampler, without its warnings on cuts that fill a batch alone."""

    def __init__(self, sampler: CutSampler) -> None:
        self._sampler = sampler

    def __iter__(self) -> Iterator[CutSet]:
        batches = iter(self._sampler)
        while True:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*max_duration.*")
                cuts = next(batches, None)
            if cuts is None:
                return
            yield cuts


def _lhotse_position(order: Order) -> dict[str, int]:
    # lhotse adds the epoch to the seed, which makes epoch 2 of seed 1 equal epoch 1 of seed 2.
    seed = derive_seed(order.seed, order.epoch)
    return {"seed": seed, "rank": order.rank, "world_size": order.world_size}
