"""GPU kernels of BiasNorm, in Triton: each tensor is read and written once each way.

Launched by ``nn.triton_bias_norm``; import this only where triton is installed.
"""

# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=("num_rows",))
def bias_norm_kernel(
    x: tl.tensor,
    bias: tl.tensor,
    log_scale: tl.tensor,
    y: tl.tensor,
    lengths: tl.tensor,
    factors: tl.tensor,
    num_rows: tl.tensor,
    channels: tl.constexpr,
    rows: tl.constexpr,
    lanes: tl.constexpr,
) -> None:
    """Write ``x`` times a factor for each row. Grid: (rows of ``x`` / ``rows``, rounded up).

    Args:
        x: (R, C), of any floating type; the arithmetic is float32.
        bias: (C,).
        log_scale: ().
        y: (R, C) float32.
        lengths: (R,) float32, norms of ``x - bias``.
        factors: (R,) float32, exp(log_scale) sqrt(C) / length.
        num_rows: R.
        channels: C.
        rows: power of two, rows of a program.
        lanes: power of two, at least C.
    """
    row = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows)
    lane = tl.arange(0, lanes)
    is_row, is_channel = row < num_rows, lane < channels
    places = row[:, None] * channels + lane[None, :]
    inside = is_row[:, None] & is_channel[None, :]
    values = tl.load(x + places, mask=inside, other=0.0).to(tl.float32)
    offset = tl.load(bias + lane, mask=is_channel, other=0.0).to(tl.float32)
    distance = values - offset[None, :]
    length = tl.sqrt_rn(tl.sum(tl.where(inside, distance * distance, 0.0), 1))
    gain = tl.exp(tl.load(log_scale).to(tl.float32)) * tl.sqrt_rn(channels * 1.0)
    factor = gain / tl.where(is_row, length, 1.0)
    tl.store(y + places, values * factor[:, None], mask=inside)
    tl.store(lengths + row, length, mask=is_row)
    tl.store(factors + row, factor, mask=is_row)


@triton.jit(do_not_specialize=("num_rows", "rounds"))
def bias_norm_grad_kernel(
    grad: tl.tensor,
    x: tl.tensor,
    bias: tl.tensor,
    lengths: tl.tensor,
    factors: tl.tensor,
    x_grad: tl.tensor,
    sums: tl.tensor,
    num_rows: tl.tensor,
    rounds: tl.tensor,
    channels: tl.constexpr,
    rows: tl.constexpr,
    lanes: tl.constexpr,
) -> None:
    """Write the gradient of ``x`` and, for each program, those of bias and scale. Grid: (P,).

    Args:
        grad: (R, C), of any floating type, like ``x`` and ``x_grad``.
        x: (R, C).
        bias: (C,).
        lengths: (R,) float32, of ``bias_norm_kernel``, like ``factors``.
        factors: (R,) float32.
        x_grad: (R, C).
        sums: (P, C + 1) float32: of the gradient of the bias and, last, of the logarithmic scale.
        num_rows: R, at most P times ``rounds * rows``.
        rounds: blocks of rows that a program does.
        channels: C.
        rows: power of two, rows of a block.
        lanes: power of two, at least C.
    """
    program = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, lanes)
    is_channel = lane < channels
    offset = tl.load(bias + lane, mask=is_channel, other=0.0).to(tl.float32)
    of_bias = tl.zeros((rows, lanes), tl.float32)
    of_scale = tl.zeros((rows,), tl.float32)
    k = 0
    while k < rounds:
        row = (program * rounds + k) * rows + tl.arange(0, rows)
        is_row = row < num_rows
        places = row[:, None] * channels + lane[None, :]
        inside = is_row[:, None] & is_channel[None, :]
        values = tl.load(x + places, mask=inside, other=0.0).to(tl.float32)
        outer = tl.load(grad + places, mask=inside, other=0.0).to(tl.float32)
        length = tl.load(lengths + row, mask=is_row, other=1.0)
        factor = tl.load(factors + row, mask=is_row, other=0.0)
        inner = tl.sum(outer * values, 1) * factor
        share = inner / (length * length)
        push = tl.where(inside, (values - offset[None, :]) * -share[:, None], 0.0)
        result = outer * factor[:, None] + push
        tl.store(x_grad + places, result.to(x_grad.dtype.element_ty), mask=inside)
        of_bias -= push
        of_scale += inner
        k += 1
    sums += program * (channels + 1)
    tl.store(sums + lane, tl.sum(of_bias, 0), mask=is_channel)
    tl.store(sums + channels + tl.arange(0, 1), tl.sum(of_scale, 0))
