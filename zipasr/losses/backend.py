"""Implementation of the losses: plain PyTorch, numba loops, Triton kernels, or an installed k2.

All compute the same numbers. Plain PyTorch is the meaning, runs everywhere, and alone computes
in float64.
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor

from zipasr.base.errors import UserError
from zipasr.kernels.availability import compiled_module
from zipasr.losses import recursion, triton_backend
from zipasr.losses import recursion as arcs
from zipasr.losses.config import RnntBackend
from zipasr.losses.recursion import LatticeSums

logger = logging.getLogger(__name__)


class Kernels(NamedTuple):
    """What the back ends do in their own ways; see ``recursion`` for the meaning."""

    name: str
    full_recursion: Callable[[Tensor, Tensor, Tensor, Tensor], LatticeSums]
    band_recursion: Callable[..., LatticeSums]
    softmax_arcs: arcs.ArcsForward
    softmax_arcs_grad: arcs.ArcsBackward


PLAIN = Kernels(
    "torch",
    recursion.full_recursion,
    recursion.band_recursion,
    arcs.softmax_arcs,
    arcs.softmax_arcs_grad,
)


def kernels_for(backend: RnntBackend, x: Tensor) -> Kernels:
    """Choose for the device and type of ``x``.

    ``auto`` takes what is fastest and works. A back end that is asked for by name computes
    whatever it can; the types that it does not know (float64 for one) are left to PyTorch. k2
    comes with whole losses: what reaches this function is computed as for ``auto``.

    Raises:
        UserError: the back end that is asked for does not work here.
        ValueError: there is no such back end.
    """
    if backend not in get_args(RnntBackend):
        raise ValueError(f"rnnt_backend is {backend!r}; it must be one of {get_args(RnntBackend)}")
    wanted = {"auto": "triton" if x.is_cuda else "numba", "k2": "numba"}.get(backend, backend)
    if wanted == "torch":
        return PLAIN
    problem = _problem(wanted, x.device)
    if problem is None:
        known = (torch.float32, torch.bfloat16) if wanted == "numba" else _HALVES
        return _kernels(wanted) if x.dtype in known else PLAIN
    if backend == wanted:
        raise UserError(
            f"--rnnt-backend {backend}: {problem.rstrip('.')}.", "use --rnnt-backend auto."
        )
    return PLAIN


_HALVES = (torch.float32, torch.bfloat16, torch.float16)


def _problem(name: str, device: torch.device) -> str | None:
    """Say in half a sentence why a back end does not work on a device."""
    if name == "numba":
        if device.type != "cpu":
            return f"compiled loops run on a CPU, not on {device.type}"
        if compiled_module("zipasr.losses.numba_backend") is None:
            return "numba is not installed or may not compile"
        return None
    if device.type != "cuda":
        return f"Triton needs a CUDA device, not {device.type}"
    kernels = triton_backend.KERNELS
    return None if kernels.work_on(device) else kernels.fault(device)


@functools.cache
def _kernels(name: str) -> Kernels:
    module = importlib.import_module(
        "zipasr.losses.numba_backend" if name == "numba" else "zipasr.losses.triton_backend"
    )
    return Kernels(
        name,
        module.full_recursion,
        module.band_recursion,
        module.softmax_arcs,
        module.softmax_arcs_grad,
    )


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
