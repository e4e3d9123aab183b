"""A disk that fills up: what is removed, what stays, and what is said."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests import disk
from zipasr.base.errors import ResourceError
from zipasr.checkpoint import retention as keeping
from zipasr.checkpoint.checkpoint_file import load_checkpoint, save_checkpoint
from zipasr.checkpoint.config import ChooseCheckpoint
from zipasr.checkpoint.retention import (
    bytes_of_checkpoint,
    bytes_to_come,
    epochs_to_spare,
    hardlink,
    keep_checkpoint,
    last_saved,
    oldest_to_spare,
    thin_epochs,
    warn_of_space,
)
from zipasr.checkpoint.selection import AVGS, candidates

SIZE = 200_000  # bytes of the weights of one checkpoint


def content(batch: int) -> dict[str, Any]:
    weights = {"w": torch.full((SIZE // 4,), float(batch))}
    return {"model": weights, "batch_idx_train": batch, "cur_epoch": 1}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def age(folder: Path, *stems: str) -> None:
    """Make files, each a second younger than the one before."""
    for second, stem in enumerate(stems):
        path = folder / f"{stem}.pt"
        path.touch()
        os.utime(path, (1000 + second, 1000 + second))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for three checkpoints and a half."""
    with disk.small(tmp_path / "disk", int(3.5 * SIZE)) as folder:
        yield folder


def test_the_oldest_is_spared_first_and_the_best_and_the_newest_never(tmp_path: Path) -> None:
    age(tmp_path, "epoch-1", "checkpoint-8", "epoch-2", "checkpoint-12", "epoch-3", "epoch-3-avg-1")
    os.link(tmp_path / "epoch-2.pt", tmp_path / "best-valid-loss.pt")
    gone = []
    while path := oldest_to_spare(tmp_path, tmp_path / "epoch-4.pt"):
        gone.append(path.name)
        path.unlink()
    assert gone == ["checkpoint-8.pt", "checkpoint-12.pt", "epoch-1.pt"]
    assert oldest_to_spare(tmp_path / "nowhere", tmp_path) is None


def test_a_clock_that_was_set_back_makes_no_checkpoint_older(tmp_path: Path) -> None:
    age(tmp_path, "checkpoint-12", "checkpoint-8", "checkpoint-4")
    spared = oldest_to_spare(tmp_path, tmp_path / "checkpoint-16.pt")
    assert spared == tmp_path / "checkpoint-4.pt"


def test_a_full_disk_loses_its_oldest_checkpoint_and_no_other(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for batch in (4, 8, 12):
        keep_checkpoint(small_disk / f"checkpoint-{batch}.pt", content(batch))
    keep_checkpoint(small_disk / "checkpoint-16.pt", content(16))
    assert names(small_disk) == [
        "checkpoint-12.pt", "checkpoint-16.pt", "checkpoint-8.pt", "last.json",
    ]  # fmt: skip
    assert "checkpoint-4.pt is removed to make room for checkpoint-16.pt" in caplog.text
    for batch in (8, 12, 16):
        found = load_checkpoint(small_disk / f"checkpoint-{batch}.pt")
        assert float(found["model"]["w"].mean()) == batch


def test_a_disk_that_others_fill_keeps_the_last_good_files(small_disk: Path) -> None:
    keep_checkpoint(small_disk / "epoch-1.pt", content(10))
    hardlink(small_disk / "epoch-1.pt", "best-valid-loss.pt")
    keep_checkpoint(small_disk / "epoch-2.pt", content(20))
    (small_disk / "others").write_bytes(b"x" * int(0.9 * SIZE))
    with pytest.raises(ResourceError, match="earlier checkpoints are untouched") as info:
        keep_checkpoint(small_disk / "epoch-3.pt", content(30))
    assert re.search(r": (no space left|it ended before all was).* MB free", str(info.value))
    assert names(small_disk) == [
        "best-valid-loss.pt", "epoch-1.pt", "epoch-2.pt", "last.json", "others",
    ]  # fmt: skip
    assert load_checkpoint(small_disk / "epoch-2.pt")["batch_idx_train"] == 20
    assert last_saved(small_disk) == {"name": "epoch-2.pt", "cur_epoch": 1, "batch_idx_train": 20}


@pytest.mark.parametrize(
    ("error", "removed"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (RuntimeError("unexpected pos 704 vs 598"), True),
        (OSError(errno.EROFS, "Read-only file system"), False),
        (OSError(errno.EIO, "Input/output error"), False),
    ],
)
def test_only_want_of_room_costs_an_old_checkpoint(
    error: Exception, removed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for batch in (4, 8):
        save_checkpoint(tmp_path / f"checkpoint-{batch}.pt", content(batch))

    def broken_save(_: object, file: Path) -> None:
        Path(file).write_bytes(b"PK\x03\x04 half of it")
        raise error

    monkeypatch.setattr(torch, "save", broken_save)
    with pytest.raises(ResourceError):
        keep_checkpoint(tmp_path / "checkpoint-12.pt", content(12))
    assert (
        names(tmp_path) == ["checkpoint-8.pt"]
        if removed
        else ["checkpoint-4.pt", "checkpoint-8.pt"]
    )


@given(st.integers(1, 70), st.integers(1, 9), st.integers(1, 6))
def test_thinned_epochs_leave_every_average_of_the_last(last: int, step: int, keep: int) -> None:
    every = [epoch for epoch in range(1, last + 1) if (last - epoch) % step == 0]
    kept: list[int] = []
    for epoch in every:
        kept.append(epoch)
        spared = epochs_to_spare(kept, last, keep)
        kept = [one for one in kept if one not in spared]
        assert kept[-keep:] == every[: every.index(epoch) + 1][-keep:]
        assert len(kept) <= keep + len(AVGS)
    with TemporaryDirectory() as whole, TemporaryDirectory() as thinned:
        age(Path(whole), *(f"epoch-{epoch}" for epoch in every))
        age(Path(thinned), *(f"epoch-{epoch}" for epoch in kept))
        assert averages_of(Path(thinned), last) == averages_of(Path(whole), last)


def averages_of(folder: Path, last: int) -> list[int]:
    if len(list(folder.iterdir())) < 2:
        return []
    return [one.avg for one in candidates(folder, ChooseCheckpoint()) if one.epoch == last]


def test_thinning_deletes_files_and_spares_the_best(tmp_path: Path) -> None:
    age(tmp_path, *(f"epoch-{epoch}" for epoch in range(1, 11)), "epoch-10-avg-4", "checkpoint-7")
    hardlink(tmp_path / "epoch-5.pt", "best-dev-wer.pt")
    gone = [path.name for path in thin_epochs(tmp_path, 10, 3)]
    # 9, 8, 7, 5 and 2 begin averages of 1, 2, 3, 5 and 8 epochs.
    assert gone == ["epoch-1.pt", "epoch-3.pt", "epoch-4.pt", "epoch-6.pt"]
    assert (tmp_path / "best-dev-wer.pt").is_file()
    assert {"epoch-10-avg-4.pt", "checkpoint-7.pt"} <= {*names(tmp_path)}


def test_without_hard_links_the_best_is_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path / "epoch-1.pt", content(1))
    hardlink(tmp_path / "epoch-1.pt", "best-valid-loss.pt")
    assert (tmp_path / "best-valid-loss.pt").samefile(tmp_path / "epoch-1.pt")

    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    save_checkpoint(tmp_path / "epoch-2.pt", content(2))
    monkeypatch.setattr(keeping.os, "link", no_links)
    hardlink(tmp_path / "epoch-2.pt", "best-valid-loss.pt")
    assert load_checkpoint(tmp_path / "best-valid-loss.pt")["batch_idx_train"] == 2
    assert names(tmp_path) == ["best-valid-loss.pt", "epoch-1.pt", "epoch-2.pt"]


def test_the_room_that_a_run_needs_is_told_when_it_is_not_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = nn.Linear(99, 1000)
    assert bytes_of_checkpoint(model) == 100_000 * 20
    age(tmp_path, "checkpoint-4", "epoch-1")
    assert bytes_to_come(10, tmp_path, iterations=3, epochs=5) == 10 * (2 + 5 + 1)
    warn_of_space(tmp_path, 1000)
    assert not caplog.text
    warn_of_space(tmp_path, 10**18)
    assert "will take about 1000000000000 MB more" in caplog.text


def test_the_note_of_the_last_one_may_be_missing_or_damaged(tmp_path: Path) -> None:
    assert last_saved(tmp_path) == {}
    for text in ("{", "[]", json.dumps({"name": "epoch-1.pt"})):
        (tmp_path / "last.json").write_text(text)
        assert last_saved(tmp_path) == ({"name": "epoch-1.pt"} if "name" in text else {})
