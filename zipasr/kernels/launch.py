"""Launches of Triton kernels, and the comparison with their definitions that comes before."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from zipasr.kernels.availability import triton_fault

logger = logging.getLogger(__name__)

#: Types that the kernels read; their arithmetic is float32.
TYPES = (torch.float32, torch.bfloat16, torch.float16)
LARGEST_ERROR = 1e-4


def launch(
    kernel: Any, grid: tuple[int, ...], num_warps: int, arguments: Sequence[Any], **constants: float
) -> None:
    """Run a kernel on the device of its first argument.

    Args:
        kernel: the function.
        grid: number of programs, in one dimension or several; nothing is done where one is 0.
        num_warps: of each program.
        arguments: tensors and numbers.
        constants: what the kernel is compiled for.
    """
    if all(grid):
        with torch.cuda.device_of(arguments[0]):  # type: ignore[no-untyped-call]
            # One stage: no loop here has loads that a compiler should move ahead.
            kernel[grid](*arguments, **constants, num_warps=num_warps, num_stages=1)


def works_on(
    device: torch.device, self_check: Callable[[torch.device], str | None], cost: str
) -> bool:
    """Say whether kernels can be used on a device; say once if not on a GPU, and why.

    Args:
        device: where.
        self_check: of the kernels, see ``fault_of``.
        cost: a sentence, what it costs to do without them.
    """
    if device.type != "cuda":
        return False
    problem = self_check(device)
    if problem is not None:
        _tell(f"{problem} {cost}")
    return problem is None


@functools.cache
def _tell(message: str) -> None:
    logger.warning(message)


def fault_of(
    errors: Callable[[torch.device], Iterable[float]],
    device: torch.device,
    largest: float = LARGEST_ERROR,
) -> str | None:
    """Compare kernels with their definitions.

    Waits for the device, and compiles on the first call.

    Args:
        errors: gives the differences on a device.
        device: where.
        largest: difference that is tolerated.

    Returns:
        One sentence that says why the kernels cannot be used there, or none if they can.
    """
    try:
        worst = float(torch.tensor(list(errors(device))).max())  # nan if any is
    except Exception as error:
        # Whatever a compiler or driver raises, there is another way to compute the same.
        return triton_fault(error, device)
    return None if worst < largest else f"The Triton kernels are off by {worst:.1e}."


def differences(found: Iterable[Tensor], expected: Iterable[Tensor]) -> list[float]:
    """Return the largest difference of each tensor, relative to values above one; or nan."""
    pairs = [(x.double().cpu(), y.double().cpu()) for x, y in zip(found, expected, strict=True)]
    return [float(((x - y).abs() / y.abs().clamp(min=1)).max()) for x, y in pairs]
