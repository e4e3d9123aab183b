"""Large manifests: the same cuts and plans as from memory, read in any order."""

from __future__ import annotations

import gzip
import logging
import multiprocessing
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from lhotse.cut import Cut

from tests.data.conftest import TinyCorpus
from zipasr.audio.quarantine import LeftOut, write_quarantine
from zipasr.base.errors import DataError
from zipasr.data import index, loaders, manifest_scan
from zipasr.data.config import AugmentConfig, DataConfig
from zipasr.data.cuts import TrainCuts
from zipasr.data.filters import DropReport, TrainFilter
from zipasr.data.index import load_train_cuts
from zipasr.data.lines_on_disk import (
    CutTable,
    LinesOnDisk,
    is_table,
    lines_of_table,
    write_table,
)
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
    suffixes = sorted(file.suffix for file in (folder / "index").iterdir())
    assert suffixes == [".jsonl", ".npy", ".npz"]


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


def test_what_is_sent_to_another_process_is_small_whatever_the_number_of_cuts(
    tmp_path: Path,
) -> None:
    number = 100_000
    table = CutTable(
        parts=np.zeros(number, np.int64),
        offsets=np.arange(number),
        sizes=np.full(number, 7),
        seconds=np.linspace(1.0, 20.0, number),
        tokens=np.arange(number) % 50,
        shards=np.arange(number) // 200,
    )
    path = tmp_path / "table.npy"
    write_table(path, table)
    assert is_table(path, table)
    assert not is_table(path, table._replace(tokens=table.tokens + 1))
    assert not is_table(path, table._replace(shards=None))
    source = lines_of_table([tmp_path / "lines.jsonl"], path, allow_commands=True)
    content = pickle.dumps(source)
    assert len(content) < 1000
    again = pickle.loads(content)
    assert again.allow_commands
    assert again.paths == source.paths
    assert again.offsets.tolist() == table.offsets.tolist()
    assert isinstance(again.offsets.base.base, np.memmap)


def test_the_source_of_a_training_is_mapped(folder: Path) -> None:
    cuts, _ = load(folder, "train", "more")
    (table,) = (folder / "index").glob("*.npy")
    assert cuts.source.table == table
    assert len(pickle.dumps(cuts.source)) < 2000
    again = pickle.loads(pickle.dumps(cuts.source))
    assert [again[number] for number in range(len(again))] == all_cuts(cuts)


def test_an_index_without_a_table_gets_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an older version made it, or where the table is damaged."""
    cuts, _ = load(folder)
    (table,) = (folder / "index").glob("*.npy")
    monkeypatch.setattr(index, "_made", None)
    content = table.read_bytes()
    for damaged in (content[:-8], content[:10], b"", content[:-1] + b"x", None):
        if damaged is None:
            table.unlink()
        else:
            table.write_bytes(damaged)
        in_memory, _ = load_train_cuts(folder, "tiny", ["train"], WANTED, writes=False)
        assert in_memory.source.table is None
        assert (
            all_cuts(in_memory) == all_cuts(pickle.loads(pickle.dumps(in_memory))) == all_cuts(cuts)
        )
        mapped, _ = load(folder)
        assert table.read_bytes() == content
        assert mapped.identity() == in_memory.identity() == cuts.identity()


def test_a_run_reads_its_lines_when_the_index_is_made_again(folder: Path) -> None:
    cuts, _ = load(folder)
    sent, expected = pickle.dumps(cuts.source), all_cuts(cuts)
    for path in (folder / "index").iterdir():
        path.unlink()
    load(folder)
    assert all_cuts(cuts) == expected
    again = pickle.loads(sent)
    assert [again[number] for number in range(len(again))] == expected


def test_tables_of_other_trainings_stay(folder: Path) -> None:
    first, _ = load(folder, "train", "more")
    load(folder, "train")
    load(folder, "train", "more", tokenizer="another")
    assert len(list((folder / "index").glob("*.npy"))) == 3
    path = folder / "tiny_cuts_more.jsonl.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 1))
    again, _ = load(folder, "train", "more")
    assert len(list((folder / "index").glob("*.npy"))) == 3
    assert again.identity() == first.identity()


def test_a_table_that_cannot_be_written_stays_in_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(index, "write_table", full)
    cuts, _ = load(folder)
    assert isinstance(cuts.source, LinesOnDisk)
    assert cuts.source.table is None


def test_nothing_that_can_be_trained_on(folder: Path) -> None:
    wanted = TrainFilter(min_duration=100.0, max_duration=200.0)
    cuts, report = load_train_cuts(folder, "tiny", ["train"], wanted)
    assert (len(cuts), report.kept) == (0, 0)
    again, _ = load_train_cuts(folder, "tiny", ["train"], wanted)
    assert again.identity() == cuts.identity()


def test_processes_make_the_same_index(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone, report = load(folder)
    monkeypatch.setattr(manifest_scan, "_PIECE_BYTES", 2000)
    monkeypatch.setattr(manifest_scan, "_processes_for", lambda _: 2)
    for path in (folder / "index").iterdir():
        path.unlink()
    together, same = load(folder)
    assert together.identity() == alone.identity()
    assert same.to_dict() == report.to_dict()
    assert all_cuts(together) == all_cuts(alone)


def test_an_interrupted_index_leaves_no_file_and_no_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(manifest_scan, "_PIECE_BYTES", 2000)
    monkeypatch.setattr(manifest_scan, "_processes_for", lambda _: 2)
    monkeypatch.setattr(index.Progress, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(folder)
    assert not list((folder / "index").iterdir())
    assert not multiprocessing.active_children()


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
