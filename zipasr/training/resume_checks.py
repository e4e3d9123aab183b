"""Checks before training resumes: equal start on all ranks, settings unlike the checkpoint's."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from zipasr.base.config import flag_name, is_same_value, schema_of, shown
from zipasr.base.distributed import World, all_gather
from zipasr.base.errors import CheckpointError, ResourceError
from zipasr.checkpoint.model_file import MODEL_CONFIGS, current_schemas, stored_tokenizer
from zipasr.text.tokenizer import Tokenizer
from zipasr.training.config import TrainConfig

logger = logging.getLogger(__name__)


def check_same_start(path: Path | None, world: World) -> None:
    """Refuse to go on from different checkpoints; all processes must call it.

    Args:
        path: the checkpoint that this process goes on from; None for a beginning.
        world: this process.

    Raises:
        ResourceError: processes found different ones, as on machines with disks of their own.
    """
    names = all_gather(None if path is None else path.name, world)
    for rank, name in enumerate(names):
        if name != names[0]:
            raise ResourceError(
                f"process 0 goes on from {names[0] or 'the beginning'}, process {rank} from "
                f"{name or 'the beginning'}.",
                "let --exp-dir be one folder that all machines share.",
            )


def warn_different_parameters(model: nn.Module, world: World) -> None:
    """Log an error when the parameters are not the same everywhere; all processes must call it."""
    sums = all_gather(_sum_of(model) if world.size > 1 else "", world)
    if wrong := [str(rank) for rank, found in enumerate(sums) if found != sums[0]]:
        logger.error(
            "the parameters of process 0 and of process %s are no longer the same: the gradients "
            "are not averaged, or a GPU computes wrongly",
            ", ".join(wrong),
        )


@torch.no_grad()
def _sum_of(model: nn.Module) -> str:
    """Return a text that differs, in practice, when one bit of a parameter does."""
    sums = [parameter.double().sum() for parameter in model.parameters()]
    weights = torch.arange(1.0, len(sums) + 1.0, dtype=torch.float64, device=sums[0].device)
    return repr(float(torch.stack(sums) @ weights))


class SettingChange(NamedTuple):
    """A setting that differs from the checkpoint's."""

    owner: str
    name: str
    before: Any
    now: Any

    @property
    def is_of_model(self) -> bool:
        """Whether it makes another model of the same weights.

        Shapes do not always tell: two heads of 16 channels are as large as four of 8.
        """
        free = {cls.schema: cls.free_on_resume for cls in MODEL_CONFIGS}
        return self.owner in free and self.name not in free[self.owner]

    def __str__(self) -> str:
        return f"{flag_name(self.name)} {_shown(self.before)} -> {_shown(self.now)}"


def changed_settings(stored: Mapping[str, Any], now: Mapping[str, Any]) -> list[SettingChange]:
    """List the settings that differ; what one side does not know, of another version, does not.

    Args:
        stored: name of a config -> field -> plain value, from a checkpoint of any version.
        now: the same, of this run.
    """
    stored = current_schemas(stored)
    return [
        SettingChange(owner, name, before, fields[name])
        for owner, fields in now.items()
        for name, before in stored.get(owner, {}).items()
        if name in fields and not is_same_value(before, fields[name])
    ]


def check_continues(
    checkpoint: Mapping[str, Any], now: Mapping[str, Any], tokenizer: Tokenizer, path: Path
) -> None:
    """Log each setting that changed since a checkpoint.

    Args:
        checkpoint: content of ``path``, whose weights fit to the model of this run.
        now: settings of this run, as checkpoints hold them.
        tokenizer: of this run.
        path: named in messages.

    Raises:
        CheckpointError: a setting of the model or the tokenizer changed, so that the same weights
            would mean something else.
    """
    found = changed_settings(checkpoint.get("configs", {}), now)
    if wrong := [change for change in found if change.is_of_model]:
        asked = " ".join(f"{flag_name(one.name)} {_shown(one.now)}" for one in wrong)
        before = " ".join(f"{flag_name(one.name)} {_shown(one.before)}" for one in wrong)
        raise CheckpointError(
            f"{asked} was asked for, but {path} was trained with {before}: its weights have the "
            "same shapes, and would mean something else.",
            f"{before}, or choose another --exp-dir for a new run.",
        )
    _check_tokenizer(checkpoint, tokenizer, path)
    if found:
        logger.info("changed since %s: %s", path, ", ".join(map(str, found)))


def check_same_copies(
    checkpoint: Mapping[str, Any], now: TrainConfig, epoch: int, path: Path
) -> None:
    """Refuse other copies than the epochs up to the one in progress had.

    Epochs of several copies are numbered by a list that the flags make; with another list the
    number of an epoch would stand for another amount of training.

    Args:
        checkpoint: content of ``path``.
        now: settings of this run.
        epoch: in progress, or ended last, counted from 1.
        path: named in messages.

    Raises:
        CheckpointError: says which flags the run had.
    """
    stored = checkpoint.get("configs", {}).get(schema_of(TrainConfig), {})
    names = ("min_copies", "max_copies", "num_real_epochs", "num_epochs")
    values = {name: stored[name] for name in names if name in stored}
    then = replace(now, **({"min_copies": 1, "max_copies": 1, "num_real_epochs": None} | values))
    before, after = (config.epochs.copies[:epoch] for config in (then, now))
    if before == after or max(then.max_copies, now.max_copies) == 1:
        return
    flags = " ".join(
        f"{flag_name(name)} {value}" for name in names if (value := getattr(then, name)) is not None
    )
    raise CheckpointError(
        f"{path} is of epoch {epoch}, whose epochs had {_shown(before)} copies of each utterance; "
        f"the flags of now say {_shown(after)}.",
        f"give those of then ({flags}), or choose another --exp-dir for a new run.",
    )


def _check_tokenizer(checkpoint: Mapping[str, Any], tokenizer: Tokenizer, path: Path) -> None:
    if "tokenizer" not in checkpoint:
        return
    stored = stored_tokenizer(checkpoint)
    if stored.pieces() != tokenizer.pieces():
        raise CheckpointError(
            f"--bpe-model ({tokenizer.vocab_size} tokens) is not the tokenizer that {path} was "
            f"trained with ({stored.vocab_size} tokens).",
            "give that one back, or choose another --exp-dir for a new run.",
        )


def _shown(value: Any) -> str:
    return shown(tuple(value) if isinstance(value, list) else value)
