"""The plan of an epoch: what must hold for any cuts and any layout."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.data.dataset import PlannedBatches, eval_batches
from zipasr.data.epoch_plan import (
    BatchingConfig,
    BatchLimits,
    CutLengths,
    EpochSegment,
    Plan,
    RowCost,
    make_plan,
)

COST = RowCost(per_second=1.0, per_second_squared=0.1, per_token=0.2, per_token_second=0.01)
WITHIN = 1 + 1e-6

corpora = st.lists(
    st.tuples(st.floats(0.5, 20.0), st.integers(1, 90)), min_size=1, max_size=80
).map(lambda cuts: lengths_of(*zip(*cuts, strict=True)))
budgets = st.builds(
    BatchLimits,
    max_duration=st.floats(20.0, 100.0),
    max_cost=st.floats(150.0, 400.0),
    cost=st.sampled_from([None, COST]),
)
layouts = st.builds(
    BatchingConfig,
    budget=budgets,
    world_size=st.integers(1, 4),
    num_buckets=st.integers(1, 30),
    drop_last=st.booleans(),
    shuffle=st.booleans(),
    copies=st.sampled_from([1, 1, 2, 3, 8]),
)
small = settings(max_examples=80)


def lengths_of(seconds: list[float], tokens: list[int] | None = None) -> CutLengths:
    counts = [0] * len(seconds) if tokens is None else tokens
    return CutLengths(np.asarray(seconds, np.float64), np.asarray(counts, np.int64))


def batches_of(plan: Plan) -> list[list[int]]:
    """Step by step, rank by rank."""
    ranks = range(plan.begins.shape[1])
    return [plan.batch(step, rank).tolist() for step in range(len(plan)) for rank in ranks]


def spread(seconds: np.ndarray) -> float:
    return float(seconds.max() - seconds.min())


@small
@given(lengths=corpora, layout=layouts)
def test_each_cut_is_there_once_and_each_rank_has_equally_many_batches(
    lengths: CutLengths, layout: BatchingConfig
) -> None:
    plan = make_plan(lengths, layout, seed=3, epoch=2)
    batches = batches_of(plan)
    assert all(batches)
    assert len(batches) == len(plan) * layout.world_size
    seen = Counter(number for batch in batches for number in batch)
    if layout.drop_last:
        assert max(seen.values(), default=1) == 1
        # One batch that is not full, and those that do not fill a step.
        largest = max(map(len, [*batches, range(int(layout.budget.max_duration / 0.5))]))
        assert len(lengths) - len(seen) <= largest * layout.world_size
    else:
        assert set(seen) == set(range(len(lengths)))
        # Fewer cuts than batches that fill the steps: some must be there twice.
        if len(lengths) >= len(batches):
            assert max(seen.values()) == 1


@small
@given(lengths=corpora, layout=layouts)
def test_no_batch_is_beyond_the_budget_padding_included(
    lengths: CutLengths, layout: BatchingConfig
) -> None:
    budget = layout.budget
    for batch in batches_of(make_plan(lengths, layout, seed=3, epoch=2)):
        longest, most = lengths.seconds[batch].max(), lengths.tokens[batch].max()
        rows = len(batch) * layout.copies
        if len(batch) > 1:  # a cut that is too long for any batch goes alone
            assert rows * longest <= budget.max_duration * WITHIN
            if budget.cost is not None:
                assert rows * budget.cost(longest, most) <= budget.max_cost * WITHIN


@small
@given(lengths=corpora, layout=layouts)
def test_copies_make_smaller_batches_as_if_the_limit_were_divided(
    lengths: CutLengths, layout: BatchingConfig
) -> None:
    plan = make_plan(lengths, layout, seed=3, epoch=2)
    budget, copies = layout.budget, layout.copies
    divided = replace(
        budget, max_duration=budget.max_duration / copies, max_cost=budget.max_cost / copies
    )
    single = make_plan(lengths, replace(layout, budget=divided, copies=1), seed=3, epoch=2)
    assert plan.digest() == single.digest()


@small
@given(lengths=corpora, layout=layouts, rank=st.integers(0, 3), start=st.integers(0, 9))
def test_going_to_a_step_gives_the_tail(
    lengths: CutLengths, layout: BatchingConfig, rank: int, start: int
) -> None:
    rank %= layout.world_size
    plan = make_plan(lengths, layout, seed=3, epoch=2)
    copies = layout.copies
    whole = list(PlannedBatches(plan, lengths, rank, copies=copies))
    assert list(PlannedBatches(plan, lengths, rank, start=start, copies=copies)) == whole[start:]
    assert [batch.index for batch in whole] == list(range(len(plan)))
    for batch in whole:
        of_ranks = [plan.batch(batch.index, other) for other in range(layout.world_size)]
        padded = sum(len(numbers) * lengths.seconds[numbers].max() for numbers in of_ranks)
        assert batch.step_seconds == pytest.approx(copies * padded)


@small
@given(lengths=corpora, layout=layouts, later=layouts, data=st.data())
def test_a_change_of_layout_trains_what_is_left_and_nothing_twice(
    lengths: CutLengths, layout: BatchingConfig, later: BatchingConfig, data: st.DataObject
) -> None:
    layout = replace(layout, drop_last=True)
    later = replace(later, drop_last=False, world_size=1)
    legs: tuple[EpochSegment, ...] = ()
    trained: set[int] = set()
    for changed in (layout, replace(layout, world_size=2)):
        plan = make_plan(lengths, changed, seed=3, epoch=2, legs=legs)
        steps = data.draw(st.integers(0, len(plan)))
        legs = (*legs, EpochSegment(changed, steps))
        trained |= set(plan.trained(steps).tolist())
    rest = make_plan(lengths, later, seed=3, epoch=2, legs=legs)
    left = [number for batch in batches_of(rest) for number in batch]
    assert sorted(left) == sorted(set(range(len(lengths))) - trained)


@given(layout=layouts)
def test_a_layout_comes_back_from_a_checkpoint(layout: BatchingConfig) -> None:
    values = json.loads(json.dumps(layout.to_dict()))
    assert BatchingConfig.from_dict(values) == layout
    # Checkpoints of before there were copies have one.
    del values["copies"]
    assert BatchingConfig.from_dict(values) == replace(layout, copies=1)


def varied(count: int) -> CutLengths:
    rng = np.random.default_rng(0)
    return lengths_of(rng.uniform(1.0, 20.0, count), rng.integers(1, 60, count))


def test_the_order_follows_seed_and_epoch_and_nothing_else() -> None:
    layout = BatchingConfig(budget=BatchLimits(max_duration=100.0), world_size=2, shuffle=True)
    plans = {
        (seed, epoch): make_plan(varied(500), layout, seed=seed, epoch=epoch)
        for seed in (1, 2)
        for epoch in (1, 2)
    }
    assert len({plan.digest() for plan in plans.values()}) == 4
    again = make_plan(varied(500), layout, seed=1, epoch=2)
    assert again.digest() == plans[1, 2].digest()
    assert batches_of(again) == batches_of(plans[1, 2])
    # The same batches in another order would be no shuffling.
    assert not {map(frozenset, batches_of(plans[1, 1]))} & {map(frozenset, batches_of(again))}


def test_the_plan_of_a_seed_is_the_same_on_every_machine() -> None:
    """A run that moves to another machine or numpy goes on with the same batches."""
    layout = BatchingConfig(
        budget=BatchLimits(max_duration=60.0), world_size=2, shuffle=True, drop_last=True
    )
    lengths = lengths_of([1.0 + 0.25 * (i % 40) for i in range(200)])
    plan = make_plan(lengths, layout, seed=42, epoch=3)
    assert plan.digest() == "f741430e4d7c2498"


def test_without_shuffling_cuts_come_as_they_are_in_every_epoch() -> None:
    layout = BatchingConfig(budget=BatchLimits(max_duration=10.0), num_buckets=1)
    lengths = lengths_of([2.0] * 12)
    for epoch in (1, 2):
        plan = make_plan(lengths, layout, seed=1, epoch=epoch)
        assert batches_of(plan) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]


def test_batches_and_steps_hold_cuts_of_similar_length() -> None:
    lengths = varied(4000)
    layout = BatchingConfig(budget=BatchLimits(max_duration=200.0), world_size=4, shuffle=True)
    plan = make_plan(lengths, layout, seed=1, epoch=1)
    total = float(lengths.seconds.sum())
    padded = sum(plan.step_seconds(step, lengths.seconds) for step in range(len(plan)))
    assert padded < 1.07 * total
    spreads = []
    for step in range(len(plan)):
        batches = [plan.batch(step, rank) for rank in range(4)]
        spreads.append(spread(lengths.seconds[np.concatenate(batches)]))
    assert np.median(spreads) < 1.5
    assert np.mean([spread(lengths.seconds[batch]) for batch in batches_of(plan)]) < 1.5


def test_no_bucket_leaves_an_incomplete_batch() -> None:
    lengths = varied(4000)
    layout = BatchingConfig(budget=BatchLimits(max_duration=200.0), shuffle=True, drop_last=True)
    plan = make_plan(lengths, layout, seed=1, epoch=1)
    assert len(lengths) - len(plan.members[: int(plan.ends.max())]) < 10
    filled = [len(b) * lengths.seconds[b].max() / 200.0 for b in batches_of(plan)]
    assert np.mean(filled) > 0.93


def test_what_is_dropped_changes_from_epoch_to_epoch() -> None:
    lengths, seen = varied(100), set()
    layout = BatchingConfig(
        budget=BatchLimits(max_duration=50.0), world_size=4, shuffle=True, drop_last=True
    )
    for epoch in range(1, 13):
        plan = make_plan(lengths, layout, seed=1, epoch=epoch)
        seen |= set(plan.trained(len(plan)).tolist())
    assert len(seen) == 100


def test_a_small_corpus_has_fewer_buckets() -> None:
    layout = BatchingConfig(budget=BatchLimits(max_duration=10.0), num_buckets=30)
    assert layout.buckets_for(6.0) == 1
    assert layout.buckets_for(600.0) == 10
    assert layout.buckets_for(1e6) == 30


@settings(max_examples=40)
@given(
    lengths=st.lists(st.floats(0.5, 20.0), max_size=60),
    max_duration=st.floats(20.0, 100.0),
    world_size=st.integers(1, 3),
)
def test_evaluation_has_each_cut_once_over_all_ranks(
    lengths: list[float], max_duration: float, world_size: int
) -> None:
    ranks = [
        eval_batches(lengths, max_duration, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    batches = [batch for batches in ranks for batch in batches]
    assert sorted(number for batch in batches for number in batch.members) == [*range(len(lengths))]
    for batch in batches:
        longest = max(lengths[number] for number in batch.members)
        assert len(batch.members) * longest <= max_duration * WITHIN


def test_a_cut_longer_than_the_limit_goes_alone() -> None:
    lengths = [30.0, 2.0, 2.0, 2.0]
    assert [len(batch.members) for batch in eval_batches(lengths, 10.0)] == [1, 3]
    plan = make_plan(
        lengths_of(lengths), BatchingConfig(budget=BatchLimits(max_duration=10.0)), seed=1, epoch=1
    )
    assert sorted(map(len, batches_of(plan))) == [1, 3]
