"""The same features from this process and from two workers of a Dask cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet

from tests.data.conftest import CONFIG, TinyCorpus
from zipasr.base.errors import ResourceError
from zipasr.data import fbank
from zipasr.data.config import FbankConfig
from zipasr.data.fbank import compute_and_store

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Address of a cluster of two processes on this machine."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as cluster:
        yield cluster.scheduler_address


def test_two_workers_compute_what_one_process_does(
    corpus: TinyCorpus, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fbank, "_CUTS_PER_ARCHIVE", 6)
    config = FbankConfig(executor="dask", scheduler=scheduler)
    # Relative paths count from here, on the workers too.
    monkeypatch.chdir(tmp_path)
    report = compute_and_store("tiny", "train", corpus.manifests, Path("there"), config)
    here = compute_and_store("tiny", "train", corpus.manifests, Path("here"), CONFIG)
    theirs, ours = (CutSet.from_file(r.manifest).to_eager() for r in (report, here))
    assert [cut.id for cut in theirs] == [cut.id for cut in ours]
    assert len(list(Path("there/tiny_feats_train").glob("*.lca"))) == 4
    for one, other in zip(theirs, ours, strict=True):
        np.testing.assert_array_equal(one.load_features(), other.load_features())


def test_a_scheduler_that_is_not_there_is_one_sentence(
    corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zipasr.data.feature_store._SECONDS_TO_CONNECT", 0.2)
    config = FbankConfig(executor="dask", scheduler="tcp://127.0.0.1:1")
    with pytest.raises(ResourceError, match="no Dask scheduler answers there"):
        compute_and_store("tiny", "train", corpus.manifests, tmp_path, config)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ResourceError, match="pip install distributed"):
        list(fbank.run_tasks(abs, [1], num_jobs=1, scheduler="x"))


def test_the_two_flags_belong_together() -> None:
    for flags in ({"executor": "dask"}, {"scheduler": "tcp://x"}):
        with pytest.raises(ValueError, match="belong together"):
            FbankConfig(**flags)
