"""Optimizer passes that are compiled: numba loops on a CPU, Triton kernels on a GPU.

Importing this needs neither numba nor triton. On a CPU each block is summed by one thread, and the
sums of blocks are added in a fixed order, so results do not depend on the number of threads. The
Triton kernels are compared with torch once per process and device before they are used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zipasr.base.environment import in_threads
from zipasr.kernels.availability import compiled_module
from zipasr.kernels.launch import CheckedKernels, differences
from zipasr.optim.update_kernels import Elements, Gradients, TorchSweeps, UpdateConstants

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


TRITON_BLOCK_ELEMENTS = 2048  # of a program
NUM_WARPS = 8  # few elements for each thread: loads of many programs are on their way at a time
LANES = 128  # sums of blocks that are added at a time


class TritonSweeps:
    """The sweeps for contiguous float32 parameters; ``problem`` tells what to expect."""

    def __init__(self, elements: Elements) -> None:
        self.elements = elements
        sizes = [param.numel() for param in elements.params]
        counts = [-(-size // TRITON_BLOCK_ELEMENTS) for size in sizes]
        device = elements.params[0].device
        self.rounds = -(-max(counts) // LANES)
        self.sizes = torch.tensor(sizes, device=device)
        blocks = blocks_of(sizes, TRITON_BLOCK_ELEMENTS)
        self.blocks = torch.from_numpy(blocks[:, :2]).to(device).contiguous()
        self.first_blocks = torch.tensor([0, *counts], device=device).cumsum(0)
        self.addresses = torch.from_numpy(addresses_of_all(elements)).to(device)
        self.grad_addresses: list[int] = []

    @staticmethod
    def problem(elements: Elements) -> str | None:
        """Say in half a sentence why these sweeps cannot be used, if so."""
        problem = problem_of_tensors(elements, "cuda")
        return KERNELS.fault(elements.params[0].device) if problem is None else problem

    def measure(self, grads: Gradients, with_sizes: bool) -> Tensor:  # noqa: ARG002 - costs nothing
        """Look at parameters and gradients once."""
        flat = self._enter(grads)
        num_blocks, num_params = len(self.blocks), len(flat)
        sums = self.blocks.new_empty((3, num_blocks), dtype=torch.float32)
        totals = self.blocks.new_empty((3, num_params), dtype=torch.float64)
        kernels = KERNELS.module
        with torch.cuda.device_of(self.blocks):  # type: ignore[no-untyped-call]
            kernels.measure_kernel[(num_blocks,)](
                self.addresses,
                self.blocks,
                self.sizes,
                sums,
                num_params,
                num_blocks,
                block=TRITON_BLOCK_ELEMENTS,
                num_warps=NUM_WARPS,
            )
            kernels.collect_kernel[(num_params, 3)](
                sums,
                self.first_blocks,
                totals,
                num_blocks,
                num_params,
                lanes=LANES,
                rounds=self.rounds,
            )
        return totals

    def move(self, grads: Gradients, motion: UpdateConstants) -> None:
        """Change parameters and state, each element in one visit."""
        flat = self._enter(grads)
        growths = torch.zeros_like(motion.rates) if motion.growths is None else motion.growths
        # One small copy; from the host it goes on without waiting for the device.
        vectors = torch.stack([motion.rates, growths, motion.asleep.float()])
        with torch.cuda.device_of(self.blocks):  # type: ignore[no-untyped-call]
            KERNELS.module.move_kernel[(len(self.blocks),)](
                self.addresses,
                self.blocks,
                self.sizes,
                vectors.to(self.blocks.device, non_blocking=True),
                len(flat),
                motion.beta1,
                motion.beta2,
                1.0 - motion.beta2,
                motion.factor,
                motion.eps,
                without_grads=motion.factor == 0.0,
                block=TRITON_BLOCK_ELEMENTS,
                num_warps=NUM_WARPS,
            )
        torch.autograd.graph.increment_version(self.elements.params)

    def _enter(self, grads: Gradients) -> list[Tensor | None]:
        """Note where the gradients are; what is returned must live as long as that is used."""
        flat = [None if grad is None else grad.contiguous() for grad in grads]
        addresses = addresses_of(flat)
        if addresses != self.grad_addresses:
            self.grad_addresses = addresses
            self.addresses[1].copy_(torch.tensor(addresses), non_blocking=True)
        return flat


def _errors(device: torch.device) -> Iterator[float]:
    """Yield differences of the kernels from torch on a few small parameters."""
    for factor, growing in ((0.5, True), (1.0, False), (0.0, True)):
        results = []
        for kind in (TorchSweeps, TritonSweeps):
            elements, grads = _example(device)
            sweeps = kind(elements)
            sums = sweeps.measure(grads, with_sizes=True)
            rates = -torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
            growths = rates * torch.tensor([0.01, 0.01, 0.01, 0.0, 0.0]) if growing else None
            asleep = torch.tensor([False, False, False, True, False])
            sweeps.move(grads, UpdateConstants(0.9, 0.98, factor, 1e-8, rates, growths, asleep))
            results.append([sums, *elements.params, *elements.exp_avg_sq, *elements.delta])
        wanted, found = results
        yield from differences(found, wanted)


def _example(device: torch.device) -> tuple[Elements, list[Tensor | None]]:
    """Parameters with all that makes a difference: sizes, a missing gradient, one never there."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).to(device)

    shapes = ((3, TRITON_BLOCK_ELEMENTS), (7,), (5, 5), (2, 3), ())
    params, grads, seconds, deltas = ([random(*shape) for shape in shapes] for _ in range(4))
    seconds[3].zero_()
    deltas[3].zero_()
    return Elements(params, seconds, deltas), [grads[0], grads[1], None, None, grads[4]]


KERNELS = CheckedKernels("optimizer", _errors, largest_error=1e-5)
