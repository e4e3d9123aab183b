"""Stored features that were damaged or deleted: noticed by their checksums, computed again."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet

from tests.data.conftest import CONFIG, TinyCorpus
from zipasr.data.config import FbankConfig
from zipasr.data.fbank import FbankReport, compute_and_store
from zipasr.data.filters import TrainFilter
from zipasr.data.validate import DAMAGED_FEATURES, validate_split


def archive_in(folder: Path) -> Path:
    return sorted(
        path for path in (folder / "tiny_feats_train").rglob("*") if path.name != "made_from.json"
    )[-1]


def flip(folder: Path) -> None:
    path = archive_in(folder)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_off(folder: Path) -> None:
    path = archive_in(folder)
    path.write_bytes(path.read_bytes()[:-10])


def delete(folder: Path) -> None:
    archive_in(folder).unlink()


def delete_all(folder: Path) -> None:
    shutil.rmtree(folder / "tiny_feats_train")


def cut_manifest(folder: Path) -> None:
    path = folder / "tiny_cuts_train.jsonl.gz"
    path.write_bytes(path.read_bytes()[:200])


def computed(corpus: TinyCorpus, folder: Path, config: FbankConfig = CONFIG) -> FbankReport:
    return compute_and_store("tiny", "train", corpus.manifests, folder, config)


def assert_as_before(report: FbankReport, corpus: TinyCorpus) -> None:
    cuts = CutSet.from_file(report.manifest).to_eager()
    for cut, expected in zip(cuts, corpus.cuts, strict=True):
        np.testing.assert_allclose(cut.load_features(), expected.load_features(), atol=0.2)


@pytest.mark.parametrize("storage", ["lilcom_chunky", "numpy_files", "shar"])
@pytest.mark.parametrize("damage", [flip, cut_off, delete])
def test_damaged_archives_are_reported_and_computed_again(
    storage: str,
    damage: Callable[[Path], None],
    corpus: TinyCorpus,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = FbankConfig(num_jobs=1, storage=storage)  # type: ignore[arg-type]
    computed(corpus, tmp_path, config)
    damage(tmp_path)
    report = validate_split(tmp_path, "tiny", "train", TrainFilter(), num_samples=0)
    assert report.problems[DAMAGED_FEATURES] == 1
    caplog.set_level(logging.WARNING)
    again = computed(corpus, tmp_path, config)
    assert not again.reused
    assert "computing the features again" in caplog.text
    assert computed(corpus, tmp_path, config).reused
    assert not validate_split(tmp_path, "tiny", "train", TrainFilter()).problems


@pytest.mark.parametrize("damage", [delete_all, cut_manifest])
def test_what_is_gone_is_computed_again(
    damage: Callable[[Path], None], corpus: TinyCorpus, tmp_path: Path
) -> None:
    computed(corpus, tmp_path)
    damage(tmp_path)
    report = computed(corpus, tmp_path)
    assert not report.reused
    assert_as_before(report, corpus)


def test_force_computes_again_what_is_whole(corpus: TinyCorpus, tmp_path: Path) -> None:
    computed(corpus, tmp_path)
    assert computed(corpus, tmp_path).reused
    report = computed(corpus, tmp_path, replace(CONFIG, force=True))
    assert not report.reused
    assert_as_before(report, corpus)


def test_an_archive_damaged_before_the_rest_was_done_is_made_again(
    corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zipasr.data.fbank._CUTS_PER_ARCHIVE", 5)
    with monkeypatch.context() as patch:
        patch.setattr("zipasr.data.fbank.forget_archives", lambda folder: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            computed(corpus, tmp_path)
    (tmp_path / ".partial-tiny_feats_train" / "feats-00001.lca").write_bytes(b"half")
    assert_as_before(computed(corpus, tmp_path), corpus)
