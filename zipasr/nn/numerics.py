"""Number formats of hand-written passes, and blocks of large tensors that stay in the cache."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)


def at_least_float32(x: Tensor) -> Tensor:
    """Return ``x`` in float32, or as it is when it is more precise than that."""
    return x if x.dtype == torch.float64 else x.float()


#: So many bytes the driver copies aside by itself; with more, it keeps the host waiting.
STAGED_BYTES = 1 << 16


def to_device(x: Tensor, device: torch.device | str) -> Tensor:
    """Return ``x`` on a device; the host goes on before it has arrived there.

    ``x`` may be changed afterwards: what is sent to a GPU is copied aside first.
    """
    target = torch.device(device)
    if target.type == "cuda" and x.device.type == "cpu" and x.nbytes > STAGED_BYTES:
        x = x.pin_memory()
    return x.to(target, non_blocking=True)


class OnItsWay:
    """Numbers that are copied from a device to the host while both go on.

    Args:
        values: any shape, on any device.
    """

    def __init__(self, values: Tensor) -> None:
        self._values = values.detach().to("cpu", non_blocking=True)
        # On a CPU they are there.
        self._copied: Any = None
        if values.is_cuda:
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record(torch.cuda.current_stream(values.device))

    def arrived(self) -> Tensor:
        """Return the values, on the host; wait for them if they are not there yet."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._values


def matmul_dtype(weight: Tensor) -> torch.dtype:
    """Return the type in which autocast would multiply by ``weight`` here and now.

    Inside a custom autograd function autocast does not reach the backward pass, so the
    function has to remember the answer of the forward pass.
    """
    device = weight.device.type
    if weight.dtype != torch.float64 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return weight.dtype


def no_autocast(x: Tensor) -> torch.autocast:
    """Return a context in which operations on the device of ``x`` keep the types they are given."""
    return torch.autocast(x.device.type, enabled=False)


def can_use_bf16(asked_for: bool, device: torch.device) -> bool:
    """Say whether ``--use-bf16`` holds; warn where the device is slow at what was asked for."""
    if asked_for and not has_bfloat16(device):
        logger.warning(
            "--use-bf16 1: this device computes bfloat16 slowly; float32 is used instead."
        )
        return False
    return asked_for


# What may stand in ONEDNN_MAX_CPU_ISA: no limit; parts of the names of processors that will do.
_ALL = ("", "ALL", "DEFAULT")
_HAVE_BFLOAT16 = ("BF16", "FP16", "AMX", "AVX10")


def has_bfloat16(device: torch.device) -> bool:
    """Say whether the device multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # oneDNN, which multiplies, may be held to the instructions of an older processor.
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    if limit not in _ALL and not any(name in limit for name in _HAVE_BFLOAT16):
        return False
    if not hasattr(torch.cpu, "get_capabilities"):  # of older torch
        return bool(torch.cpu._is_avx512_bf16_supported())
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


#: A block should fit the cache of one core beside what is computed from it.
CPU_BLOCK_BYTES = 1 << 20

#: Elsewhere blocks only bound the memory of what lies in between.
OTHER_BLOCK_BYTES = 1 << 30


def row_blocks(num_rows: int, row_bytes: int, device: torch.device) -> Iterator[slice]:
    """Cut rows into blocks.

    A program that is being traced sees one block: the number of rows must not become part of it.

    Args:
        num_rows: how many there are.
        row_bytes: size of one row of whatever takes the most room.
        device: where they are.

    Yields:
        Slices that cover 0 to ``num_rows``; one empty slice if there are no rows.
    """
    if is_traced():
        yield slice(0, None)
        return
    size = max(64, block_bytes(device) // max(1, row_bytes))
    for start in range(0, max(1, num_rows), size):
        yield slice(start, start + size)


def block_bytes(device: torch.device) -> int:
    """Return how large a block may be: on a CPU, what the caches of all threads hold."""
    if device.type == "cpu":
        return CPU_BLOCK_BYTES * torch.get_num_threads()
    return OTHER_BLOCK_BYTES


def is_traced() -> bool:
    """Say whether operations are being recorded, to be run later on other sizes."""
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return bool(tracing) or torch.compiler.is_compiling()


def in_memory_order(x: Tensor) -> Tensor | None:
    """Return the elements of a dense tensor as (numel,) in the order of memory, without a copy.

    Returns:
        A view, or ``None`` if there are gaps between the elements.
    """
    expected = 1
    for stride, size in sorted(zip(x.stride(), x.shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return None
        expected *= size
    return x.as_strided((x.numel(),), (1,))
