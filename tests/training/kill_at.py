"""Trainings that are stopped from outside and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import torch

from tests import tones
from zipasr.checkpoint.checkpoint_file import load_checkpoint


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


def assert_same_training(left_path: Path, right_path: Path) -> None:
    """Compare two checkpoints to the last bit."""
    left, right = load_checkpoint(left_path), load_checkpoint(right_path)
    for entry in ("model", "model_avg"):
        assert left[entry].keys() == right[entry].keys()
        for name, value in left[entry].items():
            assert torch.equal(value, right[entry][name]), f"{entry} {name}"
    for entry in (
        "whiten",
        "balancer_calls",
        "batch_idx_train",
        "schedule_count",
        "scheduler",
        "best_valid_loss",
        "best_train_loss",
        "best_train_epoch",
        "epoch_totals",
    ):
        assert left[entry] == right[entry]


def kill_after_batch_4(folder: Path, *flags: str) -> None:
    """Train, and kill -9 all processes once batch 4 is saved."""
    process = start(folder, *flags)
    wait_for(folder / "exp" / "checkpoint-4.pt", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not list((folder / "exp").glob("epoch-*.pt"))
