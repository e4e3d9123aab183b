"""Plans for features in shards: batches of a few shards at a time, so that all reads are in order.

An epoch shuffles the shards and goes through them window by window. A window is planned as a small
corpus of its own that leaves nothing out; a process reads each of its shards once, front to back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from zipasr.base.seed import derive_seed
from zipasr.data.plan import Layout, Leg, Lengths, Numbers, Plan, make_plan
from zipasr.data.shards import SHARDS_HELD

_SHARDS = 1 << 41  # keeps the seed of their order apart from others


def plan_in_windows(
    lengths: Lengths, layout: Layout, *, seed: int, epoch: int, legs: Sequence[Leg] = ()
) -> Plan:
    """Plan an epoch of cuts in shards; of others, as ``make_plan`` does.

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


def _planned(lengths: Lengths, left: Numbers, layout: Layout, key: tuple[int, ...]) -> Plan:
    assert lengths.shards is not None
    shards = lengths.shards[left]
    order = np.unique(shards)
    if layout.shuffle:
        stream = np.random.PCG64(derive_seed(*key, _SHARDS))
        order = order[np.argsort(stream.random_raw(len(order)), kind="stable")]
    nothing = np.empty((0, layout.world_size), np.int64)
    members, begins, ends, first = [np.empty(0, np.int64)], [nothing], [nothing], 0
    for window, start in enumerate(range(0, len(order), SHARDS_HELD)):
        numbers = left[np.isin(shards, order[start : start + SHARDS_HELD])]
        part = Lengths(lengths.seconds[numbers], lengths.tokens[numbers])
        plan = make_plan(
            part, replace(layout, drop_last=False), seed=derive_seed(*key, window), epoch=key[1]
        )
        members.append(numbers[plan.members])
        begins.append(plan.begins + first)
        ends.append(plan.ends + first)
        first += len(plan.members)
    return Plan(np.concatenate(members), np.concatenate(begins), np.concatenate(ends))
