"""Checkpoints of icefall completed with the entries that resuming needs."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zipasr.base.config import schema_of
from zipasr.base.errors import CheckpointError
from zipasr.checkpoint.averaging import num_averaged
from zipasr.checkpoint.model_file import plain_flags
from zipasr.checkpoint.weights import unwrapped
from zipasr.encoder.registry import ENCODER_TYPES
from zipasr.optim.build import saved_by_rubik
from zipasr.optim.config import OptimizerConfig
from zipasr.optim.named_state import NamedShapes, check_saved
from zipasr.optim.rubik import BatchedRubik
from zipasr.optim.scaled_adam import ScaledAdam
from zipasr.training.state import SCHEDULES_DONE

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

logger = logging.getLogger(__name__)

# What one batch counts as in the schedules inside the model, in icefall's names.
BATCH_SECONDS = ("max_duration", "world_size", "ref_duration")


def with_own_entries(
    checkpoint: Mapping[str, Any],
    path: Path,
    parameters: Collection[str],
    configs: Iterable[type[DataclassInstance]],
) -> dict[str, Any]:
    """Add to a checkpoint of icefall the entries that ours have, and log what is taken over.

    The state of its sampler is left out: an epoch that it has begun starts from its beginning.

    Args:
        checkpoint: content of ``path``, whose weights fit to the model of this run.
        path: named in messages; ``epoch-N.pt`` is the end of an epoch.
        parameters: names of the parameters of the model.
        configs: classes of the settings of this run; ``path`` holds some as entries of their own.

    Returns:
        The entries of a checkpoint of ours, apart from tokenizer and random state.

    Raises:
        CheckpointError: an entry is missing, or the optimizer does not have all parameters of the
            model.
    """
    _check_entries(checkpoint, path)
    shapes = _parameters_in_order(checkpoint, parameters)
    kind = BatchedRubik if saved_by_rubik(checkpoint["optimizer"]) else ScaledAdam
    try:
        check_saved(checkpoint["optimizer"], shapes, kind.layout)
    except CheckpointError as problem:
        raise CheckpointError(
            f"{path} cannot be continued: {problem.what}",
            f"begin a new run with its weights: --finetune-ckpt {path}, in another --exp-dir.",
        ) from problem
    count = _schedule_count(checkpoint)
    own = {
        "configs": settings_of_reference(checkpoint, configs),
        "optimizer_parameters": shapes,
        "schedule_count": count,
        # finetune.py, which alone has this flag, counts from there.
        "schedule_start": SCHEDULES_DONE if "do_finetune" in checkpoint else 0.0,
        "models_averaged": num_averaged(checkpoint) if _has_average(checkpoint) else 0,
        "model_avg": checkpoint["model_avg" if _has_average(checkpoint) else "model"],
        "sampler": {},
    }
    own["shown_schedule_count"] = own["schedule_start"] + count
    found = {**checkpoint, **own}
    _log_missing(found, path)
    return found


def settings_of_reference(
    checkpoint: Mapping[str, Any], configs: Iterable[type[DataclassInstance]]
) -> dict[str, dict[str, Any]]:
    """Return name of a config -> field -> plain value of the settings that icefall's flags tell."""
    found = {schema_of(cls): plain_flags(checkpoint, (cls,)) for cls in configs}
    for encoder in ENCODER_TYPES.values():
        if encoder.schema in found:
            found[encoder.schema] = encoder.with_implied(found[encoder.schema])
            optimizer = found.setdefault(schema_of(OptimizerConfig), {})
            is_rubik = "optimizer" in checkpoint and saved_by_rubik(checkpoint["optimizer"])
            optimizer["optimizer"] = "rubik" if is_rubik else encoder.published_optimizer
    plain: dict[str, dict[str, Any]] = json.loads(json.dumps(found, default=str))
    return plain


def _check_entries(checkpoint: Mapping[str, Any], path: Path) -> None:
    scheduler = checkpoint["scheduler"]
    missing = [f"scheduler[{name!r}]" for name in ("epoch", "batch") if name not in scheduler]
    missing += [] if "cur_epoch" in checkpoint else ["cur_epoch"]
    if missing:
        raise CheckpointError(
            f"{path} cannot be continued: it lacks {', '.join(missing)}.",
            f"begin a new run with its weights: --finetune-ckpt {path}, in another --exp-dir.",
        )


def _parameters_in_order(checkpoint: Mapping[str, Any], parameters: Collection[str]) -> NamedShapes:
    """Return name and shape of the parameters in the order in which the optimizer knows them.

    It is the order of the modules of the program that wrote the file, as in its weights, where
    buffers stand between the parameters.
    """
    weights = unwrapped(checkpoint["model"])
    return [[(name, tuple(weights[name].shape)) for name in weights if name in parameters]]


def _schedule_count(checkpoint: Mapping[str, Any]) -> float:
    """Return the batches of ``ref_duration`` seconds so far.

    The first recipes have no ``ref_duration``, and count plain batches.
    """
    count = float(checkpoint["batch_idx_train"])
    if not all(name in checkpoint for name in BATCH_SECONDS):
        return count
    max_duration, world_size, ref_duration = (float(checkpoint[name]) for name in BATCH_SECONDS)
    return count * (max_duration * world_size) / ref_duration


def _has_average(checkpoint: Mapping[str, Any]) -> bool:
    return bool(checkpoint.get("model_avg")) and "average_period" in checkpoint


def _log_missing(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Log what goes on as it was, and what does not."""
    averaged = checkpoint["models_averaged"]
    average = f"the average of {averaged} models" if averaged else "no average of models"
    logger.info(
        "%s was written by icefall; taken over: weights, %s, the optimizer after %d batches, the "
        "learning rate's epoch %d and batch %d, the schedules inside the model at %.1f%s",
        path,
        average,
        checkpoint["batch_idx_train"],
        checkpoint["scheduler"]["epoch"],
        checkpoint["scheduler"]["batch"],
        checkpoint["shown_schedule_count"],
        ", with --use-fp16 1 the gradient scale" if checkpoint.get("grad_scaler") else "",
    )
    logger.info(
        "not in the file: the tokenizer; --bpe-model must be the one that it was trained with"
    )
    is_whole = path.name.startswith("epoch-")
    logger.warning(
        "the state of icefall's sampler is not taken over: epoch %d starts from its beginning%s",
        checkpoint["cur_epoch"] + is_whole,
        "" if is_whole else ", and trains again on what it has seen already",
    )
