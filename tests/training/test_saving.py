"""A run whose checkpoints cannot be written, or cannot be read any more."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.short import train
from zipasr.base.errors import CheckpointError, ResourceError
from zipasr.checkpoint.checkpoint_file import load_checkpoint

FLAGS = "--save-every-n 2 --max-duration 6 --keep-last-k 9"


def log_of(exp_dir: Path) -> str:
    return max((exp_dir / "log").iterdir(), key=lambda path: path.stat().st_mtime_ns).read_text()


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Files, by the number of batches in them, for which there is no room on the disk."""
    names: set[str] = set()
    real = torch.save

    def save(value: Any, file: Path) -> None:
        if any(name in Path(file).name for name in names):
            Path(file).write_bytes(b"PK\x03\x04")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(value, file)

    monkeypatch.setattr(torch, "save", save)
    return names


@pytest.mark.usefixtures("here")
def test_training_goes_on_while_the_disk_is_full(full: set[str], tmp_path: Path) -> None:
    full |= {"checkpoint-4.pt", "checkpoint-6.pt"}
    last = train(tmp_path, FLAGS)
    assert last["batch_idx_train"] >= 8
    said = log_of(tmp_path)
    assert "checkpoint-4.pt: no space left on device" in said
    assert "Nothing is saved for now: training goes on, and tries again after 2 batches" in said
    assert f"nothing is saved since {tmp_path}/checkpoint-2.pt" in said
    # The only other file is never removed, and there is no half of one.
    assert {path.name for path in tmp_path.glob("*.pt")} >= {"checkpoint-2.pt", "checkpoint-8.pt"}
    assert not list(tmp_path.glob(".tmp-*"))
    assert not {"checkpoint-4.pt", "checkpoint-6.pt"} & {path.name for path in tmp_path.iterdir()}


@pytest.mark.usefixtures("here")
def test_an_epoch_that_cannot_be_saved_ends_the_run_and_the_command_goes_on_later(
    full: set[str], tmp_path: Path
) -> None:
    unbroken = train(tmp_path / "unbroken", FLAGS)
    full |= {"checkpoint-8.pt", "checkpoint-1", "epoch-1.pt"}
    last = r"epoch-1.pt: .* The last that was written: .*exp/checkpoint-6.pt"
    with pytest.raises(ResourceError, match=last) as info:
        train(tmp_path / "exp", f"{FLAGS} --num-epochs 2")
    assert info.value.exit_code == 5
    # The older ones went to make room, and it did not help.
    assert [path.name for path in (tmp_path / "exp").glob("*.pt")] == ["checkpoint-6.pt"]
    full.clear()
    mended = train(tmp_path / "exp", FLAGS)
    assert "continuing from" in log_of(tmp_path / "exp")
    for name, value in unbroken["model"].items():
        assert torch.equal(value, mended["model"][name])


@pytest.mark.usefixtures("here")
def test_what_a_damaged_checkpoint_costs_is_told(tmp_path: Path) -> None:
    batches = train(tmp_path, FLAGS)["batch_idx_train"]
    exp_dir = shutil.copytree(tmp_path, tmp_path / "copy")
    for path in (*exp_dir.glob("epoch-*.pt"), *exp_dir.glob("checkpoint-*.pt")):
        if path.name in ("checkpoint-2.pt", "checkpoint-4.pt", "checkpoint-6.pt"):
            continue
        path.write_bytes(path.read_bytes()[:-1000])
    assert train(exp_dir, FLAGS)["batch_idx_train"] == batches
    said = log_of(exp_dir)
    assert f"{batches - 6} batches are lost with the damaged files, and trained again" in said
    assert f"continuing from {exp_dir}/checkpoint-6.pt" in said


@pytest.mark.usefixtures("here")
def test_a_folder_of_nothing_but_damaged_checkpoints_is_not_written_over(tmp_path: Path) -> None:
    train(tmp_path, FLAGS)
    for path in tmp_path.glob("*.pt"):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"no checkpoint to go on from: .* is empty"):
        train(tmp_path, f"{FLAGS} --num-epochs 2")
    assert load_checkpoint_size(tmp_path) == 0
    train(tmp_path, f"{FLAGS} --resume 0")
    assert load_checkpoint(tmp_path / "epoch-1.pt")["cur_epoch"] == 1


def load_checkpoint_size(exp_dir: Path) -> int:
    return sum(path.stat().st_size for path in exp_dir.glob("*.pt"))
