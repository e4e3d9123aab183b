"""Keep the checkpoints of a run on a disk that may fill up, remove old ones, remember the last."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from zipasr.base.errors import ResourceError, is_disk_full
from zipasr.base.files import atomic_path, write_text
from zipasr.checkpoint.checkpoint_file import (
    epoch_checkpoint,
    find_checkpoints,
    free_space,
    save_checkpoint,
    saved_epochs,
)
from zipasr.checkpoint.selection import AVGS, nearest_starts

logger = logging.getLogger(__name__)

LAST_FILE = "last.json"
BEST_FILES = "best-*.pt"
# Parameters and two moments of the optimizer in float32, the running average in float64.
BYTES_PER_PARAMETER = 3 * 4 + 8


def keep_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint and note it as the last one; see ``save_checkpoint``.

    When the disk is full, the oldest checkpoint that can be spared is removed, and the file is
    tried once more. The best and the newest one are never removed.

    Raises:
        CheckpointError: an entry could not be read back safely.
        ResourceError: the file cannot be written.
    """
    try:
        save_checkpoint(path, content)
    except ResourceError as problem:
        spare = oldest_to_spare(path.parent, path)
        if spare is None or not _is_full(problem, path.parent):
            raise
        logger.warning("%s is removed to make room for %s: %s", spare, path.name, problem.what)
        spare.unlink()
        save_checkpoint(path, content)
    _note_last(path, content)


def oldest_to_spare(exp_dir: Path, wanted: Path) -> Path | None:
    """Return the checkpoint whose loss hurts least, or None: there are only the best and the last.

    Args:
        exp_dir: folder of the run.
        wanted: file to make room for; an older one under its name is kept.
    """
    best = {path.stat().st_ino for path in exp_dir.glob(BEST_FILES)}
    iterations = find_checkpoints(exp_dir)[::-1]
    epochs = [epoch_checkpoint(exp_dir, epoch) for epoch in saved_epochs(exp_dir)]
    every = [path for path in (*iterations, *epochs) if path != wanted]
    # By name: a clock that was set back makes the newest file look old.
    newest = {exp_dir / str(last_saved(exp_dir).get("name", ""))}
    newest |= {*(epochs or iterations)[-1:]}
    spare = (path for path in every if path not in newest and path.stat().st_ino not in best)
    return next(spare, None)


def remove_old(exp_dir: Path, keep: int) -> list[Path]:
    """Delete all files ``checkpoint-N.pt`` but those with the ``keep`` largest N.

    Returns:
        The files that were deleted.

    Raises:
        ValueError: ``keep`` is smaller than 1, so nothing would be left.
    """
    if keep < 1:
        raise ValueError(f"--keep-last-k must be at least 1, not {keep}")
    old = find_checkpoints(exp_dir)[keep:]
    for path in old:
        path.unlink(missing_ok=True)
    return old


def thin_epochs(exp_dir: Path, last: int, keep: int) -> list[Path]:
    """Delete the files ``epoch-N.pt`` that ``epochs_to_spare`` names.

    Returns:
        The files that were deleted.
    """
    paths = [exp_dir / f"epoch-{n}.pt" for n in epochs_to_spare(saved_epochs(exp_dir), last, keep)]
    for path in paths:
        path.unlink(missing_ok=True)
    return paths


def epochs_to_spare(saved: Sequence[int], last: int, keep: int) -> list[int]:
    """Return the epochs that nobody will average with.

    Kept are the newest ones, and, of the older ones, those nearest to where the averages of the
    last epoch begin: a longer average needs two running averages, not the epochs between them.

    Args:
        saved: epochs that have a file, in their order.
        last: epoch that the run will end with.
        keep: number of newest ones, at least 1.
    """
    starts = nearest_starts([epoch for epoch in saved if epoch < last], last)
    return [epoch for epoch in saved[:-keep] if epoch not in starts]


def last_saved(exp_dir: Path) -> dict[str, Any]:
    """Return name, epoch and number of batches of the checkpoint saved last; empty if unknown."""
    try:
        found = json.loads((exp_dir / LAST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def hardlink(path: Path, name: str) -> None:
    """Give a checkpoint a second name in its folder; a copy where there are no hard links."""
    second = path.with_name(name)
    temporary = path.with_name(f".tmp-{name}")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
        temporary.replace(second)
    except OSError:
        with atomic_path(second) as copy:
            shutil.copyfile(path, copy)


def bytes_of_checkpoint(model: nn.Module) -> int:
    """Return about how many bytes a checkpoint of ``model`` takes on disk."""
    return BYTES_PER_PARAMETER * sum(parameter.numel() for parameter in model.parameters())


def bytes_to_come(each: int, exp_dir: Path, *, iterations: int, epochs: int) -> int:
    """Return about how many bytes the checkpoints of a run will still take.

    Args:
        each: bytes of one.
        exp_dir: folder of the run; may be missing.
        iterations: how many files ``checkpoint-N.pt`` there will be in the end.
        epochs: how many files ``epoch-N.pt`` will be added.
    """
    # One more, because a file is removed only after the next one is whole.
    return each * (max(0, iterations - len(find_checkpoints(exp_dir))) + epochs + 1)


def most_epoch_files(to_come: int, keep: int) -> int:
    """Return how many of so many files of epochs stay if older ones are thinned.

    Args:
        to_come: how many will be written.
        keep: see ``thin_epochs``; 0 keeps all.
    """
    return min(to_come, keep + len(AVGS)) if keep else to_come


def warn_of_space(exp_dir: Path, need: int) -> None:
    """Warn when the disk has less room than a run will need."""
    if need > shutil.disk_usage(exp_dir).free:
        logger.warning(
            "the checkpoints of this run will take about %.0f MB more, but %s has %s: free some, "
            "or lower --keep-last-k or --keep-last-epochs, or raise --save-every-n",
            need / 1e6,
            exp_dir,
            free_space(exp_dir),
        )


def _is_full(problem: ResourceError, folder: Path) -> bool:
    """Say whether a file could not be written for want of room; torch does not always tell."""
    cause = problem.__cause__
    if isinstance(cause, OSError):
        return is_disk_full(cause)
    return os.access(folder, os.W_OK)


def _note_last(path: Path, content: Mapping[str, Any]) -> None:
    about = {"name": path.name} | {
        name: content[name] for name in ("cur_epoch", "batch_idx_train") if name in content
    }
    try:
        write_text(path.with_name(LAST_FILE), json.dumps(about) + "\n")
    except OSError as problem:  # a note, for a sentence when the file is damaged later
        logger.warning("%s cannot be written: %s", path.with_name(LAST_FILE), problem.strerror)
