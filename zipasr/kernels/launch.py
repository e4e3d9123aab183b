"""Launches of Triton kernels, and the comparison with their definitions that comes before."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

#: Types that the kernels read; their arithmetic is float32.
TYPES = (torch.float32, torch.bfloat16, torch.float16)
LARGEST_ERROR = 1e-4
C_COMPILER_COMMAND = "apt-get install gcc python3-dev"


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


class CheckedKernels:
    """A module of Triton kernels that are compared with their definitions on each device.

    Args:
        name: of the module in ``zipasr.kernels.triton``.
        errors: gives the differences from the definitions on a device.
        cost: a sentence, what it costs to do without the kernels; ``work_on`` warns with it.
        largest_error: difference that is tolerated.
    """

    def __init__(
        self,
        name: str,
        errors: Callable[[torch.device], Iterable[float]],
        cost: str = "",
        largest_error: float = LARGEST_ERROR,
    ) -> None:
        self.name, self.errors, self.cost, self.largest_error = name, errors, cost, largest_error
        self._faults: dict[torch.device, str | None] = {}

    @functools.cached_property
    def module(self) -> Any:
        """The module, whose import needs triton."""
        return importlib.import_module(f"zipasr.kernels.triton.{self.name}")

    def work_on(self, device: torch.device) -> bool:
        """Say whether the kernels can be used on a device; say once if not on a GPU, and why."""
        if device.type != "cuda":
            return False
        problem = self.fault(device)
        if problem is not None:
            _tell(f"{problem} {self.cost}")
        return problem is None

    def fault(self, device: torch.device) -> str | None:
        """Say in one sentence why the kernels cannot be used on a device; None if they can.

        Waits for the device and compiles once in a process.
        """
        if device not in self._faults:
            self._faults[device] = self._compared(device)
        return self._faults[device]

    def _compared(self, device: torch.device) -> str | None:
        try:
            worst = float(torch.tensor(list(self.errors(device))).max())  # nan if any is
        except ImportError:
            return "The package triton is not installed: pip install triton."
        except Exception as error:
            # Whatever a compiler or driver raises, there is another way to compute the same.
            if c_compiler() is None:
                return f"Triton needs a C compiler: {C_COMPILER_COMMAND}."
            reason = (str(error).strip() or "no message").splitlines()[0]
            return f"The Triton kernels fail on {device}: {type(error).__name__}: {reason}."
        is_right = worst < self.largest_error
        return (
            None if is_right else f"The Triton kernels are wrong on {device}: off by {worst:.1e}."
        )


def c_compiler() -> str | None:
    """Return the path of the C compiler, with which Triton builds what launches its kernels."""
    names = (os.environ.get("CC", ""), "cc", "gcc", "clang")
    return next(filter(None, map(shutil.which, names)), None)


@functools.cache
def _tell(message: str) -> None:
    logger.warning(message)


def differences(found: Iterable[Tensor], expected: Iterable[Tensor]) -> list[float]:
    """Return the largest difference of each tensor, relative to values above one; or nan."""
    pairs = [(x.double().cpu(), y.double().cpu()) for x, y in zip(found, expected, strict=True)]
    return [float(((x - y).abs() / y.abs().clamp(min=1)).max()) for x, y in pairs]
