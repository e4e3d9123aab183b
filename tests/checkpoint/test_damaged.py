"""Damage inside the tensors of a checkpoint: noticed on load, an older one is taken, it is told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from zipasr.base.errors import CheckpointError
from zipasr.checkpoint.averaging import read_chosen
from zipasr.checkpoint.checkpoint_file import load_checkpoint, save_checkpoint
from zipasr.checkpoint.config import ChooseCheckpoint
from zipasr.checkpoint.selection import with_last_epoch
from zipasr.training.session import newest_checkpoint

SIZE = 4000


def write(path: Path, batches: int, value: float = 1.5) -> None:
    """A checkpoint with all that a training needs to go on."""
    weights = {"w": torch.full((SIZE,), value)}
    more = {"model_avg": weights, "optimizer": {}, "scheduler": {}, "average_period": 1}
    save_checkpoint(path, {"model": weights, "batch_idx_train": batches, **more})


def zeros_inside(path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = content.index(torch.full((100,), 1.5).numpy().tobytes())
    content[place : place + 4096] = bytes(4096)
    path.write_bytes(content)


def one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((100,), 1.5).numpy().tobytes()) + 200] ^= 1
    path.write_bytes(content)


def not_finite(path: Path) -> None:
    write(path, 40, float("nan"))


DAMAGES = pytest.mark.parametrize(
    ("damage", "said"),
    [
        (zeros_inside, "is damaged: .*does not have the checksum"),
        (one_bit, "is damaged: .*does not have the checksum"),
        (not_finite, "has weights that are not finite numbers, in w"),
    ],
)


@DAMAGES
def test_training_goes_on_from_the_one_before(
    damage: Callable[[Path], None], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for batches in (10, 20, 40):
        write(tmp_path / f"checkpoint-{batches}.pt", batches)
    damage(tmp_path / "checkpoint-40.pt")
    caplog.set_level(logging.WARNING)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest[0].name == "checkpoint-20.pt"
    assert "the one before it is used instead" in caplog.text
    assert "20 batches are lost with the damaged files, and trained again" in caplog.text
    for batches in (10, 20):
        damage(tmp_path / f"checkpoint-{batches}.pt")
    with pytest.raises(CheckpointError, match=f"no checkpoint to go on from: .*{said}"):
        newest_checkpoint(tmp_path)


@DAMAGES
def test_decoding_takes_the_epoch_before_or_refuses(
    damage: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    for epoch in (1, 2, 3):
        write(tmp_path / f"epoch-{epoch}.pt", epoch)
    damage(tmp_path / "epoch-3.pt")
    choose, notes = with_last_epoch(tmp_path, ChooseCheckpoint(avg=1))
    assert choose.epoch == 2
    assert notes[0].startswith(f"epoch 3 is passed over: {tmp_path}/epoch-3.pt ")
    assert torch.equal(read_chosen(tmp_path, choose).weights["w"], torch.full((SIZE,), 1.5))
    for averaged in (True, False):
        typed = ChooseCheckpoint(epoch=3, avg=1, use_averaged_model=averaged)
        with pytest.raises(CheckpointError, match=rf"epoch-3\.pt {said}"):
            read_chosen(tmp_path, typed)
    # A window between two running averages needs its beginning, too.
    damage(tmp_path / "epoch-1.pt")
    with pytest.raises(CheckpointError, match=rf"epoch-1\.pt {said}"):
        read_chosen(tmp_path, choose)


def test_a_file_written_without_checksums_is_read(tmp_path: Path) -> None:
    path = tmp_path / "plain.pt"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"model": {"w": torch.ones(3)}}, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(load_checkpoint(path)["model"]["w"], torch.ones(3))
