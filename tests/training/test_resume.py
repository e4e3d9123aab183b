"""A run that is killed and started again equals one that was not: to the last bit."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tones
from zipasr.checkpoint.files import load_checkpoint


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until, f"{path} did not appear"
        time.sleep(0.02)


def start(folder: Path, *flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        tones.command(folder, "train.py", *flags),
        cwd=folder,
        env=tones.environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def assert_same_training(left: dict[str, Any], right: dict[str, Any]) -> None:
    for entry in ("model", "model_avg"):
        assert left[entry].keys() == right[entry].keys()
        for name, value in left[entry].items():
            assert torch.equal(value, right[entry][name]), f"{entry} {name}"
    assert left["whiten"] == right["whiten"]
    for entry in ("batch_idx_train", "schedule_count", "scheduler", "best_valid_loss"):
        assert left[entry] == right[entry]


def kill_and_continue(folder: Path, *flags: str) -> None:
    """Train, kill -9 all processes once batch 4 is saved, train again to the end."""
    process = start(folder, *flags)
    wait_for(folder / "exp" / "checkpoint-4.pt", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (folder / "exp" / "epoch-2.pt").exists()
    done = tones.run(folder, "train.py", *flags)
    assert done.returncode == 0, done.stderr
    assert "continuing from exp/checkpoint-4.pt: epoch" in done.stderr


def test_kill_9_in_the_middle_of_an_epoch_changes_nothing(workdir: Path, trained: Path) -> None:
    kill_and_continue(workdir)
    assert_same_training(
        load_checkpoint(workdir / "exp/epoch-2.pt"), load_checkpoint(trained / "exp/epoch-2.pt")
    )


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two processes need two cores")
def test_kill_9_of_two_processes_changes_nothing(workdir: Path) -> None:
    # Batches of half the length: both processes together make the batches of one.
    flags = ("--world-size", "2", "--max-duration", "5")
    unbroken = workdir / "unbroken"
    done = tones.run(workdir, "train.py", *flags, "--exp-dir", str(unbroken))
    assert done.returncode == 0, done.stderr
    kill_and_continue(workdir, *flags)
    assert_same_training(
        load_checkpoint(workdir / "exp/epoch-2.pt"), load_checkpoint(unbroken / "epoch-2.pt")
    )


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two processes need two cores")
def test_other_processes_and_batches_go_on_with_what_is_left(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    for name in ("epoch-2.pt", "checkpoint-16.pt"):
        (folder / "exp" / name).unlink()
    # Four of the eight batches of the second epoch are done.
    done = tones.run(folder, "train.py", "--world-size", "2", "--max-duration", "4")
    assert done.returncode == 0, done.stderr
    assert "continuing from exp/checkpoint-12.pt" in done.stderr
    change = "max_duration changed from 10.0 to 4.0: epoch 2 goes on with the utterances"
    assert f"world_size changed from 1 to 2, {change}" in done.stderr
    (leg,) = load_checkpoint(folder / "exp" / "epoch-2.pt")["sampler"]["legs"]
    assert (leg["layout"]["world_size"], leg["steps"]) == (1, 4)


def test_sigterm_saves_and_the_same_command_goes_on(workdir: Path, trained: Path) -> None:
    process = start(workdir)
    wait_for(workdir / "exp" / "checkpoint-4.pt", process)
    process.terminate()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "stopped and saved; the same command continues where it was" in said
    assert not (workdir / "exp" / "run.lock").exists()
    printed = said.splitlines()[-1].removeprefix("to go on: ")
    assert shlex.split(printed) == tones.command(workdir, "train.py")[1:]
    done = subprocess.run(
        [sys.executable, *shlex.split(printed)],
        cwd=workdir,
        env=tones.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert_same_training(
        load_checkpoint(workdir / "exp" / "epoch-2.pt"),
        load_checkpoint(trained / "exp" / "epoch-2.pt"),
    )


def test_a_finished_run_has_nothing_to_do_and_a_longer_one_goes_on(
    trained: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    done = tones.run(folder, "train.py", "--num-epochs", "3")
    assert done.returncode == 0, done.stderr
    assert "continuing from exp/epoch-2.pt: epoch 3, 0 of its batches done" in done.stderr
    assert (folder / "exp" / "epoch-3.pt").is_file()
    assert not (folder / "exp" / "epoch-1.pt").samefile(folder / "exp" / "epoch-3.pt")


def test_a_truncated_newest_checkpoint_is_told_and_passed_over(
    trained: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    for path in (folder / "exp").glob("checkpoint-*.pt"):
        path.unlink()
    newest = folder / "exp" / "epoch-2.pt"
    newest.write_bytes(newest.read_bytes()[:-1000])
    done = tones.run(folder, "train.py")
    assert done.returncode == 0, done.stderr
    assert "the one before it is used instead" in done.stderr
    assert "continuing from exp/epoch-1.pt" in done.stderr
    assert_same_training(load_checkpoint(newest), load_checkpoint(trained / "exp" / "epoch-2.pt"))


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (("--start-epoch", "9"), 4, "epoch-8.pt"),
        (("--start-batch", "999"), 4, "checkpoint-999.pt"),
        (("--encoder-dim", "32,48"), 4, "holds another model than the flags describe"),
        (("--min-cut-duration", "0.8"), 4, "the run was begun with other training data: 60 cuts"),
    ],
)
def test_what_cannot_be_continued_is_explained(
    trained: Path, tmp_path: Path, flags: tuple[str, ...], status: int, message: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    done = tones.run(folder, "train.py", *flags)
    assert done.returncode == status
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert message in line
    assert "Traceback" not in done.stderr
