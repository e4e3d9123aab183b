"""Implementation of optimizer steps: plain PyTorch, numba loops, or Triton kernels.

All compute the same numbers up to rounding. Plain PyTorch is the meaning and runs everywhere, for
every type and layout.
"""

from __future__ import annotations

import functools
import logging
from typing import Literal, get_args

from zipasr.base.errors import UserError
from zipasr.optim.numba_update import CompiledSweeps
from zipasr.optim.triton_update import TritonSweeps
from zipasr.optim.update_kernels import Elements, Sweeps, TorchSweeps

logger = logging.getLogger(__name__)

OptimizerBackend = Literal["auto", "torch", "numba", "triton"]

_KINDS: dict[str, type[CompiledSweeps | TritonSweeps]] = {
    "numba": CompiledSweeps,
    "triton": TritonSweeps,
}
_FASTEST = {"cpu": "numba", "cuda": "triton"}


def sweeps_for(elements: Elements, backend: OptimizerBackend = "auto") -> Sweeps:
    """Choose for the device, type and layout of the parameters of a group.

    ``auto`` takes what is fastest and works, and says once why that is plain PyTorch.

    Raises:
        UserError: the back end that is asked for does not work here.
        ValueError: there is no such back end.
    """
    if backend not in get_args(OptimizerBackend):
        raise ValueError(f"backend is {backend!r}; it must be one of {get_args(OptimizerBackend)}")
    device = elements.params[0].device.type
    wanted = _FASTEST.get(device, "torch") if backend == "auto" else backend
    if wanted == "torch":
        return TorchSweeps(elements)
    problem = _KINDS[wanted].problem(elements)
    if problem is None:
        return _KINDS[wanted](elements)
    if backend == wanted:
        raise UserError(
            f"The steps of the optimizer cannot be made by {backend}: {problem}.",
            "use the back end auto.",
        )
    _tell(problem)
    return TorchSweeps(elements)


@functools.cache
def _tell(problem: str) -> None:
    """Warn; once per process for each reason."""
    logger.warning("the steps of the optimizer are made by PyTorch: %s", problem)
