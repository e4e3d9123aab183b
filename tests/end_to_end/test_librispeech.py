"""Genuine LibriSpeech recordings from the manifests to transcripts, by the commands one types."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lhotse import CutSet

from tests import tones

GENUINE = tones.ROOT.parent / "shared" / "data" / "LibriSpeech"
LANG = "data/librispeech/lang_bpe_90-mini-libri"
FBANK = "data/librispeech/fbank"

# A model and a run that are as small as the machinery allows.
TINY = """
--num-encoder-layers 1,1 --downsampling-factor 1,2 --encoder-dim 32,40
--encoder-unmasked-dim 24,32 --feedforward-dim 48,64 --num-heads 2 --query-head-dim 8
--value-head-dim 8 --pos-head-dim 4 --pos-dim 16 --cnn-module-kernel 7 --embed-channels 4,8,16
--decoder-dim 32 --joiner-dim 32 --tensorboard 0 --num-workers 0 --warm-step 10
--max-duration 150 --num-buckets 2 --average-period 1 --num-epochs 1 --world-size 1
"""
AVERAGE = ("--epoch", "1", "--avg", "1", "--use-averaged-model", "0")


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(words),
        cwd=folder,
        env=tones.environment() | {"PYTHON": sys.executable, "PYTHONPATH": str(tones.ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def make_project(folder: Path) -> Path:
    folder.mkdir()
    for name in ("prepare.sh", "train.py", "decode.py"):
        shutil.copy(tones.ROOT / name, folder)
    for name in ("local", "egs"):
        shutil.copytree(tones.ROOT / name, folder / name)
    return folder


@pytest.mark.skipif(not GENUINE.is_dir(), reason=f"{GENUINE} is not there")
def test_from_recordings_to_a_word_error_rate(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "project")
    mini = ("--recipe", "librispeech", "--mini-libri", "1")
    where = os.path.relpath(GENUINE.parent, folder)
    stages = ("--stage", "1", "--stop-stage", "3", "--num-jobs", "1", "--vocab-size", "90")
    done = run(folder, "./prepare.sh", *mini, "--dl-dir", where, *stages)
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines() if " took " in line] == [
        "1:",
        "2:",
        "3:",
    ]
    _check_layout(folder, where)
    words = (*mini, "--bpe-model", f"{LANG}/bpe.model")
    # Three speeds of each of the 55 training utterances.
    done = run(folder, sys.executable, "train.py", *words, *TINY.split())
    assert done.returncode == 0, done.stderr
    assert "training set: kept 165 of 165 cuts" in done.stderr
    done = run(folder, sys.executable, "decode.py", *words, *AVERAGE)
    assert done.returncode == 0, done.stderr
    results = folder / "exp/librispeech-mini-libri/greedy_search"
    (recogs,) = results.glob("recogs-dev-clean-2-*.txt")
    refs = [line for line in recogs.read_text().splitlines() if "\tref=" in line]
    assert len(refs) == 19
    done = run(folder, "./prepare.sh", *mini, "--vocab-size", "90", "--status")
    assert done.stdout.count(": done ") == 3


def _check_layout(folder: Path, where: str) -> None:
    """See that the files are called as in icefall."""
    for name in ("bpe.model", "tokens.txt", "words.txt", "lexicon.txt", "transcript_words.txt"):
        assert (folder / LANG / name).is_file()
    cuts = list(CutSet.from_file(folder / FBANK / "librispeech_cuts_train-clean-5.jsonl.gz"))
    speeds = [name.rsplit("_sp", 1)[1] for name in (cut.id for cut in cuts) if "_sp" in name]
    assert (speeds.count("0.9"), speeds.count("1.1"), len(cuts)) == (55, 55, 165)
    assert all(cut.num_features == 80 for cut in cuts)
    with gzip.open(
        folder / "data/librispeech/manifests/librispeech_recordings_dev-clean-2.jsonl.gz"
    ) as lines:
        source = json.loads(next(lines))["sources"][0]["source"]
    assert source.startswith(f"{where}/LibriSpeech/dev-clean-2/")
