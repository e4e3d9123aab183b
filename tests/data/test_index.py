"""Large manifests: the same cuts and plans as from memory, read in any order."""

from __future__ import annotations

import gzip
import logging
import pickle
import shutil
from pathlib import Path

import pytest
from lhotse.cut import Cut

from tests.data.conftest import TinyCorpus
from zipasr.audio.quarantine import LeftOut, write_quarantine
from zipasr.base.errors import DataError
from zipasr.data import index, loaders
from zipasr.data.config import AugmentConfig, DataConfig
from zipasr.data.cuts import TrainCuts
from zipasr.data.filters import DropReport, TrainFilter
from zipasr.data.index import LinesOnDisk, load_train_cuts
from zipasr.data.loaders import EpochPosition, batching_of, train_loader

# Some are dropped.
WANTED = TrainFilter(min_duration=1.2, max_duration=2.8)


@pytest.fixture
def folder(corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Manifests that count as large."""
    for split in ("train", "more"):
        shutil.copy(
            corpus.fbank / "tiny_cuts_train.jsonl.gz", tmp_path / f"tiny_cuts_{split}.jsonl.gz"
        )
    monkeypatch.setattr(loaders, "_EAGER_BYTES", 10)
    return tmp_path


def load(folder: Path, *splits: str, **settings: str) -> tuple[TrainCuts, DropReport]:
    return load_train_cuts(folder, "tiny", splits or ("train",), WANTED, **settings)


def all_cuts(cuts: TrainCuts) -> list[Cut]:
    return [cuts.source[number] for number in range(len(cuts))]


def test_large_sets_are_the_same_as_small_ones(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexed, report = load(folder, "train", "more")
    assert isinstance(indexed.source, LinesOnDisk)
    monkeypatch.undo()
    eager, expected = load(folder, "train", "more")
    assert isinstance(eager.source, list)
    assert all_cuts(indexed) == eager.source
    assert report.text() == expected.text()
    assert report.kept_seconds == pytest.approx(expected.kept_seconds)
    assert report.dropped
    for name in ("seconds", "tokens"):
        assert getattr(indexed.lengths, name).tolist() == getattr(eager.lengths, name).tolist()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_epochs_are_the_same_from_disk(
    folder: Path, num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataConfig(max_duration=8.0, num_workers=num_workers)

    def epoch() -> list[list[str]]:
        place = EpochPosition(layout=batching_of(data, 1), seed=1, epoch=1)
        loader = train_loader(load(folder)[0], data, AugmentConfig(enable_musan=False), place)
        return [batch.cut_ids for batch in loader]

    indexed = epoch()
    monkeypatch.undo()
    assert epoch() == indexed
    assert len(indexed) > 2


def test_an_index_is_made_once_and_again_when_it_does_not_fit(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    real = index._made

    def counted(manifest: Path, *args: object) -> object:
        made.append(manifest)
        return real(manifest, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(index, "_made", counted)
    first, _ = load(folder)
    again, _ = load(folder)
    assert len(made) == 1
    assert again.identity() == first.identity()
    load(folder, tokenizer="another")
    assert len(made) == 2
    path = folder / "tiny_cuts_train.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(lines[::-1])))
    other, _ = load(folder, tokenizer="another")
    assert len(made) == 3
    assert first.identity().differences(other.identity())[-1] == "other names, or another order"
    (arrays,) = (folder / "index").glob("*.npz")
    arrays.write_bytes(b"cut off")
    assert load(folder, tokenizer="another")[0].identity() == other.identity()
    assert len(made) == 4
    # Of the manifest as it is now, nothing else.
    assert sorted(file.suffix for file in (folder / "index").iterdir()) == [".jsonl", ".npz"]


def test_no_file_is_written_unasked(folder: Path) -> None:
    cuts, report = load_train_cuts(folder, "tiny", ["train"], WANTED, writes=False)
    assert isinstance(cuts.source, list)
    assert not (folder / "index").exists()
    indexed, same = load(folder)
    assert report.text() == same.text()
    again, _ = load_train_cuts(folder, "tiny", ["train"], WANTED, writes=False)
    assert isinstance(again.source, LinesOnDisk)
    assert again.identity() == indexed.identity()


def test_what_is_quarantined_later_is_left_out(folder: Path) -> None:
    cuts, _ = load(folder)
    bad = cuts.source[2]
    row = LeftOut(bad.recording.sources[0].source, "damaged")
    write_quarantine(folder, [row], "somebody")
    assert [cut.id for cut in all_cuts(load(folder)[0])] == [
        cut.id for cut in all_cuts(cuts) if cut.id != bad.id
    ]


def test_the_source_can_be_sent_to_another_process(folder: Path) -> None:
    cuts, _ = load(folder)
    assert pickle.loads(pickle.dumps(cuts.source))[3] == cuts.source[3]


def test_a_folder_that_cannot_be_written_to_is_told(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "index").mkdir()

    def full(*_: object) -> object:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(index, "_made", full)
        cuts, _ = load_train_cuts(folder, "tiny", ["train"], WANTED, verbose=True)
    assert isinstance(cuts.source, list)
    assert "No space left on device" in caplog.text
    assert "keeps all cuts in memory" in caplog.text


def test_a_damaged_manifest_leaves_no_index(folder: Path) -> None:
    path = folder / "tiny_cuts_train.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="is not a readable manifest"):
        load(folder)
    assert not list((folder / "index").iterdir())
