"""Optimizer passes on a CPU as numba loops, on all threads of torch.

Importing this needs no numba. Each block is summed by one thread, and the sums of blocks are
added in a fixed order, so results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zipasr.base.environment import in_threads
from zipasr.kernels.availability import compiled_module
from zipasr.optim.update_kernels import Elements, Gradients, UpdateConstants

# Elements of which a sum is taken in float32; the sums of blocks are added in float64.
BLOCK_ELEMENTS = 1 << 14
# Blocks that a thread takes at a time.
BLOCKS_PER_ITEM = 64


class CompiledSweeps:
    """The sweeps for contiguous float32 parameters on a CPU; ``problem`` tells what to expect."""

    def __init__(self, elements: Elements) -> None:
        self.elements = elements
        sizes = [param.numel() for param in elements.params]
        self.blocks = blocks_of(sizes, BLOCK_ELEMENTS)
        self.first_blocks = np.flatnonzero(self.blocks[:, 1] == 0)
        self.num_items = -(-len(self.blocks) // BLOCKS_PER_ITEM)
        self.addresses = addresses_of_all(elements)

    @staticmethod
    def problem(elements: Elements) -> str | None:
        """Say in half a sentence why these sweeps cannot be used, if so."""
        if compiled_module("zipasr.kernels.numba.optimizer") is None:
            return "numba is not installed or may not compile"
        return problem_of_tensors(elements, "cpu")

    def measure(self, grads: Gradients, with_sizes: bool) -> Tensor:
        """Look at parameters and gradients once."""
        loops, _flat = self._enter(grads)
        sums = np.empty((len(self.blocks), 3), np.float32)

        def some(item: int) -> None:
            inside = slice(item * BLOCKS_PER_ITEM, (item + 1) * BLOCKS_PER_ITEM)
            loops.measure(self.addresses, self.blocks[inside], with_sizes, sums[inside])

        in_threads(some, self.num_items)
        return torch.from_numpy(np.add.reduceat(sums.astype(np.float64), self.first_blocks).T)

    def move(self, grads: Gradients, motion: UpdateConstants) -> None:
        """Change parameters and state, each element in one visit."""
        loops, _flat = self._enter([None] * len(grads) if motion.factor == 0.0 else grads)
        beta1, beta2 = motion.beta1, motion.beta2
        constants = np.array([beta1, beta2, 1.0 - beta2, motion.factor, motion.eps], np.float32)
        asleep, rates = motion.asleep.numpy(), motion.rates.numpy()
        growths = np.zeros_like(rates) if motion.growths is None else motion.growths.numpy()

        def some(item: int) -> None:
            inside = slice(item * BLOCKS_PER_ITEM, (item + 1) * BLOCKS_PER_ITEM)
            loops.move(self.addresses, self.blocks[inside], asleep, constants, rates, growths)

        in_threads(some, self.num_items)
        # The loops write behind torch's back; a later backward pass must notice.
        torch.autograd.graph.increment_version(self.elements.params)

    def _enter(self, grads: Gradients) -> tuple[ModuleType, list[Tensor | None]]:
        """Note where the gradients are; what is returned must live as long as that is used."""
        loops = compiled_module("zipasr.kernels.numba.optimizer")
        assert loops is not None
        flat = [None if grad is None else grad.contiguous() for grad in grads]
        self.addresses[loops.GRAD] = addresses_of(flat)
        return loops, flat


def addresses_of_all(elements: Elements) -> NDArray[np.int64]:
    """Return (4, P) addresses of values, gradients (not yet known), second moments and steps.

    All but the gradients stay where they are; ScaledAdam begins anew if they do not.
    """
    tables = (elements.params, [None] * len(elements.params), elements.exp_avg_sq, elements.delta)
    return np.array([addresses_of(tensors) for tensors in tables], np.int64)


def addresses_of(tensors: Sequence[Tensor | None]) -> list[int]:
    """Return where the elements of each tensor begin, 0 for a missing one."""
    return [0 if tensor is None else tensor.data_ptr() for tensor in tensors]


def blocks_of(sizes: Sequence[int], limit: int) -> NDArray[np.int64]:
    """Cut parameters into blocks of at most ``limit`` elements.

    Returns:
        (C, 3): index of the parameter, first element, number of elements.
    """
    rows = [
        (index, start, min(limit, size - start))
        for index, size in enumerate(sizes)
        for start in range(0, size, limit)
    ]
    return np.array(rows, dtype=np.int64)


def problem_of_tensors(elements: Elements, device: str) -> str | None:
    """Say in half a sentence which tensor is not contiguous float32 on this type of device."""
    for tensors in (elements.params, elements.exp_avg_sq, elements.delta):
        for tensor in tensors:
            if tensor.device.type != device:
                return f"a parameter is on {tensor.device.type}, not on {device}"
            if tensor.dtype != torch.float32:
                return f"a parameter is {tensor.dtype}, not torch.float32"
            if not tensor.is_contiguous():
                return f"a parameter of shape {tuple(tensor.shape)} is not contiguous"
    return None
