"""Matrices that the processes of a training make orthogonal together, each of them a share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zipasr.base.distributed import World, all_gather_rows
from zipasr.optim.rubik_rules import COEFFICIENTS, Workspace, matrix_shape


def multiplications(shape: Sequence[int], count: int) -> int:
    """Return the multiplications of the polynomial for ``count`` parameters of a shape."""
    short, long = sorted(matrix_shape(shape))
    return count * len(COEFFICIENTS) * short * short * (2 * long + short)


def dealt(costs: Sequence[int], size: int) -> list[int]:
    """Return for each piece of work the process that does it.

    The most expensive piece is dealt first, each to the process that has the least to do, so that
    none has more than another by more than a piece.

    Args:
        costs: of the pieces.
        size: number of processes.
    """
    loads, owners = [0] * size, [0] * len(costs)
    for place in sorted(range(len(costs)), key=lambda place: (-costs[place], place)):
        owners[place] = loads.index(min(loads))
        loads[owners[place]] += costs[place]
    return owners


class SharedMatrices:
    """Results of all processes, of pieces that each computes some of.

    Args:
        sizes: (n, rows, cols) of each piece.
        owners: the process that computes it.
        world: this process among the others.
        like: of the type and on the device of the results.
        workspace: holds them until the next update.
    """

    def __init__(
        self,
        sizes: Sequence[torch.Size],
        owners: Sequence[int],
        world: World,
        like: Tensor,
        workspace: Workspace,
    ) -> None:
        self._world, filled = world, [0] * world.size
        places = []
        for size, owner in zip(sizes, owners, strict=True):
            places.append(filled[owner])
            filled[owner] += size.numel()
        self._rows = workspace.take("shared", (world.size, max(filled)), like)
        self._pieces = [
            self._rows[owner, place : place + size.numel()].view(size)
            for size, owner, place in zip(sizes, owners, places, strict=True)
        ]

    def __getitem__(self, number: int) -> Tensor:
        """Return where a piece is, or is to be written by its owner."""
        return self._pieces[number]

    def exchange(self) -> None:
        """Send the own pieces to all, and receive theirs; all processes must call it."""
        all_gather_rows(self._rows, self._world)
