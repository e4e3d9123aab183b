"""Batches of several copies: order and names, noise and masks of each, one reading from disk."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lhotse import CutSet, Features, Recording

from tests.data.conftest import NUM_CUTS, TinyCorpus
from zipasr.data.config import AugmentConfig, DataConfig
from zipasr.data.cuts import in_memory
from zipasr.data.dataset import Batch
from zipasr.data.loaders import EpochPosition, Loader, batching_of, train_loader

PLAIN = AugmentConfig(enable_spec_aug=False, enable_musan=False)
MASKED = AugmentConfig(spec_aug_time_warp_factor=20, spec_augment="alternating")


@pytest.fixture(scope="module")
def noise(corpus: TinyCorpus) -> Path:
    """A folder whose noise is three of the cuts."""
    folder = corpus.fbank.parent / "noise-of-copies"
    folder.mkdir()
    corpus.cuts.subset(first=3).to_file(folder / "musan_cuts.jsonl.gz")
    return folder


def loader_of(
    corpus: TinyCorpus,
    copies: int,
    augment: AugmentConfig = PLAIN,
    *,
    doubled: bool = False,
    position: dict[str, Any] | None = None,
    **settings: Any,
) -> Loader:
    """Return the batches of the first epoch of seed 1, unless ``position`` says otherwise."""
    plain = {"manifest_dir": corpus.fbank, "max_duration": 24.0, "num_workers": 0}
    data = DataConfig(**(plain | settings))
    layout = replace(batching_of(data, 1), copies=copies)
    where = EpochPosition(**({"layout": layout, "seed": 1, "epoch": 1} | (position or {})))
    return train_loader(in_memory(corpus.cuts)[0], data, augment, where, doubled=doubled)


def same(one: Batch, other: Batch) -> bool:
    return torch.equal(one.features, other.features) and one.cut_ids == other.cut_ids


def of_copy(batch: Batch, number: int, copies: int) -> Batch:
    size = len(batch) // copies
    return batch.part(number * size, (number + 1) * size)


@pytest.mark.parametrize("copies", [2, 3])
@pytest.mark.parametrize("from_audio", [False, True])
def test_a_batch_is_its_cuts_longest_first_several_times_over(
    corpus: TinyCorpus, copies: int, from_audio: bool
) -> None:
    flags = {"drop_last": False, "on_the_fly_feats": from_audio}
    seen: Counter[str] = Counter()
    for batch in loader_of(corpus, copies, **flags):
        size = len(batch) // copies
        assert len(batch) == size * copies
        first = of_copy(batch, 0, copies)
        names = [name.removesuffix("_repeat0") for name in first.cut_ids]
        seen.update(names)
        assert first.feature_lens.tolist() == sorted(first.feature_lens.tolist(), reverse=True)
        for number in range(copies):
            part = of_copy(batch, number, copies)
            assert part.cut_ids == [f"{name}_repeat{number}" for name in names]
            assert part.texts == first.texts
            assert torch.equal(part.features, first.features)
            assert torch.equal(part.feature_lens, first.feature_lens)
        longest = float(batch.feature_lens[0]) / 100
        assert size == 1 or len(batch) * longest <= 24.0 + 0.1
        assert batch.step_seconds == pytest.approx(len(batch) * longest, abs=0.1 * len(batch))
    assert seen == dict.fromkeys((cut.id for cut in corpus.cuts), 1)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_all_ranks_together_have_each_cut_as_often_as_it_has_copies(
    corpus: TinyCorpus, world_size: int
) -> None:
    data = DataConfig(manifest_dir=corpus.fbank, max_duration=24.0, drop_last=False)
    layout = replace(batching_of(data, world_size), copies=2)
    seen: Counter[str] = Counter()
    for rank in range(world_size):
        flags = {"layout": layout, "rank": rank}
        for batch in loader_of(corpus, 2, drop_last=False, position=flags):
            seen.update(name.rpartition("_repeat")[0] for name in batch.cut_ids)
    assert seen == dict.fromkeys((cut.id for cut in corpus.cuts), 2)


def test_features_are_those_of_a_single_copy(corpus: TinyCorpus) -> None:
    by_id = {cut.id: torch.from_numpy(cut.load_features()) for cut in corpus.cuts}
    for batch in loader_of(corpus, 2):
        for name, features, length in zip(
            batch.cut_ids, batch.features, batch.feature_lens.tolist(), strict=True
        ):
            assert torch.equal(features[:length], by_id[name.rpartition("_repeat")[0]])


def test_copies_differ_in_noise_and_masks(corpus: TinyCorpus, noise: Path) -> None:
    noisy = AugmentConfig(enable_spec_aug=False)
    for augment, folder in ((noisy, noise), (MASKED, corpus.fbank)):
        (batch, *_) = loader_of(corpus, 2, augment, manifest_dir=folder)
        first, second = (of_copy(batch, number, 2).features for number in range(2))
        different = [not torch.equal(*rows) for rows in zip(first, second, strict=True)]
        assert sum(different) > len(different) / 3


@pytest.mark.parametrize("doubled", [False, True])
def test_the_position_alone_makes_the_batches(
    corpus: TinyCorpus, noise: Path, doubled: bool
) -> None:
    def batches(**flags: Any) -> list[Batch]:
        return list(loader_of(corpus, 2, MASKED, doubled=doubled, manifest_dir=noise, **flags))

    whole = batches()
    tail = batches(num_workers=2, position={"start": 1})
    assert len(whole) == len(tail) + 1 > 2
    assert all(map(same, whole[1:], tail))
    other = batches(position={"epoch": 2})
    assert not any(map(same, whole, other))
    for batch in whole:
        assert (batch.second_view is not None) is doubled
        if batch.second_view is not None:
            assert batch.second_view.shape == batch.features.shape


def test_what_is_read_is_read_once(corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: Counter[str] = Counter()

    def counting(cls: Any, name: str, key: str) -> None:
        original = getattr(cls, name)

        def counted(self: Any, *args: Any, **keywords: Any) -> np.ndarray:
            counts[getattr(self, key)] += 1
            found: np.ndarray = original(self, *args, **keywords)
            return found

        monkeypatch.setattr(cls, name, counted)

    counting(Features, "load", "storage_key")
    counting(Recording, "load_audio", "id")
    for from_audio in (False, True):
        counts.clear()
        list(loader_of(corpus, 3, on_the_fly_feats=from_audio, drop_last=False))
        assert len(counts) == NUM_CUTS
        assert set(counts.values()) == {1}


def test_joined_cuts_are_joined_before_they_are_copied(corpus: TinyCorpus) -> None:
    flags = {"concatenate_cuts": True, "duration_factor": 3.0, "gap": 0.1, "drop_last": False}
    names: Counter[str] = Counter()
    for batch in loader_of(corpus, 2, **flags):
        first, second = (of_copy(batch, number, 2) for number in range(2))
        assert first.texts == second.texts
        assert torch.equal(first.features, second.features)
        names.update("+".join(first.texts).split("+"))
    assert any("+" in name or " " in name for name in names)


def test_a_cut_that_cannot_be_read_is_missing_in_all_copies(
    corpus: TinyCorpus, caplog: pytest.LogCaptureFixture
) -> None:
    # A cut without features shares its recording with the corpus that all tests read.
    cuts = CutSet.from_cuts(
        deepcopy(cut.drop_features()) for cut in corpus.cuts.subset(first=3)
    ).to_eager()
    broken = next(iter(cuts))
    broken.recording.sources[0].source = "nowhere.flac"
    data = DataConfig(max_duration=100.0, num_workers=0, on_the_fly_feats=True, drop_last=False)
    layout = replace(batching_of(data, 1), copies=2, num_buckets=1)
    where = EpochPosition(layout=layout, seed=1, epoch=1)
    [batch] = train_loader(in_memory(cuts)[0], data, PLAIN, where)
    assert batch.dropped == (broken.id,)
    assert len(batch) == 4
    assert "is left out of its batch" in caplog.text


def test_a_corpus_that_fills_no_batch_says_how_many_copies(corpus: TinyCorpus) -> None:
    with pytest.raises(Exception, match="of 1000 s in 8 copies for each of 1 processes"):
        loader_of(corpus, 8, max_duration=1000.0)
