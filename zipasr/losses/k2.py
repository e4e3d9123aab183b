"""The losses of an installed k2, for those who want to compare."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import torch

from zipasr.base.errors import UserError


@functools.cache
def k2_losses() -> Any:
    """Import k2 and see whether it computes.

    Raises:
        UserError: it is not installed, cannot be loaded, or gets a small lattice wrong.
    """
    advice = "leave out --rnnt-backend: the built-in losses give the same numbers."
    try:
        k2 = importlib.import_module("k2")
        loss = _uniform_lattice(k2)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise UserError(f"--rnnt-backend k2: k2 does not work here ({reason}).", advice) from error
    # Two paths of three arcs, each with probability one half.
    expected = torch.tensor(4.0).log()
    if not torch.allclose(loss, expected, atol=1e-5):
        raise UserError(f"--rnnt-backend k2: k2 computes {loss} where {expected} is right.", advice)
    return k2


def _uniform_lattice(k2: Any) -> torch.Tensor:
    sides = torch.zeros(1, 2, 2)  # (N, S + 1, V) and (N, T, V)
    symbols, boundary = torch.tensor([[1]]), torch.tensor([[0, 0, 1, 2]])
    loss: torch.Tensor = k2.rnnt_loss_simple(
        lm=sides, am=sides, symbols=symbols, termination_symbol=0,
        boundary=boundary, reduction="sum",
    )  # fmt: skip
    return loss.cpu()
