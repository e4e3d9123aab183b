"""Epoch plan of cuts in shards, each of which one process reads, once and from front to back.

The shards of an epoch are lined up in a random order, and the line is shared out over all
processes that load batches, in pieces of equally many seconds. A process goes through its piece
window by window. What a window has is sorted by length and cut into batches; what does not fill a
batch goes on to the next window, so that there is little padding and no step too many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from zipasr.base.seed import derive_seed
from zipasr.data.epoch_plan import (
    BatchingConfig,
    CutLengths,
    Draws,
    EpochSegment,
    Numbers,
    Plan,
    batch_bounds,
    halved,
    make_plan,
)

# Shards of a window, or half as many more: with those of the next one that a reader has begun, and
# what was carried on, it holds no more than SHARDS_HELD.
_WINDOW = 10
# Share of its length by which a cut is moved among others: sorted by length alone, cuts of a shard
# that are alike would meet in each epoch.
_JITTER = 0.01
_SHARDS = 1 << 41  # keeps the seed of their order apart from others
_STEPS = 1 << 42  # and that of the order of the steps


def plan_for_readers(
    lengths: CutLengths,
    layout: BatchingConfig,
    *,
    seed: int,
    epoch: int,
    legs: Sequence[EpochSegment] = (),
) -> Plan:
    """Plan an epoch of cuts in shards, leaving nothing out; of others, as ``make_plan`` does.

    Step s of a rank is of the shards of its reader ``s % num_readers``.

    Args:
        lengths: of all cuts.
        layout: of the steps to come.
        seed: of the run.
        epoch: counted from 1.
        legs: what was trained of this epoch in other layouts, in order.
    """
    if lengths.shards is None:
        return make_plan(lengths, layout, seed=seed, epoch=epoch, legs=legs)
    left: Numbers = np.arange(len(lengths))
    for number, leg in enumerate(legs):
        key = (seed, epoch if leg.layout.shuffle else 0, number)
        left = np.setdiff1d(left, _planned(lengths, left, leg.layout, key).trained(leg.steps))
    return _planned(lengths, left, layout, (seed, epoch if layout.shuffle else 0, len(legs)))


def _planned(
    lengths: CutLengths, left: Numbers, layout: BatchingConfig, key: tuple[int, ...]
) -> Plan:
    assert lengths.shards is not None
    num_shards, line = _shard_after_shard(lengths.shards, left, layout, key)
    ranks = layout.world_size
    # A reader with few shards has nothing to choose from; then several processes take its turns.
    most = max(1, 2 * num_shards // (ranks * _WINDOW))
    readers = max(n for n in range(1, most + 1) if layout.num_readers % n == 0)
    windows = max(1, round(num_shards / (ranks * readers * _WINDOW)))
    if ranks * readers * windows == 1 or num_shards < ranks:
        part = CutLengths(lengths.seconds[left], lengths.tokens[left])
        whole = replace(layout, drop_last=False)
        plan = make_plan(part, whole, seed=derive_seed(*key, _STEPS), epoch=key[1])
        return replace(plan, members=left[plan.members])
    draws = Draws(*key, _STEPS)
    cells = _equal_parts(line, lengths.seconds[line], ranks * readers * windows)
    lanes = [cells[start : start + windows] for start in range(0, len(cells), windows)]
    return _interleaved(lengths, lanes, layout, readers, draws)


def _shard_after_shard(
    shards: Numbers, left: Numbers, layout: BatchingConfig, key: tuple[int, ...]
) -> tuple[int, Numbers]:
    """Return the number of shards, and what is left of them as a line."""
    found, own = np.unique(shards[left], return_inverse=True)
    places: Numbers = np.arange(len(found))
    if layout.shuffle:
        places[Draws(*key, _SHARDS).order(len(found))] = np.arange(len(found))
    return len(found), left[np.argsort(places[own], kind="stable")]


def _equal_parts(line: Numbers, seconds: np.ndarray, count: int) -> list[Numbers]:
    """Cut a line into so many parts of equally many seconds."""
    ends = np.cumsum(seconds)
    # The middle of a cut says which part has it.
    total, middles = float(ends[-1]) if len(ends) else 0.0, ends - seconds / 2
    inner = [total * (i + 1) / count for i in range(count - 1)]
    return np.split(line, np.searchsorted(middles, inner))


def _interleaved(
    lengths: CutLengths,
    lanes: Sequence[Sequence[Numbers]],
    layout: BatchingConfig,
    readers: int,
    draws: Draws,
) -> Plan:
    """Plan the windows of all readers side by side.

    Args:
        lengths: of all cuts.
        lanes: the cuts of each window of each reader; ``readers`` of the first rank, of the second.
        layout: of the steps.
        readers: of each rank.
        draws: random orders.
    """
    members, size = [np.empty(0, np.int64)], 0
    begins, ends = ([np.empty((0, layout.world_size), np.int64)] for _ in range(2))
    carried = [np.empty(0, np.int64)] * len(lanes)
    for window in range(len(lanes[0])):
        pools = [np.concatenate([c, lane[window]]) for c, lane in zip(carried, lanes, strict=True)]
        pools = [_sorted(lengths, pool, layout, draws) for pool in pools]
        batches: list[Batches] = []
        for pool in pools:
            batches.append(list(pairwise((batch_bounds(lengths, pool, layout) + size).tolist())))
            size += len(pool)
        is_last = window == len(lanes[0]) - 1
        batches = _equally_many(batches) if is_last else _complete(batches)
        if not is_last:
            done = [sum(end - begin for begin, end in own) for own in batches]
            carried = [pool[count:] for pool, count in zip(pools, done, strict=True)]
        members += pools
        rows = _in_steps(batches, layout, readers, draws)
        begins.append(rows[..., 0])
        ends.append(rows[..., 1])
    return Plan(np.concatenate(members), np.concatenate(begins), np.concatenate(ends))


Batches = list[tuple[int, int]]


def _sorted(lengths: CutLengths, pool: Numbers, layout: BatchingConfig, draws: Draws) -> Numbers:
    """Return cuts from the shortest to the longest ones, or nearly so."""
    keys = lengths.seconds[pool]
    if layout.shuffle:
        keys = keys * (1 + _JITTER * (2 * draws.uniform(len(pool)) - 1))
    return pool[np.argsort(keys, kind="stable")]


def _complete(batches: Sequence[Batches]) -> list[Batches]:
    """Return as many batches of each reader as the one with the fewest can fill."""
    count = max(0, min(len(own) - 1 for own in batches))
    return [own[:count] for own in batches]


def _equally_many(batches: Sequence[Batches]) -> list[Batches]:
    """Halve batches until all readers have as many as the one with most.

    A reader with fewer cuts than that repeats some; one without any those of another.
    """
    most = max(batches, key=len)
    found = []
    for own in batches:
        more = halved(own or most[:1], len(most) - max(len(own), 1)) if most else []
        found.append(more + more[-1:] * (len(most) - len(more)))
    return found


def _in_steps(
    batches: Sequence[Batches], layout: BatchingConfig, readers: int, draws: Draws
) -> Numbers:
    """Put batches of all readers, shortest first, into steps of one batch for each rank.

    Args:
        batches: of the readers of the first rank, of the second, and so on; equally many.
        layout: of the steps.
        readers: of each rank.
        draws: of the order of the steps, in which all ranks have batches of similar length.

    Returns:
        (steps, ranks, 2), begin and end.
    """
    ranks, count = layout.world_size, len(batches[0])
    bounds = np.asarray(batches, np.int64).reshape(ranks, readers, count, 2)
    of_readers = [bounds[:, reader].transpose(1, 0, 2) for reader in range(readers)]
    if layout.shuffle:
        of_readers = [steps[draws.order(count)] for steps in of_readers]
    return np.stack(of_readers, 1).reshape(count * readers, ranks, 2)
