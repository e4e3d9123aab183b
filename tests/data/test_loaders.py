import gzip
import os
import pickle
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lhotse import CutSet

from tests.data.conftest import CONFIG, NUM_CUTS, TinyCorpus, write_manifests, write_recording
from zipasr.base.errors import DataError
from zipasr.data import loaders
from zipasr.data.config import AugmentConfig, DataConfig
from zipasr.data.cuts import in_memory
from zipasr.data.dataset import Batch
from zipasr.data.fbank import compute_and_store
from zipasr.data.loaders import (
    EpochPosition,
    Loader,
    batching_of,
    load_cuts,
    train_loader,
    valid_loader,
)

MAX_DURATION = 8.0
AUGMENT = AugmentConfig(spec_aug_time_warp_factor=20)
PLAIN = AugmentConfig(enable_spec_aug=False, enable_musan=False)


def config(corpus: TinyCorpus, **changes: object) -> DataConfig:
    settings = {"manifest_dir": corpus.fbank, "max_duration": MAX_DURATION, "num_workers": 0}
    return DataConfig(**{**settings, **changes})  # type: ignore[arg-type]


def same(a: Batch, b: Batch) -> bool:
    return (
        torch.equal(a.features, b.features)
        and torch.equal(a.feature_lens, b.feature_lens)
        and (a.texts, a.cut_ids, a.seconds, a.index) == (b.texts, b.cut_ids, b.seconds, b.index)
    )


def loader_of(
    corpus: TinyCorpus, data: DataConfig, augment: AugmentConfig = PLAIN, **settings: Any
) -> Loader:
    """The first epoch of seed 1, unless ``settings`` say otherwise."""
    place = {"seed": 1, "epoch": 1, "layout": batching_of(data, settings.pop("world_size", 1))}
    ways = {name: settings.pop(name, False) for name in ("doubled", "late")}
    cuts = settings.pop("cuts", corpus.cuts)
    where = EpochPosition(**(place | settings))
    return train_loader(in_memory(cuts)[0], data, augment, where, **ways)


def epoch_of(corpus: TinyCorpus, data: DataConfig, **settings: Any) -> list[Batch]:
    return list(loader_of(corpus, data, AUGMENT, **settings))


# ----------------------------------------------------------------------------------- batches


def test_batch_holds_what_is_on_disk(corpus: TinyCorpus) -> None:
    by_id = {cut.id: cut for cut in corpus.cuts}
    loader = loader_of(corpus, config(corpus))
    batches = list(loader)
    assert loader.num_batches == len(batches) > 1
    for index, batch in enumerate(batches):
        assert batch.index == index
        assert batch.features.dtype == torch.float32
        assert batch.feature_lens.dtype == torch.int64
        assert batch.features.shape == (len(batch), batch.feature_lens.max(), 80)
        assert batch.seconds == pytest.approx(batch.feature_lens.sum().item() / 100)
        for row, name in enumerate(batch.cut_ids):
            length = int(batch.feature_lens[row])
            stored = torch.from_numpy(by_id[name].load_features())
            assert torch.equal(batch.features[row, :length], stored)
            padding = batch.features[row, length:]
            assert torch.allclose(padding, torch.tensor(np.log(1e-10), dtype=torch.float32))
            assert batch.texts[row] == by_id[name].supervisions[0].text


@pytest.mark.parametrize("skip", [1, 3])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumed_epoch_has_the_same_tail(corpus: TinyCorpus, skip: int, num_workers: int) -> None:
    corpus_with_noise(corpus)
    whole = epoch_of(corpus, config(corpus))
    data = config(corpus, num_workers=num_workers)
    tail = epoch_of(corpus, data, start=skip)
    assert len(tail) == len(whole) - skip > 0
    assert all(same(a, b) for a, b in zip(whole[skip:], tail, strict=True))


def corpus_with_noise(corpus: TinyCorpus) -> None:
    path = corpus.fbank.parent / "noise" / "musan_cuts.jsonl.gz"
    path.parent.mkdir(exist_ok=True)
    corpus.cuts.subset(first=3).to_file(path)


def test_batches_do_not_depend_on_the_number_of_workers(corpus: TinyCorpus) -> None:
    corpus_with_noise(corpus)
    noise = corpus.fbank.parent / "noise"
    epochs = [
        epoch_of(corpus, config(corpus, num_workers=n, manifest_dir=noise)) for n in (0, 1, 2)
    ]
    for other in epochs[1:]:
        assert all(same(a, b) for a, b in zip(epochs[0], other, strict=True))
    clean = epoch_of(corpus, config(corpus))
    assert not all(same(a, b) for a, b in zip(epochs[0], clean, strict=True))


def test_a_second_view_follows_the_position_alone(corpus: TinyCorpus) -> None:
    whole = epoch_of(corpus, config(corpus), doubled=True)
    tail = epoch_of(corpus, config(corpus, num_workers=1), doubled=True, start=1)
    plain = epoch_of(corpus, config(corpus))
    for batch, again in zip(whole[1:], tail, strict=True):
        assert same(batch, again)
        assert again.second_view is not None
        assert torch.equal(batch.second_view, again.second_view)
    for batch, single in zip(whole, plain, strict=True):
        assert batch.cut_ids == single.cut_ids
        assert torch.equal(batch.feature_lens, single.feature_lens)
        assert batch.second_view.shape == batch.features.shape == single.features.shape
        assert not torch.equal(batch.second_view, batch.features)
        assert single.second_view is None
        moved = batch.to("meta")
        assert moved.features.is_meta
        assert moved.second_view.is_meta
    late = AugmentConfig(spec_aug_start_epoch=2)
    loader = loader_of(corpus, config(corpus), late, doubled=True)
    first = next(iter(loader))
    assert first.second_view is None


def test_augmentation_differs_between_epochs_and_ranks(corpus: TinyCorpus) -> None:
    one = config(corpus, shuffle=False)
    first = epoch_of(corpus, one)
    second = epoch_of(corpus, one, epoch=2)
    assert [b.cut_ids for b in first] == [b.cut_ids for b in second]
    assert not any(torch.equal(a.features, b.features) for a, b in zip(first, second, strict=True))


def test_two_ranks_share_the_epoch(corpus: TinyCorpus) -> None:
    data = config(corpus, drop_last=False, max_duration=6.0)
    ranks = [epoch_of(corpus, data, rank=rank, world_size=2) for rank in (0, 1)]
    assert len(ranks[0]) == len(ranks[1])
    seen = Counter(name for batches in ranks for batch in batches for name in batch.cut_ids)
    assert set(seen) == {cut.id for cut in corpus.cuts}
    assert max(seen.values()) == 1


@pytest.mark.parametrize("num_workers", [0, 1])
def test_generators_of_the_training_process_are_not_disturbed(
    corpus: TinyCorpus, num_workers: int
) -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = draw()
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    epoch_of(corpus, config(corpus, num_workers=num_workers))
    assert draw() == expected


def test_features_on_the_fly_are_those_on_disk(corpus: TinyCorpus) -> None:
    bare = CutSet.from_cuts(cut.drop_features() for cut in corpus.cuts)
    for changes in ({"on_the_fly_feats": True}, {"input_strategy": "AudioSamples"}):
        data = config(corpus, **changes)
        computed = list(loader_of(corpus, data, cuts=bare))
        stored = list(loader_of(corpus, config(corpus)))
        for a, b in zip(computed, stored, strict=True):
            assert a.cut_ids == b.cut_ids
            assert torch.equal(a.feature_lens, b.feature_lens)
            assert (a.features - b.features).abs().max() < 0.05


def test_joined_cuts_keep_their_texts_in_order(corpus: TinyCorpus) -> None:
    data = config(corpus, concatenate_cuts=True, duration_factor=3.0, gap=0.1, drop_last=False)
    batches = epoch_of(corpus, data)
    assert any("+" in name for batch in batches for name in batch.cut_ids)
    texts = {c.supervisions[0].id: c.supervisions[0].text for c in corpus.cuts}
    for batch in batches:
        assert len(batch) == batch.features.size(0) == len(batch.cut_ids)
        for name, text in zip(batch.cut_ids, batch.texts, strict=True):
            if "+" in name:
                assert text == " ".join(texts[part] for part in name.split("+"))
    assert [b.cut_ids for b in batches] == [b.cut_ids for b in epoch_of(corpus, data)]


def test_batch_moves(corpus: TinyCorpus) -> None:
    batch = epoch_of(corpus, config(corpus))[0].to("meta")
    assert batch.features.device.type == "meta"
    assert batch.feature_lens.device.type == "cpu"  # where they are read without a wait


def test_loader_can_be_sent_to_a_fresh_interpreter(corpus: TinyCorpus) -> None:
    """Where processes are spawned, the dataset is pickled."""
    corpus_with_noise(corpus)
    data = config(corpus, manifest_dir=corpus.fbank.parent / "noise", concatenate_cuts=True)
    loader = loader_of(corpus, data, AUGMENT)
    copy = pickle.loads(pickle.dumps(loader._dataset))
    first = next(iter(loader._sampler))
    assert same(copy[first], loader._dataset[first])


# ------------------------------------------------------------------------------------ faults


def broken_corpus(tmp_path: Path, num_broken: int) -> CutSet:
    recordings = [write_recording(tmp_path, f"u{i}", 1.0 + i / 10, seed=i) for i in range(5)]
    write_manifests(tmp_path, "dev", recordings, ["ON"] * 5)
    compute_and_store("tiny", "dev", tmp_path, tmp_path, CONFIG)
    cuts = load_cuts(tmp_path, "tiny", ["dev"])
    for cut in list(cuts)[:num_broken]:
        cut.features.storage_path = str(tmp_path / "gone.lca")
    return cuts


@pytest.mark.parametrize("num_workers", [0, 1])
def test_unreadable_cut_is_left_out_of_its_batch(
    tmp_path: Path, num_workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    cuts = broken_corpus(tmp_path, 1)
    data = DataConfig(max_duration=100.0, num_workers=num_workers)
    [batch] = list(loaders.test_loader(cuts, data))
    assert batch.dropped == ("u0-0",)
    assert batch.cut_ids == ["u4-4", "u3-3", "u2-2", "u1-1"]
    if num_workers == 0:
        assert "u0-0 is left out of its batch: [Errno 2]" in caplog.text


@pytest.mark.parametrize("num_workers", [0, 1])
def test_batch_without_any_readable_cut_stops(tmp_path: Path, num_workers: int) -> None:
    cuts = broken_corpus(tmp_path, 5)
    data = DataConfig(max_duration=100.0, num_workers=num_workers)
    with pytest.raises(DataError, match="no cut of batch 0 can be read; u") as stop:
        list(loaders.test_loader(cuts, data))
    assert "\n" not in str(stop.value)


@pytest.mark.parametrize("num_frames", [0, 1, 20])
@pytest.mark.parametrize("joined", [False, True])
def test_features_shorter_than_their_manifest_are_left_out(
    tmp_path: Path, num_frames: int, joined: bool, caplog: pytest.LogCaptureFixture
) -> None:
    cuts = broken_corpus(tmp_path, 0)
    for cut in cuts:
        array = cut.load_features()
        cut.features.storage_type = "numpy_files"
        cut.features.storage_path, cut.features.storage_key = str(tmp_path), f"{cut.id}.npy"
        np.save(tmp_path / f"{cut.id}.npy", array[:num_frames] if cut.id == "u2-2" else array)
    data = DataConfig(
        max_duration=100.0,
        num_workers=0,
        num_buckets=1,
        drop_last=False,
        concatenate_cuts=joined,
        duration_factor=3,
    )
    where = EpochPosition(seed=1, epoch=1, layout=batching_of(data, 1))
    [batch] = list(train_loader(in_memory(cuts)[0], data, PLAIN, where))
    assert batch.dropped == ("u2-2",)
    # Joined cuts are called by their utterances.
    names = {name[:2] for name in "+".join(batch.cut_ids).split("+")}
    assert names == {"u0", "u1", "u3", "u4"}
    told = f"(u2-2.npy) has {num_frames} of the 120 frames that its manifest says"
    assert "cut u2-2 is left out of its batch" in caplog.text
    assert told in caplog.text


def test_a_named_pipe_as_storage_is_refused(tmp_path: Path) -> None:
    cuts = broken_corpus(tmp_path, 0)
    os.mkfifo(tmp_path / "pipe.lca")
    next(iter(cuts)).features.storage_path = str(tmp_path / "pipe.lca")
    [batch] = list(loaders.test_loader(cuts, DataConfig(max_duration=100.0, num_workers=0)))
    assert batch.dropped == ("u0-0",)


def test_truncated_audio_is_left_out_on_the_fly(tmp_path: Path) -> None:
    cuts = broken_corpus(tmp_path, 0)
    path = tmp_path / "u3.flac"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    data = DataConfig(max_duration=100.0, num_workers=0, on_the_fly_feats=True)
    [batch] = list(loaders.test_loader(cuts, data))
    assert batch.dropped == ("u3-3",)
    assert len(batch) == 4


def test_cuts_without_features_name_the_way_out(corpus: TinyCorpus) -> None:
    bare = CutSet.from_cuts(cut.drop_features() for cut in corpus.cuts)
    with pytest.raises(DataError, match=r"no stored features.*--on-the-fly-feats 1"):
        loader_of(corpus, config(corpus), cuts=bare)


def test_corpus_that_fills_no_batch_is_an_error(corpus: TinyCorpus) -> None:
    data = config(corpus, max_duration=1000.0)
    with pytest.raises(DataError, match=r"24 cuts \(\d+ s\) do not fill one batch.*--drop-last 0"):
        loader_of(corpus, data)


# ------------------------------------------------------------------------------ load and eval


def test_evaluation_sees_each_cut_once_whatever_the_ranks(corpus: TinyCorpus) -> None:
    data = config(corpus)
    whole = [name for batch in loaders.test_loader(corpus.cuts, data) for name in batch.cut_ids]
    ranks = [
        name
        for rank in range(2)
        for batch in valid_loader(corpus.cuts, data, rank, 2)
        for name in batch.cut_ids
    ]
    assert sorted(whole) == sorted(ranks) == sorted(cut.id for cut in corpus.cuts)


def test_large_manifests_stay_on_disk(corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zipasr.data.loaders._EAGER_BYTES", 10)
    cuts = load_cuts(corpus.fbank, "tiny", ["train", "train"])
    assert cuts.is_lazy
    assert sum(1 for _ in cuts) == 2 * NUM_CUTS


def test_splits_are_joined_in_order(corpus: TinyCorpus) -> None:
    cuts = load_cuts(corpus.fbank, "tiny", ["train", "train"])
    assert not cuts.is_lazy
    assert [cut.id for cut in cuts] == [cut.id for cut in corpus.cuts] * 2


def test_missing_manifest_names_the_stage(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tiny_cuts_dev\.jsonl\.gz .*\./prepare\.sh --stage 2"):
        load_cuts(tmp_path, "tiny", ["dev"])


@pytest.mark.parametrize("content", [gzip.compress(b"", mtime=0), b""])
def test_empty_manifest_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tiny_cuts_dev.jsonl.gz").write_bytes(content)
    with pytest.raises(DataError, match="is empty"):
        load_cuts(tmp_path, "tiny", ["dev"])


@pytest.mark.parametrize(
    "content", [b"<html>", gzip.compress(b"<html>", mtime=0), gzip.compress(b"{}", mtime=0)]
)
def test_damaged_manifest_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tiny_cuts_dev.jsonl.gz").write_bytes(content)
    with pytest.raises(DataError, match="is not a readable manifest") as refusal:
        load_cuts(tmp_path, "tiny", ["dev"])
    assert "\n" not in str(refusal.value)


def test_flags_are_checked() -> None:
    for flags, name in (
        ({"max_duration": 0.0}, "--max-duration"),
        ({"num_workers": -2}, "--num-workers"),
        ({"num_buckets": 0}, "--num-buckets"),
        ({"min_cut_duration": 30.0}, "--min-cut-duration"),
    ):
        with pytest.raises(ValueError, match=name):
            DataConfig(**flags)  # type: ignore[arg-type]
