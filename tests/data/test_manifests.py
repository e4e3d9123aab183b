"""Manifests that name shell commands, or hold what is no cut: one clear line, and nothing runs."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.conftest import TinyCorpus, write_manifests, write_recording
from zipasr.base.errors import DataError
from zipasr.data import index, loaders
from zipasr.data.augment import mix_noise
from zipasr.data.config import AugmentConfig, DataConfig, FbankConfig
from zipasr.data.fbank import compute_and_store
from zipasr.data.filters import TrainFilter
from zipasr.data.index import load_train_cuts
from zipasr.data.loaders import load_cuts, load_extra
from zipasr.data.noise_features import noise_path

Row = dict[str, Any]
COMMAND = "touch ran; cat nothing"


def source_command(row: Row) -> None:
    row["recording"]["sources"][0] |= {"type": "command", "source": COMMAND}


def source_url(row: Row) -> None:
    row["recording"]["sources"][0] |= {"type": "url", "source": f"pipe:{COMMAND}"}


def features_url(row: Row) -> None:
    row["features"] |= {"storage_type": "lilcom_url", "storage_path": f"pipe:{COMMAND}"}


def features_shard(row: Row) -> None:
    row["features"] |= {"storage_type": "zipasr_shard", "storage_path": f"pipe:{COMMAND}"}


def deep_inside(row: Row) -> None:
    row["custom"] = {"target": [{"sources": [{"type": "command", "source": COMMAND}]}]}


def sphere_name(row: Row) -> None:
    row["recording"]["sources"][0]["source"] = f"$({COMMAND}).sph"


COMMANDS = pytest.mark.parametrize(
    "change",
    [source_command, source_url, features_url, features_shard, deep_inside, sphere_name],
)


def write(corpus: TinyCorpus, folder: Path, change: Callable[[Row], None]) -> Path:
    """A manifest of which the fifth cut is changed."""
    with gzip.open(corpus.fbank / "tiny_cuts_train.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    change(rows[4])
    path = folder / "tiny_cuts_train.jsonl.gz"
    with gzip.open(path, "wt") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)
    return path


@COMMANDS
@pytest.mark.parametrize("is_large", [False, True])
def test_manifests_with_commands_are_refused(
    change: Callable[[Row], None],
    is_large: bool,
    corpus: TinyCorpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(corpus, tmp_path, change)
    if is_large:
        for module in (loaders, index):
            monkeypatch.setattr(module, "are_large", lambda paths: True)
    refusal = r"utt04.* would be read by the shell command '.*Fix: .* add --allow-commands 1\.$"
    with pytest.raises(DataError, match=refusal):
        load_train_cuts(tmp_path, "tiny", ["train"], TrainFilter())
    with pytest.raises(DataError, match=refusal):
        list(load_cuts(tmp_path, "tiny", ["train"]))
    trusting = DataConfig(extra_manifest=(f"more={path}:0.1",), allow_commands=True)
    suspicious = DataConfig(extra_manifest=(f"more={path}:0.1",))
    with pytest.raises(DataError, match=refusal):
        list(load_extra(suspicious.extras[0]))
    assert len(list(load_extra(trusting.extras[0]))) == len(corpus.cuts)
    path.rename(noise_path(tmp_path))
    with pytest.raises(DataError, match=refusal):
        mix_noise(AugmentConfig(), tmp_path)
    assert not (tmp_path / "ran").exists()


def test_an_index_of_trusted_times_is_not_trusted_later(
    corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(corpus, tmp_path, source_command)
    for module in (loaders, index):
        monkeypatch.setattr(module, "are_large", lambda paths: True)
    wanted = TrainFilter()
    cuts, _ = load_train_cuts(tmp_path, "tiny", ["train"], wanted, allow_commands=True)
    assert {cuts.source[n].id for n in range(len(cuts))} > {"utt04-4"}
    with pytest.raises(DataError, match="--allow-commands 1"):
        load_train_cuts(tmp_path, "tiny", ["train"], wanted)


def test_recordings_with_commands_are_refused_before_features(tmp_path: Path) -> None:
    recording = write_recording(tmp_path, "a", 1.2)
    recording.sources[0].type = "command"
    recording.sources[0].source = f"cat {tmp_path}/a.flac"
    write_manifests(tmp_path, "dev", [recording], ["ON"])
    with pytest.raises(DataError, match="a would be read by the shell command 'cat "):
        compute_and_store("tiny", "dev", tmp_path, tmp_path / "out", FbankConfig(num_jobs=1))
    trusting = FbankConfig(num_jobs=1, allow_commands=True)
    report = compute_and_store("tiny", "dev", tmp_path, tmp_path / "out", trusting)
    assert report.cuts == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"duration": float("nan")}, "utt04-.*: its duration is nan"),
        ({"duration": -1.0}, "utt04-.*: its duration is -1.0"),
        ({"duration": "long"}, "utt04-.*: its duration is 'long'"),
        ({"supervisions": [{"text": 5}]}, "utt04-.*: its text is 5"),
        ({"supervisions": [{"start": None}]}, "utt04-.*: its supervision's start is None"),
        ({"supervisions": 7}, "not a readable manifest of cuts"),
        ({"type": "Nothing"}, "not a readable manifest of cuts: Unexpected cut type"),
        ({"features": []}, "not a readable manifest of cuts"),
    ],
)
def test_rows_that_are_no_cuts(changes: Row, said: str, corpus: TinyCorpus, tmp_path: Path) -> None:
    def change(row: Row) -> None:
        for name, value in changes.items():
            if isinstance(value, list) and value:
                row[name][0] |= value[0]
            else:
                row[name] = value

    write(corpus, tmp_path, change)
    with pytest.raises(DataError, match=said) as refusal:
        load_cuts(tmp_path, "tiny", ["train"])
    assert "\n" not in str(refusal.value)


def test_features_in_a_pipe_do_not_hang(corpus: TinyCorpus, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.lca")
    write(corpus, tmp_path, lambda row: row["features"].update(storage_path=f"{tmp_path}/pipe.lca"))
    with pytest.raises(DataError, match=r"pipe\.lca cannot be read: it is a pipe or a device"):
        load_cuts(tmp_path, "tiny", ["train"])


def test_what_is_read_is_what_lhotse_reads(corpus: TinyCorpus) -> None:
    cuts = load_cuts(corpus.fbank, "tiny", ["train"])
    for cut, expected in zip(cuts, corpus.cuts, strict=True):
        assert cut == expected
        np.testing.assert_array_equal(cut.load_features(), expected.load_features())
