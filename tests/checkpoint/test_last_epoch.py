"""Which epoch is used where none was chosen, and what is said about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from zipasr.base.errors import CheckpointError
from zipasr.checkpoint.checkpoint_file import save_checkpoint
from zipasr.checkpoint.config import ChooseCheckpoint
from zipasr.checkpoint.selection import with_last_epoch


def write(folder: Path, *names: str) -> Path:
    for name in names:
        save_checkpoint(folder / f"{name}.pt", {"model": {"w": torch.ones(2)}})
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Eleven epochs, of which the tenth is saved under the name of an average too."""
    epochs = [f"epoch-{epoch}" for epoch in range(1, 12)]
    return write(tmp_path / "exp", *epochs, "epoch-10-avg-99", "checkpoint-70")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize(
    ("choice", "flags"),
    [
        ({"avg": 2}, "--epoch 11 --avg 2"),
        ({"avg": 10}, "--epoch 11 --avg 10"),
        ({"avg": 11, "use_averaged_model": False}, "--epoch 11 --avg 11"),
    ],
)
def test_the_last_epoch_is_used_and_told(run: Path, choice: dict[str, Any], flags: str) -> None:
    choose, notes = with_last_epoch(run, ChooseCheckpoint(**choice))
    assert choose == ChooseCheckpoint(epoch=11, **choice)
    assert list(notes) == [f"using {flags}: {run} ends with epoch 11."]


@pytest.mark.parametrize(
    ("epochs", "use_averaged_model", "flags"),
    [
        (3, True, "--epoch 3 --avg 2"),
        (2, True, "--epoch 2 --avg 1"),
        (1, True, "--epoch 1 --avg 1 --use-averaged-model 0"),
        (3, False, "--epoch 3 --avg 3"),
        (1, False, "--epoch 1 --avg 1"),
    ],
)
def test_a_run_shorter_than_avg_is_used_as_far_as_it_goes(
    tmp_path: Path, epochs: int, use_averaged_model: bool, flags: str
) -> None:
    run = write(tmp_path, *(f"epoch-{epoch}" for epoch in range(1, epochs + 1)))
    choose, notes = with_last_epoch(
        run, ChooseCheckpoint(avg=9, use_averaged_model=use_averaged_model)
    )
    words = f"--epoch {choose.epoch} --avg {choose.avg}"
    words += "" if choose.use_averaged_model == use_averaged_model else " --use-averaged-model 0"
    assert words == flags
    assert list(notes) == [f"using {flags}: {run} ends with epoch {epochs}, too few for --avg 9."]


def test_a_window_begins_at_the_nearest_epoch_that_was_saved(tmp_path: Path) -> None:
    run = write(tmp_path, *(f"epoch-{epoch}" for epoch in (2, 5, 8, 11)))
    choose, (note,) = with_last_epoch(run, ChooseCheckpoint(avg=4))
    assert (choose.epoch, choose.avg) == (11, 3)
    assert (
        note == f"using --epoch 11 --avg 3: {run} ends with epoch 11, without epoch 7 of --avg 4."
    )
    choose, (note,) = with_last_epoch(run, ChooseCheckpoint(avg=6))
    assert (choose.epoch, choose.avg) == (11, 6)
    assert note == f"using --epoch 11 --avg 6: {run} ends with epoch 11."


def test_the_only_epoch_is_enough_for_itself(tmp_path: Path) -> None:
    run = write(tmp_path, "epoch-1")
    _, (note,) = with_last_epoch(run, ChooseCheckpoint(avg=1, use_averaged_model=False))
    assert note == f"using --epoch 1 --avg 1: {run} ends with epoch 1."


def test_files_that_are_not_complete_do_not_count(run: Path) -> None:
    cut(run / "epoch-11.pt")
    (run / "epoch-12.pt").touch()
    choose, (empty, short, note) = with_last_epoch(run, ChooseCheckpoint(avg=1))
    assert choose.epoch == 10
    assert empty == f"epoch 12 is passed over: {run}/epoch-12.pt is empty (0 bytes)."
    assert short.startswith(f"epoch 11 is passed over: {run}/epoch-11.pt is cut: ")
    assert note == f"using --epoch 10 --avg 1: {run} ends with epoch 10."


def test_an_epoch_that_was_chosen_stays_and_later_ones_are_told(run: Path) -> None:
    for epoch, notes in (
        (6, [f"--epoch 6 is used, though {run} has later epochs, up to 11."]),
        (11, []),
    ):
        choose = ChooseCheckpoint(epoch=epoch, avg=2)
        assert with_last_epoch(run, choose) == (choose, tuple(notes))


@pytest.mark.parametrize(
    ("epoch", "avg", "flags"),
    [
        (2, 1, "--epoch 2 --avg 1"),
        (1, 1, "--epoch 1 --avg 1 --use-averaged-model 0"),
        (11, 10, "--epoch 11 --avg 10"),
    ],
)
def test_an_avg_that_was_not_typed_fits_the_epoch(
    epoch: int, avg: int, flags: str, run: Path
) -> None:
    choose, notes = with_last_epoch(run, ChooseCheckpoint(epoch=epoch, avg=17), is_avg_typed=False)
    assert (choose.epoch, choose.avg, choose.use_averaged_model) == (epoch, avg, epoch > 1)
    assert notes[-1] == f"using {flags}: {run} is used up to epoch {epoch}, too few for --avg 17."
    assert ["later epochs" in note for note in notes[:-1]] == [True] * (epoch < 11)
    with pytest.raises(
        CheckpointError, match=f"--epoch {epoch} --avg 17 needs a checkpoint before"
    ):
        with_last_epoch(run, ChooseCheckpoint(epoch=epoch, avg=17))


def test_an_avg_that_fits_is_kept_though_it_was_not_typed(run: Path) -> None:
    choose = ChooseCheckpoint(epoch=11, avg=10)
    assert with_last_epoch(run, choose, is_avg_typed=False) == (choose, ())
    (run / "epoch-4.pt").unlink()
    found, (note,) = with_last_epoch(run, ChooseCheckpoint(epoch=11, avg=7), is_avg_typed=False)
    assert (found.epoch, found.avg) == (11, 8)
    words = f"{run} is used up to epoch 11, without epoch 4 of --avg 7."
    assert note == f"using --epoch 11 --avg 8: {words}"


@pytest.mark.parametrize("choice", [{"iter": 70}, {"checkpoint": Path("nosuch.pt")}])
def test_without_epochs_nothing_is_looked_up(tmp_path: Path, choice: dict[str, Any]) -> None:
    choose = ChooseCheckpoint(**choice)
    assert with_last_epoch(tmp_path, choose) == (choose, ())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no complete epoch to use: .* has no checkpoints. Fix: train first"),
        (["pretrained"], "has no checkpoints but .*pretrained.pt, which .*--checkpoint takes"),
        (["checkpoint-70", "checkpoint-9"], "Fix: use --iter 70 --avg 1 --use-averaged-model 0"),
    ],
)
def test_a_run_without_epochs_is_explained(tmp_path: Path, names: list[str], message: str) -> None:
    write(tmp_path, *names)
    with pytest.raises(CheckpointError, match=message):
        with_last_epoch(tmp_path, ChooseCheckpoint())
    with pytest.raises(CheckpointError, match=r"the folder .*nowhere does not exist. Fix: train"):
        with_last_epoch(tmp_path / "nowhere", ChooseCheckpoint())


def test_a_run_with_damaged_epochs_alone_is_explained(tmp_path: Path) -> None:
    cut(write(tmp_path, "epoch-1") / "epoch-1.pt")
    with pytest.raises(CheckpointError, match="no complete epoch to use: epoch 1 is passed over"):
        with_last_epoch(tmp_path, ChooseCheckpoint())


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"epoch": 1, "avg": 1}, "--epoch 1 --avg 1 needs a checkpoint before the first epoch"),
        ({"epoch": 12, "avg": 1}, "epoch-12.pt does not exist"),
    ],
)
def test_what_a_choice_lacks_is_explained_before_anything_is_told(
    run: Path, choice: dict[str, Any], message: str
) -> None:
    (run / "epoch-10.pt").unlink()
    with pytest.raises(CheckpointError, match=message):
        with_last_epoch(run, ChooseCheckpoint(**choice))


def test_an_unsettled_choice_has_no_number() -> None:
    with pytest.raises(ValueError, match="not settled"):
        _ = ChooseCheckpoint().name
    assert ChooseCheckpoint(epoch=6, avg=2).name == "epoch-6-avg-2"
    assert ChooseCheckpoint(iter=70, avg=2).name == "iter-70-avg-2"
    assert ChooseCheckpoint(checkpoint=Path("exp/pretrained.pt")).name == "pretrained"
