"""Features in shards: read in order, every cut once in an epoch, and from any step on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse import CutSet
from lhotse.shar.readers.tar import TarIterator

from benchmarks.sampling import durations
from tests.data.conftest import NUM_CUTS, TinyCorpus
from zipasr.data import fbank, shard_plan, shards
from zipasr.data.config import AugmentConfig, DataConfig, FbankConfig
from zipasr.data.cuts import TrainCuts, in_memory
from zipasr.data.epoch_plan import (
    BatchingConfig,
    BatchLimits,
    CutLengths,
    EpochSegment,
    make_plan,
)
from zipasr.data.fbank import compute_and_store
from zipasr.data.loaders import EpochPosition, batching_of, load_cuts, train_loader
from zipasr.data.shard_plan import plan_for_readers

OFF = AugmentConfig(enable_spec_aug=False, enable_musan=False)


@pytest.fixture(scope="module")
def sharded(corpus: TinyCorpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of the corpus in eight shards of three cuts."""
    folder = tmp_path_factory.mktemp("shards")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fbank, "_CUTS_PER_ARCHIVE", 3)
        config = FbankConfig(num_jobs=2, storage="shar")
        compute_and_store("tiny", "train", corpus.manifests, folder, config)
    return folder


@pytest.fixture
def cuts(sharded: Path) -> TrainCuts:
    return in_memory(load_cuts(sharded, "tiny", ["train"]))[0]


def test_shards_hold_the_features_and_lhotse_reads_them(corpus: TinyCorpus, sharded: Path) -> None:
    ours = {cut.id: cut.load_features() for cut in load_cuts(sharded, "tiny", ["train"])}
    assert len(list((sharded / "tiny_feats_train").glob("features.*.tar"))) == 8
    for cut in corpus.cuts:
        np.testing.assert_allclose(ours[cut.id], cut.load_features(), atol=0.02)
    folder = sharded / "tiny_feats_train"
    fields = {name: sorted(folder.glob(f"{name}.*")) for name in ("cuts", "features")}
    theirs = CutSet.from_shar(fields=fields).to_eager()
    assert {cut.id for cut in theirs} == set(ours)
    for cut in theirs:
        np.testing.assert_array_equal(cut.load_features(), ours[cut.id])


def test_two_ranks_with_two_workers_have_each_cut_once(cuts: TrainCuts) -> None:
    data = DataConfig(max_duration=6, num_workers=2, num_buckets=2)
    for epoch in (1, 2):
        seen: Counter[str] = Counter()
        for rank in range(2):
            place = EpochPosition(layout=batching_of(data, 2), seed=1, epoch=epoch, rank=rank)
            seen.update(n for b in train_loader(cuts, data, OFF, place) for n in b.cut_ids)
        assert len(seen) == NUM_CUTS
        assert set(seen.values()) == {1}


def test_every_shard_is_read_once_in_an_epoch(
    cuts: TrainCuts, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(shard_plan, "_WINDOW", 2)
    monkeypatch.setattr(shards, "SHARDS_HELD", 4)

    def watched(path: str) -> TarIterator:
        read.append(path)
        return TarIterator(path)

    monkeypatch.setattr(shards, "TarIterator", watched)
    monkeypatch.setattr(shards, "_HELD", shards._HeldShards())
    data = DataConfig(max_duration=4, num_workers=0)
    batches = list(
        train_loader(cuts, data, OFF, EpochPosition(layout=batching_of(data, 1), seed=1, epoch=1))
    )
    assert sum(len(batch) for batch in batches) == NUM_CUTS
    assert len(read) == len(set(read)) == 8


def test_a_run_goes_on_from_any_step(cuts: TrainCuts) -> None:
    data = DataConfig(max_duration=6, num_workers=0)
    place = EpochPosition(layout=batching_of(data, 1), seed=3, epoch=2)
    names = [batch.cut_ids for batch in train_loader(cuts, data, OFF, place)]
    later = train_loader(cuts, data, OFF, replace(place, start=2))
    assert [batch.cut_ids for batch in later] == names[2:]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(0, 30),
    st.booleans(),
    st.integers(1, 4),
)
def test_every_cut_once_whatever_the_shards_and_after_a_change_of_layout(
    num_shards: int, world_size: int, num_readers: int, steps: int, shuffle: bool, held: int
) -> None:
    rng = np.random.default_rng(num_shards)
    count = num_shards * 12
    lengths = CutLengths(
        rng.uniform(1, 9, count), np.ones(count, int), shards=rng.permutation(count) // 12
    )
    layout = BatchingConfig(
        budget=BatchLimits(max_duration=20.0), shuffle=shuffle, num_readers=num_readers
    )
    other = replace(layout, world_size=world_size, num_readers=1 + num_readers % 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_plan, "_WINDOW", held)
        first = plan_for_readers(lengths, layout, seed=1, epoch=1)
        steps = min(steps, len(first))
        legs = (EpochSegment(layout, steps),)
        rest = plan_for_readers(lengths, other, seed=1, epoch=1, legs=legs)
    assert all(len(first.batch(step, 0)) for step in range(len(first)))
    assert sorted(first.trained(len(first))) == list(range(count))
    seen = Counter([*first.trained(steps).tolist(), *rest.trained(len(rest)).tolist()])
    assert set(seen) == set(range(count))
    for plan in (first, rest):
        for batch in (
            plan.batch(s, r) for s in range(len(plan)) for r in range(len(plan.begins.T))
        ):
            assert len(batch) * lengths.seconds[batch].max() <= 20.0 + 1e-9
    # Readers with fewer cuts than another has batches repeat some.
    assert sum(seen.values()) - count <= world_size * other.num_readers * 3


@pytest.fixture(scope="module")
def like_librispeech() -> CutLengths:
    """A tenth of LibriSpeech: 84 000 cuts in 420 shards."""
    seconds = durations(84_000)
    return CutLengths(seconds, np.zeros(84_000, int), shards=np.arange(84_000) // 200)


@pytest.mark.parametrize(("ranks", "readers"), [(1, 1), (4, 1), (2, 4), (4, 4)])
def test_shards_cost_no_steps_no_padding_and_no_reads(
    like_librispeech: CutLengths, ranks: int, readers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = like_librispeech
    layout = BatchingConfig(
        budget=BatchLimits(max_duration=1000.0),
        world_size=ranks,
        drop_last=True,
        shuffle=True,
        num_readers=readers,
    )
    plan = plan_for_readers(lengths, layout, seed=1, epoch=1)
    assert sorted(plan.trained(len(plan))) == list(range(len(lengths)))
    whole = make_plan(replace(lengths, shards=None), layout, seed=1, epoch=1)
    assert len(plan) <= 1.03 * len(whole) + readers
    padded = sum(plan.step_seconds(step, lengths.seconds) for step in range(len(plan)))
    assert padded <= 1.055 * lengths.seconds.sum()
    longest = [
        [lengths.seconds[plan.batch(step, rank)].max() for rank in range(ranks)]
        for step in range(len(plan))
    ]
    assert np.ptp(longest, axis=1).mean() < 0.7  # seconds: no rank waits long for another

    numbers, read = np.arange(len(lengths)).reshape(-1, 200), []

    def all_of(path: str) -> dict[str, None]:
        read.append(path)
        return dict.fromkeys(map(str, numbers[int(path)]))

    monkeypatch.setattr(shards, "_read", all_of)
    for rank in range(ranks):
        for reader in range(readers):
            held, most = shards._HeldShards(), 0
            for step in range(reader, len(plan), readers):
                for cut in plan.batch(step, rank).tolist():
                    held.taken(str(cut // 200), str(cut))
                    most = max(most, sum(map(len, held._shards.values())))
            assert most <= shards.SHARDS_HELD * 200
            assert not held._shards or ranks * readers > 1  # others have the rest of the last ones
    # A shard on the border between two readers is read by both.
    assert len(read) <= len(numbers) + ranks * readers - 1


def test_without_storage_there_are_cuts_for_features_on_the_fly(
    corpus: TinyCorpus, tmp_path: Path
) -> None:
    config = FbankConfig(num_jobs=1, storage="none")
    compute_and_store("tiny", "train", corpus.manifests, tmp_path, config)
    cuts = in_memory(load_cuts(tmp_path, "tiny", ["train"]))[0]
    data = DataConfig(max_duration=20, num_workers=0, on_the_fly_feats=True)
    batch = next(
        iter(
            train_loader(
                cuts, data, OFF, EpochPosition(layout=batching_of(data, 1), seed=1, epoch=1)
            )
        )
    )
    stored = {cut.id: cut for cut in corpus.cuts}
    for name, features, size in zip(
        batch.cut_ids, batch.features, batch.feature_lens.tolist(), strict=True
    ):
        np.testing.assert_allclose(features[:size], stored[name].load_features(), atol=0.02)
