"""What all processes of a run must have in common: where they begin, and their parameters."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import nn

from zipasr.base.distributed import World, all_gather
from zipasr.base.errors import ResourceError


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


def tell_different_parameters(model: nn.Module, world: World) -> None:
    """Log an error when the parameters are not the same everywhere; all processes must call it."""
    sums = all_gather(_sum_of(model) if world.size > 1 else "", world)
    if wrong := [str(rank) for rank, found in enumerate(sums) if found != sums[0]]:
        logging.error(
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
