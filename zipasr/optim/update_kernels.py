"""The two passes of an optimizer step over all elements: interface, and plain PyTorch.

This module says what a sweep does, in torch operations that run everywhere. ``compiled_update``
does the same in one visit to memory each, on CPU and GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

# Number of elements that are taken through all operations of a step together. On a CPU the
# values, gradients, moments and temporaries of that many fit into the cache, so each is fetched
# from memory once per step instead of once per operation; on other devices fewer and larger
# launches are better.
CPU_CHUNK_ELEMENTS = 1 << 18
# A smaller factor loses its square in float32.
SMALLEST_FOLDED_FACTOR = 1e-15

Gradients = Sequence[Tensor | None]


@dataclass(frozen=True, slots=True)
class Elements:
    """What the sweeps go over: P parameters and their state, all lists in the same order."""

    params: list[Tensor]
    exp_avg_sq: list[Tensor]
    """Second moments, each of the shape of its parameter."""
    delta: list[Tensor]
    """Smoothed steps, each of the shape of its parameter."""


class UpdateConstants(NamedTuple):
    """What the second sweep does with gradient g, second moment v, step m and value p.

    g is multiplied by ``factor`` (0: replaced by zeros); v decays to beta2 v + (1 - beta2) g^2;
    m to beta1 m + rate g / (sqrt(v) + eps) + growth p; m is added to p. The tensors lie on the
    host, whatever the device of the parameters.
    """

    beta1: float
    beta2: float
    factor: float
    eps: float
    rates: Tensor
    """(P,)."""
    growths: Tensor | None
    """(P,); None is all zeros."""
    asleep: Tensor
    """(P,) bool: all is zero, gradient, moment, step and growth, so nothing is done."""


class Sweeps(Protocol):
    """Implementation of both passes; made once for the parameters of a group."""

    def measure(self, grads: Gradients, with_sizes: bool) -> Tensor:
        """Look at parameters and gradients without changing them or waiting for the device.

        Returns:
            (3, P) float64, sums over the elements of g^2, of p g and of p^2. The last row is
            valid only ``with_sizes``; a missing gradient is zero.
        """
        ...

    def move(self, grads: Gradients, motion: UpdateConstants) -> None:
        """Change parameters and state; the gradients are only read."""
        ...


class TorchSweeps:
    """The sweeps in torch operations, for any floating-point type, layout and device."""

    def __init__(self, elements: Elements) -> None:
        self.elements = elements
        self.chunks = chunk_slices(elements.params)

    def measure(self, grads: Gradients, with_sizes: bool) -> Tensor:
        """Look at parameters and gradients, chunk by chunk."""
        params = self.elements.params
        zero = params[0].new_zeros(())
        norms, products, sizes = ([zero] * len(params) for _ in range(3))
        for chunk in self.chunks:
            given = [(i, g) for i, g in enumerate(grads[chunk], chunk.start) if g is not None]
            found = torch._foreach_norm([grad for _, grad in given]) if given else ()
            for (i, grad), norm in zip(given, found, strict=True):
                norms[i] = norm
                products[i] = torch.dot(params[i].reshape(-1), grad.reshape(-1))
            if with_sizes:
                sizes[chunk] = torch._foreach_norm(params[chunk])
        rows = [torch.stack(row).double() for row in (norms, products, sizes)]
        return torch.stack([rows[0].square(), rows[1], rows[2].square()])

    def move(self, grads: Gradients, motion: UpdateConstants) -> None:
        """Change parameters and state, chunk by chunk."""
        asleep, rates = motion.asleep.tolist(), motion.rates.tolist()
        growths = None if motion.growths is None else motion.growths.tolist()
        for chunk in self.chunks:
            awake = [i for i in range(len(asleep))[chunk] if not asleep[i]]
            if awake:
                self._move(awake, grads, motion, rates, growths)

    def _move(
        self,
        indexes: list[int],
        grads: Gradients,
        motion: UpdateConstants,
        rates: list[float],
        growths: list[float] | None,
    ) -> None:
        """Move the parameters with these indexes."""
        elements, factor = self.elements, motion.factor
        params = [elements.params[i] for i in indexes]
        second = [elements.exp_avg_sq[i] for i in indexes]
        delta = [elements.delta[i] for i in indexes]
        given = _filled([grads[i] for i in indexes], params, factor)
        if 0.0 < factor < SMALLEST_FOLDED_FACTOR:
            given, factor = list(torch._foreach_mul(given, factor)), 1.0
        torch._foreach_mul_(second, motion.beta2)
        torch._foreach_addcmul_(second, given, given, value=(1.0 - motion.beta2) * factor * factor)
        roots = torch._foreach_sqrt(second)
        torch._foreach_add_(roots, motion.eps)
        torch._foreach_mul_(delta, motion.beta1)
        torch._foreach_addcdiv_(delta, given, roots, [rates[i] * factor for i in indexes])
        if growths is not None:
            torch._foreach_add_(delta, torch._foreach_mul(params, [growths[i] for i in indexes]))
        torch._foreach_add_(params, delta)


def chunk_slices(params: Sequence[Tensor]) -> list[slice]:
    """Cut a list of tensors into runs that are worked on together.

    Returns:
        Slices that cover ``params`` in order. On a CPU a run has at most ``CPU_CHUNK_ELEMENTS``
        elements, or is a single larger tensor; elsewhere there is one run.
    """
    if not params or params[0].device.type != "cpu":
        return [slice(0, len(params))]
    cuts = [0]
    filled = 0
    for index, param in enumerate(params):
        if filled and filled + param.numel() > CPU_CHUNK_ELEMENTS:
            cuts.append(index)
            filled = 0
        filled += param.numel()
    return [slice(start, end) for start, end in pairwise([*cuts, len(params)])]


def _filled(grads: Gradients, params: Sequence[Tensor], factor: float) -> list[Tensor]:
    """Put zeros, in shared memory, where a gradient is missing, or everywhere for factor 0.

    Infinity times zero would be NaN, so the gradients are replaced, not multiplied.
    """
    missing = [i for i, grad in enumerate(grads) if grad is None or factor == 0.0]
    if not missing:
        return [grad for grad in grads if grad is not None]
    zeros = params[0].new_zeros(max(params[i].numel() for i in missing))
    return [
        zeros[: param.numel()].view(param.shape) if grad is None or factor == 0.0 else grad
        for grad, param in zip(grads, params, strict=True)
    ]
