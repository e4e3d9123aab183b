"""A run that is killed and started again equals one that was not: to the last bit."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tones
from tests.captured_output import Call
from tests.training.kill_at import assert_same_training, kill_after_batch_4, start, wait_for
from zipasr.checkpoint.checkpoint_file import load_checkpoint
from zipasr.cli import train


def test_kill_9_and_then_sigterm_change_nothing(workdir: Path, trained: Path) -> None:
    kill_after_batch_4(workdir)
    process = start(workdir)
    wait_for(workdir / "exp" / "checkpoint-8.pt", process)
    process.terminate()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "continuing from exp/checkpoint-4.pt: epoch 1" in said
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
    assert_same_training(workdir / "exp" / "epoch-2.pt", trained / "exp" / "epoch-2.pt")


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two processes need two cores")
def test_other_processes_and_batches_go_on_with_what_is_left(run_folder: Path) -> None:
    folder = run_folder
    for name in ("epoch-2.pt", "checkpoint-16.pt"):
        (folder / "exp" / name).unlink()
    # Four of the eight batches of the second epoch are done.
    done = tones.run(folder, "train.py", "--world-size", "2", "--max-duration", "4")
    assert done.returncode == 0, done.stderr
    assert "continuing from exp/checkpoint-12.pt" in done.stderr
    change = "max_duration changed from 10.0 to 4.0: epoch 2 goes on with the utterances"
    assert f"world_size changed from 1 to 2, {change}" in done.stderr
    # Of two processes, the last line tells what they took together.
    assert re.search(r"trained 2 epochs in \S+ \([\d.]+ [CG]PU-hours\), see exp\n", done.stderr)
    (leg,) = load_checkpoint(folder / "exp" / "epoch-2.pt")["sampler"]["legs"]
    assert (leg["layout"]["world_size"], leg["steps"]) == (1, 4)


def test_a_finished_run_has_nothing_to_do_and_a_longer_one_goes_on(
    run_folder: Path, call: Call
) -> None:
    said = call(train.main, run_folder, "--num-epochs", "3")
    assert said.status == 0, said.err
    assert "continuing from exp/epoch-2.pt: epoch 3, 0 of its batches done" in said.err
    assert (run_folder / "exp" / "epoch-3.pt").is_file()
    assert not (run_folder / "exp" / "epoch-1.pt").samefile(run_folder / "exp" / "epoch-3.pt")


def test_a_truncated_newest_checkpoint_is_told_and_passed_over(
    trained: Path, run_folder: Path
) -> None:
    folder = run_folder
    for path in (folder / "exp").glob("checkpoint-*.pt"):
        path.unlink()
    newest = folder / "exp" / "epoch-2.pt"
    newest.write_bytes(newest.read_bytes()[:-1000])
    done = tones.run(folder, "train.py")
    assert done.returncode == 0, done.stderr
    assert "the one before it is used instead" in done.stderr
    assert "continuing from exp/epoch-1.pt" in done.stderr
    assert_same_training(newest, trained / "exp" / "epoch-2.pt")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--start-epoch", "9"), "epoch-8.pt"),
        (("--start-batch", "999"), "checkpoint-999.pt"),
        (("--encoder-dim", "32,48"), "holds another model than the flags describe"),
        (("--min-cut-duration", "0.8"), "the run was begun with other training data: 60 cuts"),
    ],
)
def test_what_cannot_be_continued_is_explained(
    run_folder: Path, call: Call, flags: tuple[str, ...], message: str
) -> None:
    said = call(train.main, run_folder, *flags)
    assert said.status == 4
    assert message in said.error_after_logs
