"""Epoch plan: which cuts go into which batch, step by step.

A plan follows from the lengths of the cuts, a layout, the seed and the epoch, and from nothing
else. It is two small arrays of numbers, so it is made in a fraction of a second for a million cuts,
every rank makes the same one, and going to any step costs nothing. ``shard_plan`` plans cuts that
are read shard by shard.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipasr.base.seed import derive_seed

Seconds = NDArray[np.float64]
Numbers = NDArray[np.int64]

# Few batches in a bucket are always made of the same cuts; few buckets mean much padding.
_BATCHES_PER_BUCKET = 6
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class PlanPart:
    """Cuts of one of several corpora that are trained on together.

    Attributes:
        name: for messages.
        size: number of its cuts.
        weight: share of the batches.
    """

    name: str
    size: int
    weight: float


@dataclass(frozen=True)
class CutLengths:
    """Durations and token counts of the cuts, as a plan needs them.

    Attributes:
        seconds: (N,) duration of each cut.
        tokens: (N,) number of tokens of its transcript; zeros when no budget asks for them.
        parts: the corpora, in the order of their cuts; empty when there is one.
        shards: (N,) number of the shard that holds each cut; None when they are not in shards.
    """

    seconds: Seconds
    tokens: Numbers
    parts: tuple[PlanPart, ...] = ()
    shards: Numbers | None = None

    def __len__(self) -> int:
        """N, the number of cuts."""
        return len(self.seconds)

    def offset(self, number: int) -> int:
        """Return the number of the first cut of a part."""
        return sum(part.size for part in self.parts[:number])

    def part(self, number: int) -> CutLengths:
        """Return the lengths of the cuts of one part."""
        begin = self.offset(number)
        end = begin + self.parts[number].size
        shards = None if self.shards is None else self.shards[begin:end]
        return CutLengths(self.seconds[begin:end], self.tokens[begin:end], shards=shards)

    def corpus_of(self, number: int) -> str:
        """Return the name of the part that a cut belongs to; empty where there are no parts."""
        for part in self.parts:
            if number < part.size:
                return part.name
            number -= part.size
        return ""

    @cached_property
    def by_length(self) -> Numbers:
        """(N,) the numbers of the cuts, shortest first, equal ones as they come."""
        return np.argsort(self.seconds, kind="stable")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCost:
    """Estimated cost of one row of a batch, in any unit, from its padded length.

    T seconds and S tokens cost ``per_second T + per_second_squared T^2 + per_token S +
    per_token_second S T``: activations, attention, and the lattices of the losses.
    """

    per_second: float = 0.0
    per_second_squared: float = 0.0
    per_token: float = 0.0
    per_token_second: float = 0.0

    def __call__(self, seconds: float, tokens: float) -> float:
        """Return the cost of a row that is padded to ``seconds`` and ``tokens``."""
        of_time = (self.per_second + self.per_second_squared * seconds) * seconds
        return of_time + (self.per_token + self.per_token_second * seconds) * tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """How large a batch of one rank may be, padding included.

    Attributes:
        max_duration: seconds: number of cuts x longest cut.
        max_cost: number of cuts x cost of a row as long as the longest and with as many tokens as
            the one that has most.
        cost: of a row; None sets no such limit.
    """

    max_duration: float
    max_cost: float = math.inf
    cost: RowCost | None = None

    def rows(self, seconds: float, tokens: float) -> int:
        """Return how many rows of this padded size fit into a batch; one always does."""
        fitting = self.max_duration / seconds
        if self.cost is not None:
            fitting = min(fitting, self.max_cost / max(self.cost(seconds, tokens), _ROUNDING))
        return max(1, int(fitting + _ROUNDING))


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchingConfig:
    """How an epoch is cut into steps of one batch for each rank.

    Attributes:
        budget: limits of a batch.
        world_size: number of ranks.
        num_buckets: classes of similar length, of which batches are made; fewer for a small corpus.
        drop_last: leave out what does not fill a batch, or a step.
        shuffle: another order in each epoch.
        copies: of each cut in its batch; the budget is for all of them together.
        num_readers: processes of a rank that load its batches in turn: each has shards of its own.
            Another number is no other layout: an epoch ends as it was begun.
    """

    budget: BatchLimits
    world_size: int = 1
    num_buckets: int = 30
    drop_last: bool = False
    shuffle: bool = False
    copies: int = 1
    num_readers: int = field(default=1, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BatchingConfig:
        """Read back what ``to_dict`` gave."""
        budget = dict(values["budget"])
        cost = budget.pop("cost")
        budget["cost"] = None if cost is None else RowCost(**cost)
        return cls(**{**values, "budget": BatchLimits(**budget)})

    def buckets_for(self, seconds: float) -> int:
        """Return the number of buckets that a corpus can fill, at most ``num_buckets``."""
        batches = seconds * self.copies / self.budget.max_duration
        return max(1, min(self.num_buckets, int(batches / _BATCHES_PER_BUCKET)))

    def cuts(self, seconds: float, tokens: float) -> int:
        """Return how many cuts of this padded size fit into a batch; one always does."""
        return max(1, self.budget.rows(seconds, tokens) // self.copies)


@dataclass(frozen=True, slots=True)
class EpochSegment:
    """A part of an epoch that was trained in one layout.

    Attributes:
        layout: of this part.
        steps: so many, from where the part before ended.
    """

    layout: BatchingConfig
    steps: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The batches of an epoch, or of what is left of it.

    Attributes:
        members: (M,) numbers of cuts.
        begins: (steps, world_size) where in ``members`` the batch of each step and rank begins.
        ends: (steps, world_size) where it ends.
    """

    members: Numbers
    begins: Numbers
    ends: Numbers

    def __len__(self) -> int:
        """Number of steps; every rank has one batch in each."""
        return len(self.begins)

    def batch(self, step: int, rank: int) -> Numbers:
        """Return the numbers of the cuts of a batch."""
        return self.members[self.begins[step, rank] : self.ends[step, rank]]

    def step_seconds(self, step: int, seconds: Seconds) -> float:
        """Return the length of a step over all ranks, padding included.

        Args:
            step: counted from 0.
            seconds: (N,) durations of all cuts.
        """
        batches = [self.batch(step, rank) for rank in range(self.begins.shape[1])]
        return float(sum(len(batch) * seconds[batch].max() for batch in batches))

    def trained(self, steps: int) -> Numbers:
        """Return the numbers of the cuts of the first ``steps`` steps, over all ranks."""
        pairs = zip(self.begins[:steps].flat, self.ends[:steps].flat, strict=True)
        parts = [self.members[begin:end] for begin, end in pairs]
        return np.concatenate([np.empty(0, np.int64), *parts])

    def digest(self) -> str:
        """Return a name that no other plan has."""
        hasher = hashlib.blake2b(digest_size=8)
        for array in (self.members, self.begins, self.ends):
            hasher.update(np.ascontiguousarray(array, np.int64).tobytes())
        return hasher.hexdigest()


def make_plan(
    lengths: CutLengths,
    layout: BatchingConfig,
    *,
    seed: int,
    epoch: int,
    legs: Sequence[EpochSegment] = (),
) -> Plan:
    """Plan an epoch, or what earlier parts of it have left.

    Cuts of similar length are shuffled, lined up from the shortest to the longest class, and a
    batch closes where the budget ends it. ``world_size`` neighbours make a step, so its batches
    are of similar length, and the steps are shuffled. No class leaves a batch incomplete: the
    next longer one goes on with it.

    Args:
        lengths: of all cuts.
        layout: of the steps to come.
        seed: of the run.
        epoch: counted from 1.
        legs: what was trained of this epoch in other layouts, in order.
    """
    left: Numbers | None = None
    for number, leg in enumerate(legs):
        draws = Draws(seed, epoch if leg.layout.shuffle else 0, number)
        plan = _plan(lengths, leg.layout, draws, left)
        before = lengths.by_length if left is None else left
        left = before[np.isin(before, plan.trained(leg.steps), invert=True)]
    return _plan(lengths, layout, Draws(seed, epoch if layout.shuffle else 0, len(legs)), left)


class Draws:
    """Random orders and numbers, from a stream that numpy promises never to change."""

    def __init__(self, *keys: int) -> None:
        self._stream = np.random.PCG64(derive_seed(*keys))

    def order(self, size: int) -> Numbers:
        """Return the numbers below ``size`` in a random order."""
        return np.argsort(self._stream.random_raw(size), kind="stable")

    def uniform(self, size: int) -> Seconds:
        """Return numbers from 0 to 1."""
        return self._stream.random_raw(size) / 2.0**64


def _plan(lengths: CutLengths, layout: BatchingConfig, draws: Draws, left: Numbers | None) -> Plan:
    by_length = lengths.by_length if left is None else left
    members = _lined_up(by_length, lengths.seconds, layout, draws)
    bounds = batch_bounds(lengths, members, layout)
    begins, ends = bounds[:-1], bounds[1:]
    if layout.drop_last:
        begins, ends = _full_steps(begins, ends, lengths, members, layout, draws)
    else:
        begins, ends = _padded_steps(begins, ends, layout.world_size)
    begins = begins.reshape(-1, layout.world_size)
    ends = ends.reshape(-1, layout.world_size)
    if layout.shuffle:
        steps = draws.order(len(begins))
    else:
        first = [int(members[begin]) for begin in begins[:, 0]]
        steps = np.argsort(np.asarray(first, np.int64), kind="stable")
    return Plan(members, begins[steps], ends[steps])


def _lined_up(
    by_length: Numbers, seconds: Seconds, layout: BatchingConfig, draws: Draws
) -> Numbers:
    """Return the cuts, bucket after bucket, shuffled or as they come within each."""
    # Summed one by one: a sum in another order could end a bucket elsewhere.
    ends = np.cumsum(seconds[by_length])
    total = float(ends[-1]) if len(ends) else 0.0
    num_buckets = layout.buckets_for(total)
    inner = [total * (i + 1) / num_buckets for i in range(num_buckets - 1)]
    buckets = np.split(by_length, np.searchsorted(ends, inner))
    if layout.shuffle:
        return np.concatenate([bucket[draws.order(len(bucket))] for bucket in buckets])
    return np.concatenate([np.sort(bucket) for bucket in buckets])


def batch_bounds(lengths: CutLengths, members: Numbers, layout: BatchingConfig) -> Numbers:
    """Return where in ``members`` batches begin, and after them the number of members."""
    seconds, tokens = lengths.seconds[members].tolist(), lengths.tokens[members].tolist()
    bounds, size, fitting = [0], 0, 0
    longest, most = 0.0, -1
    for position, (length, count) in enumerate(zip(seconds, tokens, strict=True)):
        # Rare within a batch, so that this loop costs little more than counting.
        if length > longest or count > most:
            longest, most = max(longest, length), max(most, count)
            fitting = layout.cuts(longest, most)
        size += 1
        if size > fitting and size > 1:
            bounds.append(position)
            size, longest, most = 1, length, count
            fitting = layout.cuts(length, count)
    return np.asarray([*bounds, len(seconds)] if seconds else bounds, np.int64)


def _full_steps(
    begins: Numbers,
    ends: Numbers,
    lengths: CutLengths,
    members: Numbers,
    layout: BatchingConfig,
    draws: Draws,
) -> tuple[Numbers, Numbers]:
    """Leave out the batch that is not full, then any so that each rank has equally many."""
    if len(begins):
        last = members[begins[-1] :]
        longest, most = lengths.seconds[last].max(), lengths.tokens[last].max()
        if len(last) < layout.cuts(float(longest), float(most)):
            begins, ends = begins[:-1], ends[:-1]
    spare = len(begins) % layout.world_size
    kept = np.sort(draws.order(len(begins))[spare:])
    return begins[kept], ends[kept]


def _padded_steps(begins: Numbers, ends: Numbers, world_size: int) -> tuple[Numbers, Numbers]:
    """Halve batches, so that each rank has equally many; repeat some when there are too few."""
    pairs = list(zip(begins.tolist(), ends.tolist(), strict=True))
    pairs = halved(pairs, -len(pairs) % world_size)
    pairs += pairs[: -len(pairs) % world_size] if len(pairs) >= world_size else []
    while pairs and len(pairs) % world_size:
        pairs.append(pairs[-1])
    return (
        np.asarray([begin for begin, _ in pairs], np.int64),
        np.asarray([end for _, end in pairs], np.int64),
    )


def halved(batches: Sequence[tuple[int, int]], missing: int) -> list[tuple[int, int]]:
    """Halve the largest batch, again and again, until there are so many more or all have one cut.

    Args:
        batches: beginning and end of each.
        missing: how many more there should be.
    """
    batches = list(batches)
    for _ in range(missing):
        at, (begin, end) = max(enumerate(batches), key=lambda item: item[1][1] - item[1][0])
        if end - begin < 2:
            break
        middle = (begin + end) // 2
        batches[at : at + 1] = [(begin, middle), (middle, end)]
    return batches
