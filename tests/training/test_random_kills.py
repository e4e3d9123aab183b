"""Kills at random moments of each long command: equal results, nothing left behind."""

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
from zipasr.checkpoint.checkpoint_file import load_checkpoint

IS_LONG = "LONG_TESTS" in os.environ
SEEDS = 17 if IS_LONG else 1  # two kills each: with six kinds of work 204
PREPARE = "import sys; from zipasr.cli.stages import main; sys.exit(main(sys.argv[1:]))"


def finish_in_spite_of_kills(
    folder: Path, words: list[str], seed: int, longest_seconds: float, kills: int = 2
) -> None:
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
        seconds = rng.uniform(1.0, longest_seconds) if kill < kills else 600.0
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


def digests(folder: Path) -> dict[str, str]:
    """Return what is in each file of a folder, logs apart; of some only that they are there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "log" not in path.name)
    return {str(path.relative_to(folder)): content_of(path) for path in files}


def content_of(path: Path) -> str:
    if path.suffix in (".html", ".json", ".md"):  # they name times and the folder of the recipe
        return ""
    if path.suffix != ".pt":
        return digest_of(path)
    # torch names the archive in the file by the temporary file.
    model = load_checkpoint(path)["model"]
    return str({name: hash(tensor.numpy().tobytes()) for name, tensor in model.items()})


@pytest.fixture(scope="session")
def undisturbed(
    trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, str]]:
    """What each command writes into a run without a kill."""
    written = {}
    for script in AFTER_TRAINING:
        folder = tmp_path_factory.mktemp("undisturbed") / "run"
        shutil.copytree(trained, folder)
        before = digests(folder / "exp")
        tones.check(tones.run(folder, script))
        after = digests(folder / "exp")
        written[script] = {name: after[name] for name in after if name not in before}
        assert written[script]
    return written


@pytest.fixture(scope="session")
def trained_by_two(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained-by-two") / "run"
    shutil.copytree(prepared, folder)
    tones.check(tones.run(folder, "train.py", *TWO))
    return folder


TWO = ("--world-size", "2")
AFTER_TRAINING = ("decode.py", "export.py", "average.py")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS))
def test_training_that_is_killed_at_random(seed: int, workdir: Path, trained: Path) -> None:
    finish_in_spite_of_kills(workdir, tones.command(workdir, "train.py"), seed, 12.0)
    assert_same_training(workdir / "exp" / "epoch-2.pt", trained / "exp" / "epoch-2.pt")
    assert_nothing_is_left(workdir / "exp")


@pytest.mark.slow
@pytest.mark.skipif(not IS_LONG, reason="takes ten minutes: run it with LONG_TESTS=1")
@pytest.mark.skipif(tones.processes() < 2, reason="needs two cores")
@pytest.mark.parametrize("seed", range(SEEDS))
def test_training_by_two_that_is_killed_at_random(
    seed: int, workdir: Path, trained_by_two: Path
) -> None:
    finish_in_spite_of_kills(workdir, tones.command(workdir, "train.py", *TWO), seed, 20.0)
    assert_same_training(workdir / "exp" / "epoch-2.pt", trained_by_two / "exp" / "epoch-2.pt")
    assert_nothing_is_left(workdir / "exp")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_preparation_that_is_killed_at_random(seed: int, workdir: Path, prepared: Path) -> None:
    shutil.rmtree(workdir / "data")
    words = [sys.executable, "-c", PREPARE, "--recipe", "./tones", "--num-jobs", "1"]
    finish_in_spite_of_kills(workdir, words, seed, 12.0)
    for part in ("dev", "test", "train"):
        features = f"data/tones/fbank/manifests_feats_{part}/feats-00000.lca"
        assert digest_of(workdir / features) == digest_of(prepared / features)
    assert_nothing_is_left(workdir / "data")


@pytest.mark.slow
@pytest.mark.skipif(not IS_LONG, reason="takes ten minutes: run it with LONG_TESTS=1")
@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("script", AFTER_TRAINING)
def test_what_follows_training_killed_at_random(
    script: str, seed: int, run_folder: Path, undisturbed: dict[str, dict[str, str]]
) -> None:
    finish_in_spite_of_kills(run_folder, tones.command(run_folder, script), seed, 8.0)
    written = digests(run_folder / "exp")
    expected = undisturbed[script]
    assert {name: written.get(name) for name in expected} == expected
    assert_nothing_is_left(run_folder)
