"""Optimizer and learning-rate schedule of a run, from its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch.optim.optimizer import Optimizer

from zipasr.optim.config import EdenConfig, OptimizerConfig
from zipasr.optim.named_optimizer import NamedOptimizer, ParametersInput
from zipasr.optim.rubik import BatchedRubik
from zipasr.optim.scaled_adam import ScaledAdam, ScaledAdamV1
from zipasr.optim.schedules import Eden, InterpCosine

# ScaledAdam clips gradients at this multiple of their running median.
CLIPPING_SCALE = 2.0

# What the reference assumes of an epoch when nobody has counted.
USUAL_BATCHES = 2200


class Schedule(Protocol):
    """Sets the learning rate of all groups before each update."""

    def begin_epoch(self, epoch: int, updates: int | None) -> None:
        """Say that an epoch begins or goes on.

        Args:
            epoch: from 1.
            updates: in the whole epoch; None when unknown.
        """

    def begin_update(self, in_epoch: int, in_all: int) -> None:
        """Set the rate of the update to come.

        Args:
            in_epoch: updates of the epoch before this one.
            in_all: updates since the very beginning, with this one.
        """

    def get_last_lr(self) -> list[float]:
        """Return the learning rate last written, one per group."""

    def state_dict(self) -> dict[str, Any]:
        """Return the counters."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the counters."""


def saved_by_rubik(saved: Mapping[str, Any]) -> bool:
    """Say whether a ``state_dict`` is of BatchedRubik."""
    return all(BatchedRubik.layout.option in group for group in saved["param_groups"])


def build_optimizer(
    config: OptimizerConfig, params: ParametersInput, dtype: torch.dtype = torch.float32
) -> NamedOptimizer:
    """Return the optimizer of these parameters.

    Args:
        config: says which one.
        params: see ``NamedOptimizer``.
        dtype: of the matrix products of the run.
    """
    if config.optimizer == "rubik":
        # A float16 run has bfloat16 products here: the range of float16 is too small for them.
        work = torch.bfloat16 if dtype == torch.bfloat16 else None
        # Heads that join later in the training keep their size until then.
        return BatchedRubik(params, work_dtype=work, decay_unused=False)
    adam = ScaledAdam if config.optimizer == "scaled_adam" else ScaledAdamV1
    return adam(params, clipping_scale=CLIPPING_SCALE)


def build_schedule(
    optimizer: Optimizer, config: OptimizerConfig, rates: EdenConfig, real_epochs: Sequence[int]
) -> Schedule:
    """Return the schedule that goes with an optimizer.

    Args:
        optimizer: its groups receive the learning rate.
        config: says which optimizer it is.
        rates: settings of the schedule.
        real_epochs: passes over the data that each epoch of the run counts as, in order.
    """
    if config.optimizer != "rubik":
        return Eden(
            optimizer,
            rates.lr_batches,
            rates.lr_epochs,
            rates.warmup_batches,
            rates.warmup_start,
            real_epochs,
        )
    each = rates.batches_per_epoch
    return InterpCosine(
        optimizer,
        [count * (each or USUAL_BATCHES) for count in real_epochs],
        warmup_batches=rates.warmup_batches,
        warmup_start=rates.warmup_start,
        counted_ahead=each is None,
    )
