"""GPU kernels of an optimizer step, in Triton: each of two visits every element once.

Launched by ``optim.compiled_update``. Tensors are given by
their addresses, in a table with rows for values, gradients, second moments and smoothed steps;
all are float32, and an address of 0 stands for a missing gradient. A program works on one block
of one parameter.
"""

# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _load(
    addresses: tl.tensor,
    row: tl.constexpr,
    index: tl.tensor,
    num_params: tl.tensor,
    place: tl.tensor,
    inside: tl.tensor,
) -> tl.tensor:
    """Read elements of a tensor; zeros where the address is 0."""
    address = tl.load(addresses + row * num_params + index)
    pointer = address.to(tl.pointer_type(tl.float32))
    return tl.load(pointer + place, mask=inside & (address != 0), other=0.0)


@triton.jit
def _store(
    addresses: tl.tensor,
    row: tl.constexpr,
    index: tl.tensor,
    num_params: tl.tensor,
    place: tl.tensor,
    inside: tl.tensor,
    values: tl.tensor,
) -> None:
    """Write elements of a tensor."""
    pointer = tl.load(addresses + row * num_params + index).to(tl.pointer_type(tl.float32))
    tl.store(pointer + place, values, mask=inside)


@triton.jit(do_not_specialize=["num_params", "num_blocks"])
def measure_kernel(
    addresses: tl.tensor,
    blocks: tl.tensor,
    sizes: tl.tensor,
    sums: tl.tensor,
    num_params: tl.tensor,
    num_blocks: tl.tensor,
    block: tl.constexpr,
) -> None:
    """Write the sums of g*g, p*g and p*p of each block: rows of ``sums`` (3, C)."""
    c = tl.program_id(0)
    index = tl.load(blocks + 2 * c)
    place = tl.load(blocks + 2 * c + 1) + tl.arange(0, block)
    inside = place < tl.load(sizes + index)
    value = _load(addresses, 0, index, num_params, place, inside)
    grad = _load(addresses, 1, index, num_params, place, inside)
    tl.store(sums + c, tl.sum(grad * grad, 0))
    tl.store(sums + num_blocks + c, tl.sum(value * grad, 0))
    tl.store(sums + 2 * num_blocks + c, tl.sum(value * value, 0))


@triton.jit(do_not_specialize=["num_params", "num_blocks"])
def collect_kernel(
    sums: tl.tensor,
    firsts: tl.tensor,
    totals: tl.tensor,
    num_blocks: tl.tensor,
    num_params: tl.tensor,
    lanes: tl.constexpr,
    rounds: tl.constexpr,
) -> None:
    """Add the sums of the blocks of one parameter, in a fixed order: ``totals`` (3, P).

    No parameter has more than ``rounds * lanes`` blocks.
    """
    index = tl.program_id(0)
    row = tl.program_id(1)
    start = tl.load(firsts + index)
    stop = tl.load(firsts + index + 1)
    total = tl.zeros([lanes], dtype=tl.float64)
    for k in range(rounds):
        place = start + k * lanes + tl.arange(0, lanes)
        total += tl.load(sums + row * num_blocks + place, mask=place < stop, other=0.0)
    tl.store(totals + row * num_params + index, tl.sum(total, 0))


@triton.jit(do_not_specialize=["num_params"])
def move_kernel(
    addresses: tl.tensor,
    blocks: tl.tensor,
    sizes: tl.tensor,
    vectors: tl.tensor,
    num_params: tl.tensor,
    beta1: tl.tensor,
    beta2: tl.tensor,
    rest2: tl.tensor,
    factor: tl.tensor,
    eps: tl.tensor,
    without_grads: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Update second moments, smoothed steps and values; see ``sweeps.Motion``.

    ``vectors`` has rows (3, P) for rates, growths, and 1 where a parameter is asleep.
    """
    c = tl.program_id(0)
    index = tl.load(blocks + 2 * c)
    if tl.load(vectors + 2 * num_params + index) != 0:
        return
    place = tl.load(blocks + 2 * c + 1) + tl.arange(0, block)
    inside = place < tl.load(sizes + index)
    second = beta2 * _load(addresses, 2, index, num_params, place, inside)
    delta = beta1 * _load(addresses, 3, index, num_params, place, inside)
    value = _load(addresses, 0, index, num_params, place, inside)
    if not without_grads:
        grad = factor * _load(addresses, 1, index, num_params, place, inside)
        second += rest2 * (grad * grad)
        delta += tl.load(vectors + index) * grad / (tl.sqrt_rn(second) + eps)
    delta += tl.load(vectors + num_params + index) * value
    _store(addresses, 2, index, num_params, place, inside, second)
    _store(addresses, 3, index, num_params, place, inside, delta)
    _store(addresses, 0, index, num_params, place, inside, value + delta)
