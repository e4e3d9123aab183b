"""Batches of several corpora: by weight, the same every time, and from any step on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.conftest import TinyCorpus
from zipasr.base.errors import DataError, UserError
from zipasr.data.config import AugmentConfig, DataConfig, Extra, cuts_path
from zipasr.data.corpus_mixing import combine_sources, mixed_plan
from zipasr.data.cuts import in_memory
from zipasr.data.epoch_plan import (
    BatchingConfig,
    BatchLimits,
    CutLengths,
    EpochSegment,
    PlanPart,
    make_plan,
)
from zipasr.data.loaders import EpochPosition, batching_of, load_extra, train_loader

OFF = AugmentConfig(enable_spec_aug=False, enable_musan=False)


def lengths(sizes: list[int], weights: list[float]) -> CutLengths:
    shares = [1 - sum(weights), *weights]
    parts = tuple(
        PlanPart(f"c{i}", n, w) for i, (n, w) in enumerate(zip(sizes, shares, strict=True))
    )
    seconds = np.random.default_rng(0).uniform(1, 10, size=sum(sizes))
    return CutLengths(seconds, np.ones(sum(sizes), np.int64), parts)


def layout(
    world_size: int = 1, *, max_duration: float = 30.0, shuffle: bool = True
) -> BatchingConfig:
    budget = BatchLimits(max_duration=max_duration)
    return BatchingConfig(budget=budget, world_size=world_size, drop_last=True, shuffle=shuffle)


@settings(max_examples=30)
@given(st.lists(st.integers(30, 150), min_size=2, max_size=3), st.integers(1, 3), st.integers(1, 3))
def test_every_batch_is_of_one_corpus_and_the_first_is_used_up(
    sizes: list[int], world_size: int, epoch: int
) -> None:
    cuts = lengths(sizes, [0.3] * (len(sizes) - 1))
    plan = mixed_plan(cuts, layout(world_size), seed=1, epoch=epoch)
    part_of = np.repeat(np.arange(len(sizes)), sizes)
    alone = make_plan(cuts.part(0), layout(world_size), seed=1, epoch=epoch)
    own = []
    for step in range(len(plan)):
        batches = [plan.batch(step, rank) for rank in range(world_size)]
        (part,) = {int(part_of[number]) for batch in batches for number in batch}
        if part == 0:
            own.append(tuple(batches[0]))
    assert own == [tuple(alone.batch(step, 0)) for step in range(len(alone))]
    assert part_of[plan.batch(len(plan) - 1, 0)[0]] == 0


def test_batches_come_by_weight() -> None:
    cuts = lengths([20000, 300, 5000], [0.5, 0.2])
    plan = mixed_plan(cuts, layout(), seed=3, epoch=1)
    part_of = np.repeat(np.arange(3), [20000, 300, 5000])
    counts = Counter(int(part_of[plan.batch(step, 0)[0]]) for step in range(len(plan)))
    shares = [counts[part] / len(plan) for part in range(3)]
    # Four standard deviations.
    np.testing.assert_allclose(shares, [0.3, 0.5, 0.2], atol=4 * 0.5 / np.sqrt(len(plan)))
    # The small one was gone through many times, evenly.
    times = Counter(plan.trained(len(plan)).tolist())
    small = [times[number] for number in range(20000, 20300)]
    assert max(small) - min(small) <= max(small) // 2
    assert min(small) > 5


def test_a_plan_follows_from_seed_and_epoch() -> None:
    cuts = lengths([100, 80], [0.4])
    digests = {
        mixed_plan(cuts, layout(), seed=seed, epoch=epoch).digest()
        for seed in (1, 2)
        for epoch in (1, 2)
    }
    assert len(digests) == 4
    assert mixed_plan(cuts, layout(), seed=1, epoch=1).digest() in digests
    same = [mixed_plan(cuts, layout(shuffle=False), seed=1, epoch=e).digest() for e in (1, 2)]
    assert same[0] == same[1]


@given(st.integers(0, 40))
def test_a_run_that_goes_on_in_another_layout_uses_up_what_is_left(steps: int) -> None:
    cuts = lengths([150, 80], [0.4])
    before = mixed_plan(cuts, layout(), seed=1, epoch=2)
    steps = min(steps, len(before))
    rest = mixed_plan(cuts, layout(2), seed=1, epoch=2, legs=(EpochSegment(layout(), steps),))
    trained = Counter([*before.trained(steps).tolist(), *rest.trained(len(rest)).tolist()])
    assert max(trained[number] for number in range(150)) <= 1
    # Less than a step of two batches is left out.
    assert sum(trained[number] for number in range(150)) > 150 - 90


def test_a_corpus_that_fills_no_batch_is_named() -> None:
    cuts = lengths([100, 2], [0.5])
    with pytest.raises(DataError, match="c1 does not fill one batch of 30 s for each of 2"):
        mixed_plan(cuts, layout(2), seed=1, epoch=1)


@pytest.mark.parametrize(
    "word", ["giga", "giga=a.jsonl.gz", "giga=a:1.0", "giga=a:0", "=a:0.5", "giga=:0.5", "g=a:b"]
)
def test_a_word_that_is_no_corpus_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="expected NAME=PATH:WEIGHT"):
        DataConfig(extra_manifest=(word,))


def test_weights_leave_a_share() -> None:
    with pytest.raises(ValueError, match="must leave a share"):
        DataConfig(extra_manifest=("a=x:0.5", "b=y:0.5"))
    assert Extra.parse("a=C:/x:0.25").weight == 0.25


def test_batches_of_two_corpora_are_loaded_and_a_run_goes_on(corpus: TinyCorpus) -> None:
    path = cuts_path(corpus.fbank, "tiny", "train")
    extra = Extra.parse(f"more={path}:0.5")
    main, more = in_memory(list(corpus.cuts)[:12])[0], in_memory(load_extra(extra))[0]
    cuts = combine_sources(main, [(extra, more)])
    assert len(cuts) == 12 + len(more)
    assert cuts.identity() != combine_sources(main, [(replace(extra, weight=0.4), more)]).identity()
    data = DataConfig(max_duration=8, num_workers=0, num_buckets=1, drop_last=False)
    place = EpochPosition(layout=batching_of(data, 1), seed=1, epoch=1)
    batches = list(train_loader(cuts, data, OFF, place))
    again = list(train_loader(cuts, data, OFF, replace(place, start=3)))
    assert [batch.cut_ids for batch in again] == [batch.cut_ids for batch in batches[3:]]
    seen = Counter(name for batch in batches for name in batch.cut_ids)
    assert {cut.id for cut in list(corpus.cuts)[:12]} <= set(seen)
    with pytest.raises(UserError, match="correct the path in --extra-manifest"):
        load_extra(Extra.parse("none=nowhere.jsonl.gz:0.1"))
