"""Optimizer, its parameter groups and the learning-rate schedule of a run, from its settings."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.optimizer import Optimizer

from zipasr.base.distributed import World
from zipasr.base.errors import UserError, nearest
from zipasr.nn.numerics import has_bfloat16
from zipasr.optim.config import EdenConfig, OptimizerConfig
from zipasr.optim.named_optimizer import NamedOptimizer, ParametersInput
from zipasr.optim.rubik import BatchedRubik
from zipasr.optim.scaled_adam import ScaledAdam, ScaledAdamV1
from zipasr.optim.schedules import Eden, InterpCosine

Named = tuple[str, nn.Parameter]


def parameter_groups(
    model: nn.Module, lr: float, frozen: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Sort the parameters of a model into groups of equal learning rate.

    The rate of a parameter is ``lr`` times the product of the attributes ``lr_scale`` of all
    modules on its path, the model included; a module without that attribute counts as 1.

    Args:
        model: may be wrapped for distributed training; names are those without the wrapper.
        lr: learning rate of the model.
        frozen: names of modules or parameters, at any depth, that are not trained; ``*`` in them
            stands for any text. They are marked as needing no gradient.

    Returns:
        One dictionary per learning rate, in order of first appearance, with ``named_params``
        (pairs of name and parameter) and ``lr``. Parameters that need no gradient are left out.

    Raises:
        UserError: ``frozen`` names something that is not there, or all that there is.
    """
    inner: nn.Module = model.module if isinstance(model, DistributedDataParallel) else model
    freeze(inner, frozen)
    groups: dict[float, list[Named]] = {}
    seen: set[nn.Parameter] = set()
    for name, param, rate in scaled_parameters(inner, "", lr):
        if param.requires_grad and param not in seen:
            seen.add(param)
            groups.setdefault(rate, []).append((name, param))
    return [{"named_params": named, "lr": rate} for rate, named in groups.items()]


def freeze(model: nn.Module, patterns: Collection[str]) -> None:
    """Switch off the gradients of the parameters that a pattern names; see ``parameter_groups``."""
    parameters = dict(model.named_parameters())
    for pattern in patterns:
        if not any(is_named(name, pattern) for name in parameters):
            known = {path: None for name in parameters for path in _paths(name)}
            raise UserError(
                f"Cannot freeze {pattern!r}: the model has no such module or parameter.",
                nearest(pattern, known)
                or f"choose from {', '.join(name for name, _ in model.named_children())}.",
            )
    chosen = [n for n in parameters if any(is_named(n, pattern) for pattern in patterns)]
    if parameters and len(chosen) == len(parameters):
        raise UserError(
            f"{','.join(patterns)} is all of the model: nothing is left to train.", "freeze less."
        )
    for name in chosen:
        parameters[name].requires_grad_(False)


def is_named(name: str, pattern: str) -> bool:
    """Say whether a pattern, in which ``*`` is any text, is a parameter or a module around it."""
    return any(fnmatchcase(path, pattern) for path in _paths(name))


def _paths(name: str) -> Iterator[str]:
    """Yield the names of the modules around a parameter, outermost first, and its own."""
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        yield ".".join(parts[:depth])


def scaled_parameters(
    module: nn.Module, prefix: str, lr: float
) -> Iterator[tuple[str, nn.Parameter, float]]:
    """Yield name, parameter and learning rate, in the order of ``named_parameters``."""
    rate = lr * float(getattr(module, "lr_scale", 1.0))
    for name, param in module.named_parameters(prefix, recurse=False):
        yield name, param, rate
    for name, child in module.named_children():
        yield from scaled_parameters(child, f"{prefix}.{name}" if prefix else name, rate)


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
    config: OptimizerConfig,
    params: ParametersInput,
    dtype: torch.dtype = torch.float32,
    world: World | None = None,
) -> NamedOptimizer:
    """Return the optimizer of these parameters.

    Args:
        config: says which one.
        params: see ``NamedOptimizer``.
        dtype: of the matrix products of the run.
        world: processes that train the same model.
    """
    if config.optimizer == "rubik":
        # As published, where the machine is made for it, on a CPU too: a quarter of the time less.
        # A float16 run has bfloat16 products here: the range of float16 is too small for them.
        is_fast = world is not None and has_bfloat16(world.device)
        work = torch.bfloat16 if is_fast or dtype == torch.bfloat16 else None
        # Heads that join later in the training keep their size until then.
        return BatchedRubik(params, work_dtype=work, decay_unused=False, world=world)
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
