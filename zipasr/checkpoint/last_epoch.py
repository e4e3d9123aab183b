"""The last epoch of a training run, for commands that are not told which one to use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from zipasr.base.errors import CheckpointError
from zipasr.checkpoint.average import ChooseCheckpoint, last_file
from zipasr.checkpoint.files import (
    check_readable,
    describe,
    epoch_checkpoint,
    find_checkpoints,
    saved_epochs,
)


class Settled(NamedTuple):
    """A choice of checkpoints that names its epoch, and lines for the user about it."""

    choose: ChooseCheckpoint
    notes: Sequence[str]


def settled(exp_dir: Path, choose: ChooseCheckpoint) -> Settled:
    """Choose the last complete epoch where none was chosen, and say so.

    A run that is shorter than ``avg`` asks for is then averaged over what it has: over all epochs
    after the first, or the only epoch alone. An epoch that was chosen stays, and so does ``avg``
    with it; when the run has later ones, a line says so.

    Args:
        exp_dir: folder of a training run.
        choose: with ``iter`` or ``checkpoint``, it is returned as it is.

    Raises:
        CheckpointError: there is no complete epoch, or a checkpoint of the choice is missing.
    """
    if choose.iter > 0 or choose.checkpoint is not None:
        return Settled(choose, ())
    if choose.epoch is not None:
        last_file(exp_dir, choose)
        later = [epoch for epoch in saved_epochs(exp_dir) if epoch > choose.epoch]
        note = f"--epoch {choose.epoch} is used, though {exp_dir} has later epochs"
        return Settled(choose, (f"{note}, up to {later[-1]}.",) if later else ())
    epoch, passed_over = _last_complete(exp_dir)
    found = _within(replace(choose, epoch=epoch))
    last_file(exp_dir, found)
    flags = f"--epoch {epoch} --avg {found.avg}"
    if found.use_averaged_model != choose.use_averaged_model:
        flags += " --use-averaged-model 0"
    is_short = found != replace(choose, epoch=epoch)
    short = f", too few for --avg {choose.avg}" if is_short else ""
    note = f"using {flags}: {exp_dir} ends with epoch {epoch}{short}."
    return Settled(found, (*passed_over, note))


def _last_complete(exp_dir: Path) -> tuple[int, list[str]]:
    """Return the last epoch whose file is complete, and what is wrong with later ones."""
    passed_over: list[str] = []
    for epoch in reversed(saved_epochs(exp_dir)):
        try:
            check_readable(epoch_checkpoint(exp_dir, epoch))
        except CheckpointError as problem:
            passed_over.append(f"epoch {epoch} is passed over: {problem.what}")
            continue
        return epoch, passed_over
    if not exp_dir.is_dir():
        raise CheckpointError(
            f"the folder {exp_dir} does not exist.", "train first, or choose another --exp-dir."
        )
    why = passed_over[0] if passed_over else f"{describe(exp_dir)}."
    iterations = find_checkpoints(exp_dir)
    batches = iterations[0].stem.removeprefix("checkpoint-") if iterations else ""
    raise CheckpointError(
        f"there is no complete epoch to use: {why}",
        f"use --iter {batches} --avg 1 --use-averaged-model 0, or train to the end of an epoch."
        if iterations
        else "train first, choose another --exp-dir, or give one file with --checkpoint.",
    )


def _within(choose: ChooseCheckpoint) -> ChooseCheckpoint:
    """Return the choice with no more to average than there is up to its epoch."""
    if not choose.use_averaged_model:
        return replace(choose, avg=min(choose.avg, choose.number))
    if choose.number == 1:
        return replace(choose, avg=1, use_averaged_model=False)
    return replace(choose, avg=min(choose.avg, choose.number - 1))
