"""Block sizes for operations on large tensors, so that blocks stay in the cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

#: A block should fit the cache of one core beside what is computed from it.
CPU_BLOCK_BYTES = 1 << 20

#: Elsewhere blocks only bound the memory of what lies in between.
OTHER_BLOCK_BYTES = 1 << 28


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
