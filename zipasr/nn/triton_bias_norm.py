"""BiasNorm on a CUDA device: one Triton kernel forward, one and a sum backward.

Importing this needs no triton. The kernels are compared with their definitions in ``bias_norm``
once per process and device before they are used.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from zipasr.kernels import launch
from zipasr.nn.cuda_graph import power_of_two

_MAX_CHANNELS = 4096
_MOST_ELEMENTS = 2048  # of a block of rows
_MOST_PROGRAMS = 1024  # of the gradient: each leaves a row of sums


def normalized(x: Tensor, bias: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Do as ``bias_norm.normalized`` for the last dimension, for types of ``launch.TYPES``."""
    rows, lanes = _block(x)
    num_rows, shape = x.numel() // x.size(-1), (*x.shape[:-1], 1)
    y = torch.empty_like(x, dtype=torch.float32, memory_format=torch.contiguous_format)
    length, factor = (y.new_empty(shape) for _ in range(2))
    launch.launch(
        KERNELS.module.bias_norm_kernel,
        (_blocks(num_rows, rows),),
        _num_warps(rows * lanes),
        (x.contiguous(), bias.contiguous(), log_scale, y, length, factor, num_rows),
        channels=x.size(-1),
        rows=rows,
        lanes=lanes,
    )
    return y, length, factor


def gradients(
    grad: Tensor, x: Tensor, bias: Tensor, length: Tensor, factor: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Do as ``bias_norm.gradients`` for the last dimension."""
    rows, lanes = _block(x)
    num_rows, channels = x.numel() // x.size(-1), x.size(-1)
    blocks = _blocks(num_rows, rows)
    rounds = _blocks(blocks, _MOST_PROGRAMS)
    programs = _blocks(blocks, max(1, rounds))
    x_grad = torch.empty_like(x, memory_format=torch.contiguous_format)
    sums = length.new_empty(programs, channels + 1)
    launch.launch(
        KERNELS.module.bias_norm_grad_kernel,
        (programs,),
        _num_warps(rows * lanes),
        (
            *(grad.contiguous(), x.contiguous(), bias.contiguous(), length, factor),
            *(x_grad, sums, num_rows, rounds),
        ),
        channels=channels,
        rows=rows,
        lanes=lanes,
    )
    total = sums.sum(0)
    return x_grad, total[:-1].view(bias.shape), total[-1]


def suits(x: Tensor, dim: int) -> bool:
    """Say whether the kernels can normalise ``x`` over ``dim``, where it is."""
    is_last = dim in (-1, x.ndim - 1) and 0 < x.size(-1) <= _MAX_CHANNELS
    return is_last and x.dtype in launch.TYPES and KERNELS.work_on(x.device)


def _errors(device: torch.device) -> Iterator[float]:
    from zipasr.nn import bias_norm  # which uses this module

    g = torch.Generator().manual_seed(0)
    for shape in ((3, 70), (5000, 2, 3)):
        x, grad = torch.randn(2, *shape, generator=g)
        bias = torch.randn(shape[-1], generator=g).view(*[1] * (len(shape) - 1), -1)
        scale = torch.tensor(0.7)
        # Sums of many numbers.
        tolerance = 1.0 if len(shape) == 2 else 100.0
        found = normalized(*(t.to(device) for t in (x, bias, scale)))
        wanted = bias_norm.normalized(x.double(), bias.double(), scale.double(), -1)
        yield from launch.differences(found, wanted)
        there = (t.to(device) for t in (grad, x, bias, *wanted[1:]))
        found = gradients(*(t.float() for t in there))
        wanted = bias_norm.gradients(grad.double(), x.double(), bias.double(), *wanted[1:], -1)
        yield from (error / tolerance for error in launch.differences(found, wanted))


def _block(x: Tensor) -> tuple[int, int]:
    """Return rows and lanes of a block."""
    lanes = power_of_two(x.size(-1))
    return max(1, _MOST_ELEMENTS // lanes), lanes


def _blocks(number: int, size: int) -> int:
    return -(-number // size)


def _num_warps(elements: int) -> int:
    return min(8, max(1, elements // 512))


KERNELS = launch.CheckedKernels(
    "bias_norm", _errors, "BiasNorm launches six times as many kernels."
)
