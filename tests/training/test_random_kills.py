"""Kills at random moments of training and preparation: equal results, nothing left behind."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tones
from tests.training.kill_at import assert_same_training
from zipasr.base.files import digest_of

SEEDS = 100 if "LONG_TESTS" in os.environ else 1  # two kills each
LONGEST_SECONDS = 12.0
PREPARE = "import sys; from zipasr.cli.stages import main; sys.exit(main(sys.argv[1:]))"


def finish_in_spite_of_kills(folder: Path, words: list[str], seed: int, kills: int = 2) -> None:
    rng = random.Random(seed)
    for kill in range(kills + 1):
        process = subprocess.Popen(
            words,
            cwd=folder,
            env=tones.environment() | {"PYTHONPATH": str(tones.ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        seconds = rng.uniform(1.0, LONGEST_SECONDS) if kill < kills else 600.0
        try:
            said, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            continue
        assert process.returncode == 0, said
        return
    raise AssertionError("it did not end")


def assert_nothing_is_left(folder: Path) -> None:
    left = [p for p in folder.rglob("*") if p.name.startswith((".tmp-", ".partial-"))]
    assert [*left, *folder.rglob("run.lock")] == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS))
def test_training_that_is_killed_at_random(seed: int, workdir: Path, trained: Path) -> None:
    finish_in_spite_of_kills(workdir, tones.command(workdir, "train.py"), seed)
    assert_same_training(workdir / "exp" / "epoch-2.pt", trained / "exp" / "epoch-2.pt")
    assert_nothing_is_left(workdir / "exp")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_preparation_that_is_killed_at_random(seed: int, workdir: Path, prepared: Path) -> None:
    shutil.rmtree(workdir / "data")
    words = [sys.executable, "-c", PREPARE, "--recipe", "./tones", "--num-jobs", "1"]
    finish_in_spite_of_kills(workdir, words, seed)
    for part in ("dev", "test", "train"):
        features = f"data/tones/fbank/manifests_feats_{part}/feats-00000.lca"
        assert digest_of(workdir / features) == digest_of(prepared / features)
    assert_nothing_is_left(workdir / "data")
