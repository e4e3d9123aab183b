"""Checkpoints to decode with: the last complete epoch, and candidate averages for the dev set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from zipasr.base.errors import CheckpointError
from zipasr.checkpoint.averaging import last_file, mean_files, window_files
from zipasr.checkpoint.checkpoint_file import (
    ReadCheckpoint,
    describe,
    epoch_checkpoint,
    find_checkpoints,
    iteration_of,
    load_checkpoint,
    saved_epochs,
)
from zipasr.checkpoint.config import ChooseCheckpoint
from zipasr.checkpoint.weights import check_finite_state

# Longer averages differ less from one another, so the steps grow.
AVGS = (1, 2, 3, 5, 8, 13, 21, 34, 55)
# Up to so many averages are all tried.
FEW = 20


def candidates(exp_dir: Path, choose: ChooseCheckpoint) -> list[ChooseCheckpoint]:
    """List the averages that can be made from the checkpoints of a run, newest first.

    They are those of all saved epochs with each number in ``AVGS``, or the nearest one that there
    are files for where not every epoch was saved; with ``--iter``, those of the files
    ``checkpoint-N.pt`` up to it. ``epoch`` and ``avg`` of ``choose`` do not count.

    Raises:
        CheckpointError: there is nothing to average.
    """
    if choose.iter > 0:
        numbers = [iteration_of(path) for path in reversed(find_checkpoints(exp_dir, choose.iter))]
        places = {number: place for place, number in enumerate(numbers, start=1)}
    else:
        numbers = saved_epochs(exp_dir)
        places = {number: number for number in numbers}
    present = set(places.values())
    lengths = _windows if choose.use_averaged_model else _means
    found = [
        _at(choose, number, avg)
        for number in reversed(numbers)
        for avg in lengths(present, places[number])
    ]
    if not found:
        raise _nothing_to_average(exp_dir, choose)
    return found


def files_of(exp_dir: Path, choose: ChooseCheckpoint) -> list[Path]:
    """Return the checkpoints that an average is made from, oldest first."""
    if choose.use_averaged_model:
        return list(window_files(exp_dir, choose))
    files = mean_files(exp_dir, choose)
    return files[::-1] if choose.iter > 0 else files


def next_to_try(
    offered: Sequence[ChooseCheckpoint], errors: Mapping[ChooseCheckpoint, int | None]
) -> list[ChooseCheckpoint]:
    """Return the averages to score next; none when the search is over.

    Each is another model, whose encoder has to run over the whole dev set: nothing is shared. So
    when more than ``FEW`` are offered, the search goes from coarse to fine. First it tries every
    number of checkpoints at the newest checkpoint (at the next older one if none of these can be
    used), then the neighbours of the best so far: one checkpoint earlier or later, one entry of
    ``AVGS`` up or down, or both; until the best has no neighbour that was not tried.

    Args:
        offered: from ``candidates``.
        errors: word errors of those tried before; ``None`` for one that could not be used.
    """
    if len(offered) <= FEW:
        return [one for one in offered if one not in errors]
    best = best_of(errors)
    row = best.number if best else None
    for newest in sorted({one.number for one in offered}, reverse=True):
        untried = [one for one in offered if one.number == newest and one not in errors]
        if untried:
            return untried
        if any(errors[one] is not None for one in offered if one.number == newest):
            break
    if best is None or row is None:
        return []
    numbers = sorted({one.number for one in offered})
    near = _around(numbers, row)
    avgs = _around(sorted({one.avg for one in offered}), best.avg)
    return [one for one in offered if one.number in near and one.avg in avgs and one not in errors]


def best_of(errors: Mapping[ChooseCheckpoint, int | None]) -> ChooseCheckpoint | None:
    """Return the average with the fewest errors; of equal ones the longest, then the newest."""
    return next(iter(ranked(errors)), None)


def ranked(errors: Mapping[ChooseCheckpoint, int | None]) -> list[ChooseCheckpoint]:
    """Return the averages that could be used, best first; see ``best_of``."""
    ranks = {
        one: (count, -one.avg, -one.number) for one, count in errors.items() if count is not None
    }
    return sorted(ranks, key=ranks.__getitem__)


def _at(choose: ChooseCheckpoint, number: int, avg: int) -> ChooseCheckpoint:
    # All that does not count gets one value, so that equal averages are equal.
    common = replace(choose, avg=avg, auto_avg=False, auto_avg_cuts=0)
    return replace(common, iter=number, epoch=1) if choose.iter else replace(common, epoch=number)


def nearest_starts(starts: Sequence[int], last: int) -> set[int]:
    """Return, for each number in ``AVGS``, where a window of about that length can begin.

    Args:
        starts: epochs with a file, all before ``last``.
        last: epoch at the end of the windows.
    """
    wanted = [last - avg for avg in AVGS if avg < last and starts]
    return {_nearest(starts, want) for want in wanted}


def _nearest(starts: Sequence[int], wanted: int) -> int:
    """Return the number that is nearest, of two that are as near the smaller."""
    return min(starts, key=lambda start: (abs(start - wanted), start))


def _windows(present: set[int], place: int) -> list[int]:
    """Return the lengths of windows that end at ``place`` and begin at a file."""
    starts = sorted(other for other in present if other < place)
    return sorted({place - start for start in nearest_starts(starts, place)})


def _means(present: set[int], place: int) -> list[int]:
    """Return the numbers of files, up to that of ``place``, of which none is missing."""
    return [avg for avg in AVGS if present.issuperset(range(place - avg + 1, place + 1))]


def _around(values: Sequence[int], value: int) -> Sequence[int]:
    at = values.index(value)
    return values[max(0, at - 1) : at + 2]


def _nothing_to_average(exp_dir: Path, choose: ChooseCheckpoint) -> CheckpointError:
    missing = f"the folder {exp_dir} does not exist"
    have = describe(exp_dir) if exp_dir.is_dir() else missing
    among = f" up to --iter {choose.iter}" if choose.iter > 0 else ""
    if choose.use_averaged_model:
        return CheckpointError(
            f"--auto-avg 1 needs two checkpoints{among}, to average between; {have}.",
            "train for longer, or use --use-averaged-model 0.",
        )
    return CheckpointError(
        f"--auto-avg 1 finds no checkpoint{among} to try; {have}.",
        "train first, or choose another --exp-dir.",
    )


class ResolvedCheckpoint(NamedTuple):
    """A choice of checkpoints that names its epoch, and lines for the user about it."""

    choose: ChooseCheckpoint
    notes: Sequence[str]


def with_last_epoch(
    exp_dir: Path,
    choose: ChooseCheckpoint,
    read: ReadCheckpoint = load_checkpoint,
    *,
    is_avg_typed: bool = True,
) -> ResolvedCheckpoint:
    """Choose the last complete epoch where none was chosen, and say so.

    A run that is shorter than ``avg`` asks for is then averaged over what it has: over all epochs
    after the first, or the only epoch alone. An epoch that was chosen stays, and so does ``avg``
    where it was typed, too; when the run has later ones, a line says so.

    Args:
        exp_dir: folder of a training run.
        choose: with ``iter`` or ``checkpoint``, it is returned as it is.
        read: reads a checkpoint.
        is_avg_typed: whether ``avg`` is kept beside an epoch that was chosen; else it is made to
            fit, as without one.

    Raises:
        CheckpointError: there is no complete epoch, or a checkpoint of the choice is missing.
    """
    if choose.iter > 0 or choose.checkpoint is not None:
        return ResolvedCheckpoint(choose, ())
    saved = saved_epochs(exp_dir)
    if choose.epoch is not None:
        found = choose if is_avg_typed else _within(saved, choose)
        last_file(exp_dir, found)
        notes = []
        if later := [epoch for epoch in saved if epoch > choose.epoch]:
            note = f"--epoch {choose.epoch} is used, though {exp_dir} has later epochs"
            notes += [f"{note}, up to {later[-1]}."]
        if found != choose:
            notes += [_note(choose, found, f"{exp_dir} is used up to epoch {choose.epoch}")]
        return ResolvedCheckpoint(found, tuple(notes))
    epoch, notes = last_complete(exp_dir, read)
    choose = replace(choose, epoch=epoch)
    found = _within(saved, choose)
    last_file(exp_dir, found)
    note = _note(choose, found, f"{exp_dir} ends with epoch {epoch}")
    return ResolvedCheckpoint(found, (*notes, note))


def _note(asked: ChooseCheckpoint, found: ChooseCheckpoint, why: str) -> str:
    """Say what is used and why, and what the epochs lack for the average that was asked for."""
    flags = f"--epoch {found.epoch} --avg {found.avg}"
    if found.use_averaged_model != asked.use_averaged_model:
        flags += " --use-averaged-model 0"
    if found != asked:
        start = asked.number - asked.avg
        lack = "too few for" if start < 1 else f"without epoch {start} of"
        why += f", {lack} --avg {asked.avg}"
    return f"using {flags}: {why}."


def last_complete(exp_dir: Path, read: ReadCheckpoint = load_checkpoint) -> tuple[int, list[str]]:
    """Return the last epoch whose file is whole and finite, and what is wrong with later ones.

    Args:
        exp_dir: folder of a training run.
        read: reads a checkpoint.

    Raises:
        CheckpointError: there is none.
    """
    passed_over: list[str] = []
    for epoch in reversed(saved_epochs(exp_dir)):
        try:
            path = epoch_checkpoint(exp_dir, epoch)
            check_finite_state(read(path), path)
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


def _within(saved: Sequence[int], choose: ChooseCheckpoint) -> ChooseCheckpoint:
    """Return the choice with no more to average than there is up to its epoch.

    A window begins at the epoch that was asked for, or at the nearest that was saved.
    """
    number = choose.number
    if not choose.use_averaged_model:
        return replace(choose, avg=min(choose.avg, number))
    starts = [epoch for epoch in saved if epoch < number]
    if not starts:
        return replace(choose, avg=1, use_averaged_model=False)
    return replace(choose, avg=number - _nearest(starts, number - choose.avg))
