"""Averages of a model's weights: running, and over checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zipasr.base.errors import CheckpointError
from zipasr.checkpoint.checkpoint_file import (
    ReadCheckpoint,
    epoch_checkpoint,
    find_checkpoints,
    load_checkpoint,
)
from zipasr.checkpoint.config import ChooseCheckpoint
from zipasr.checkpoint.weights import (
    StateDict,
    check_finite_state,
    check_same_keys,
    model_state,
    unwrapped,
)
from zipasr.nn.lora import merged


class LoadedWeights(NamedTuple):
    """Weights to use, and the newest checkpoint that they come from with its path."""

    path: Path
    checkpoint: dict[str, Any]
    weights: StateDict


def start_average(state_dict: Mapping[str, Tensor]) -> StateDict:
    """Return a copy of a state dict on the CPU, floating-point entries in float64.

    It is the running average before the first update, or one that comes from a checkpoint.
    Small changes to a mean of thousands of models would be lost in float32.
    """
    return {
        key: tensor.detach().to("cpu", torch.float64, copy=True)
        if tensor.is_floating_point()
        else tensor.detach().to("cpu", copy=True)
        for key, tensor in unwrapped(state_dict).items()
    }


@torch.no_grad()
def update_average(average: dict[str, Tensor], model: nn.Module, weight: float) -> None:
    """Move a running average towards a model, in place.

    With ``weight`` = 1 / n for the n-th model the average is the plain mean of the models so far.
    Integer entries stay as they are.

    Args:
        average: from ``start_average``; float64 on the CPU.
        model: may be wrapped for distributed training.
        weight: share of the model in the new average, 0 to 1.

    Raises:
        CheckpointError: the average belongs to another model.
    """
    state = unwrapped(model.state_dict())
    check_same_keys(average, state, "the running average")
    for key, mean in average.items():
        if mean.is_floating_point():
            mean.lerp_(state[key].detach().to(mean), weight)


def average_window(start: Mapping[str, Any], end: Mapping[str, Any]) -> StateDict:
    """Average the models between two checkpoints, from their running averages.

    Let n be the number of models in the running average a of a checkpoint. The models after
    ``start`` up to ``end`` have the mean
    (n_end a_end - n_start a_start) / (n_end - n_start). It is computed in float64, because the
    difference magnifies rounding, and returned in the precision of the model. Integer entries
    are those of ``end``.

    Args:
        start: checkpoint before the window; the models it averages are left out.
        end: checkpoint at the end of the window.

    Raises:
        CheckpointError: a checkpoint has no running average, the two do not fit together, or
            the window is empty.
    """
    check_same_period(start, end)
    n_start, n_end = num_averaged(start), num_averaged(end)
    if n_end <= n_start:
        period = end["average_period"]
        first, last = (one["batch_idx_train"] // period * period for one in (start, end))
        raise CheckpointError(
            f"There is no model to average between batches {first} and {last}; the running average "
            f"takes one every {period} batches.",
            "raise --avg, or use --use-averaged-model 0.",
        )
    before, after = (
        unwrapped(average_entry(start, "model_avg")),
        unwrapped(average_entry(end, "model_avg")),
    )
    check_same_keys(before, after, "the earlier checkpoint")
    dtypes = {key: tensor.dtype for key, tensor in model_state(end).items()}
    weight = n_end / (n_end - n_start)
    means = {
        key: torch.lerp(before[key].double(), last.double(), weight)
        if last.is_floating_point()
        else last.clone()
        for key, last in after.items()
    }
    return {key: mean.to(dtypes.get(key, mean.dtype)) for key, mean in merged(means).items()}


def check_same_period(start: Mapping[str, Any], end: Mapping[str, Any]) -> None:
    """Refuse checkpoints that do not say how many models they average, with different periods.

    Raises:
        CheckpointError: so it is.
    """
    before, after = (int(average_entry(one, "average_period")) for one in (start, end))
    if before != after and "models_averaged" not in end:
        raise CheckpointError(
            f"The averaging period changed from {before} to {after} between the two checkpoints, "
            "so their difference has no meaning.",
            "choose checkpoints after the change, or use --use-averaged-model 0.",
        )


def num_averaged(checkpoint: Mapping[str, Any]) -> int:
    """Return how many models the running average of a checkpoint is the mean of.

    icefall's checkpoints do not count them: it is one each ``average_period`` batches. Ours do,
    because the period may change when a run goes on.

    Raises:
        CheckpointError: the checkpoint does not say.
    """
    if "models_averaged" in checkpoint:
        return int(checkpoint["models_averaged"])
    return int(average_entry(checkpoint, "batch_idx_train")) // int(
        average_entry(checkpoint, "average_period")
    )


def mean_of(state_dicts: Iterable[Mapping[str, Tensor]]) -> StateDict:
    """Return the plain mean of state dicts; integers are summed and divided without remainder.

    Args:
        state_dicts: at least one, all with the same keys; an iterator needs the memory of two.

    Raises:
        CheckpointError: the keys differ.
        ValueError: there are no state dicts.
    """
    sums: StateDict = {}
    dtypes: dict[str, torch.dtype] = {}
    count = 0
    for count, state in enumerate(state_dicts, start=1):
        if count == 1:
            sums = start_average(state)
            dtypes = {key: tensor.dtype for key, tensor in unwrapped(state).items()}
            continue
        plain = unwrapped(state)
        check_same_keys(sums, plain, "the first checkpoint")
        for key, total in sums.items():
            total += plain[key].to(total)
    if count == 0:
        raise ValueError("mean_of needs at least one state dict")
    return {
        key: (total / count if total.is_floating_point() else total // count).to(dtypes[key])
        for key, total in sums.items()
    }


def read_chosen(
    exp_dir: Path, choose: ChooseCheckpoint, read: ReadCheckpoint = load_checkpoint
) -> LoadedWeights:
    """Read the chosen checkpoints of a training run, or the one file, and combine them.

    With the averaged model, the result is the mean over the training after the checkpoint
    ``avg`` places before the last one; without, the mean of the last ``avg`` checkpoints.

    Args:
        exp_dir: folder of a training run.
        choose: which checkpoints.
        read: reads one.

    Raises:
        CheckpointError: a checkpoint is missing, damaged, or does not fit to the others.
    """
    path = last_file(exp_dir, choose)
    last = read(path)
    if choose.checkpoint is not None or (choose.avg == 1 and not choose.use_averaged_model):
        weights = model_state(last, str(path))
    elif choose.use_averaged_model:
        start, _ = window_files(exp_dir, choose)
        before = read(start)
        for one, name in ((before, start), (last, path)):
            check_finite_state(one, name)
        weights = average_window(before, last)
    else:
        # One after the other, so that two are in memory and not all.
        weights = mean_of(
            model_state(read(file), str(file)) for file in mean_files(exp_dir, choose)
        )
    return LoadedWeights(path, last, weights)


def window_files(exp_dir: Path, choose: ChooseCheckpoint) -> tuple[Path, Path]:
    """Return the checkpoints before and at the end of the window."""
    if choose.iter > 0:
        files = newest_checkpoints(exp_dir, choose.iter, choose.avg + 1)
        return files[-1], files[0]
    epoch = choose.number
    last = epoch_checkpoint(exp_dir, epoch)  # was named: if others are missing too, it is told of
    if choose.avg >= epoch:
        fix = f"give --avg {epoch - 1} or less, or --use-averaged-model 0."
        raise CheckpointError(
            f"--epoch {epoch} --avg {choose.avg} needs a checkpoint before the first epoch.",
            fix if epoch > 1 else "give --avg 1 --use-averaged-model 0.",
        )
    return epoch_checkpoint(exp_dir, epoch - choose.avg), last


def mean_files(exp_dir: Path, choose: ChooseCheckpoint) -> list[Path]:
    """Return the checkpoints whose mean is asked for."""
    if choose.iter > 0:
        return newest_checkpoints(exp_dir, choose.iter, choose.avg)
    first = max(1, choose.number - choose.avg + 1)
    return [epoch_checkpoint(exp_dir, epoch) for epoch in range(first, choose.number + 1)]


def newest_checkpoints(exp_dir: Path, iteration: int, count: int) -> list[Path]:
    """Return the ``count`` newest checkpoints up to ``iteration``, newest first."""
    files = find_checkpoints(exp_dir, iteration)
    if len(files) < count:
        have = ", ".join(path.name for path in reversed(files)) or "none"
        raise CheckpointError(
            f"{count} checkpoints up to --iter {iteration} are needed, {exp_dir} has {have}.",
            "lower --avg, or choose another --iter.",
        )
    return files[:count]


def average_entry(checkpoint: Mapping[str, Any], name: str) -> Any:
    """Return one entry of a checkpoint, or explain that it is missing."""
    if checkpoint.get(name) is None:
        raise CheckpointError(
            f"The checkpoint has no entry {name!r}.", "use --use-averaged-model 0 --avg 1."
        )
    return checkpoint[name]


def last_file(exp_dir: Path, choose: ChooseCheckpoint) -> Path:
    """Return the newest checkpoint that takes part; its settings and tokenizer count."""
    if choose.checkpoint is not None:
        return choose.checkpoint
    if choose.use_averaged_model:
        return window_files(exp_dir, choose)[1]
    files = mean_files(exp_dir, choose)
    return files[0] if choose.iter > 0 else files[-1]
