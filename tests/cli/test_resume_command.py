"""The command that is printed when a run is stopped."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import tones
from zipasr.cli.train import resume_command
from zipasr.training.config import TrainConfig

SCRIPT = str(tones.ROOT / "train.py")


@pytest.mark.parametrize(
    ("typed", "train", "wanted"),
    [
        ("--recipe espeak --seed 3", {}, "--recipe espeak --seed 3"),
        ("--resume 0 --seed 3", {"resume": False}, "--seed 3 --resume 1"),
        ("--seed 3", {"resume": False}, "--seed 3 --resume 1"),
        ("--resume --seed=3", {}, "--seed=3"),
        (
            "--start-epoch 4 --start-batch=9 --seed 3",
            {"start_epoch": 4, "start_batch": 9},
            "--seed 3 --start-epoch 1 --start-batch 0",
        ),
    ],
)
def test_flags_that_say_where_to_begin_are_left_out(
    typed: str, train: dict[str, int], wanted: str
) -> None:
    command = resume_command([SCRIPT, *typed.split()], TrainConfig(**train), {})  # type: ignore[arg-type]
    assert command == f"{SCRIPT} {wanted}"


def test_the_interpreter_is_the_one_that_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/python3")
    words = ["train.py", "--seed", "3"]
    for executable, typed in (
        ("/usr/bin/python", "python3"),
        (str(tmp_path / ".venv/bin/python"), ".venv/bin/python"),
        ("/opt/other/bin/python", "/opt/other/bin/python"),
    ):
        monkeypatch.setattr("sys.executable", executable)
        assert resume_command(words, TrainConfig(), {}) == f"{typed} train.py --seed 3"


def test_it_is_started_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: sys.executable)
    words = ["train.py", "--exp-dir", "my exp"]
    assert resume_command(words, TrainConfig(), {}) == "python3 train.py --exp-dir 'my exp'"
    launched = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "8", "GROUP_WORLD_SIZE": "1"}
    command = resume_command(words, TrainConfig(), launched)
    assert command == "torchrun --nproc-per-node 8 train.py --exp-dir 'my exp'"
    several = launched | {"GROUP_WORLD_SIZE": "2"}
    assert resume_command(words, TrainConfig(), several).startswith("torchrun --nnodes 2 ... ")
