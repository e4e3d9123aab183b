"""Change the sample rate: one windowed sinc per output phase, applied as one matrix product."""

from __future__ import annotations

from functools import cache
from math import gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]

# Zero crossings of the sinc on each side; with a Hann window this keeps images below -60 dB.
ZEROS = 24
# Share of the lower Nyquist frequency that is kept, so that the filter has room to fall.
ROLLOFF = 0.95


class Kernel(NamedTuple):
    """Filters from one rate to another.

    Attributes:
        step: input samples per block.
        phases: output samples per block.
        reach: input samples used beyond each end of a block.
        weights: (step + 2 * reach, phases), one filter per column.
    """

    step: int
    phases: int
    reach: int
    weights: Samples


def resample(samples: Samples, rate_in: int, rate_out: int) -> Samples:
    """Return ``samples`` at another rate.

    Args:
        samples: (num_samples,), at ``rate_in`` Hz.
        rate_in: rate before, Hz.
        rate_out: rate after, Hz.

    Returns:
        (ceil(num_samples * rate_out / rate_in),), same amplitude, no delay. Silence is assumed
        beyond both ends.
    """
    step, phases, reach, weights = kernel(rate_in, rate_out)
    num_out = -(-len(samples) * phases // step)
    num_blocks = -(-num_out // phases)
    width = step + 2 * reach
    padded = np.zeros((num_blocks - 1) * step + width)
    padded[reach : reach + len(samples)] = samples
    blocks = np.lib.stride_tricks.sliding_window_view(padded, width)[::step]
    return (blocks @ weights).reshape(-1)[:num_out]


@cache
def kernel(rate_in: int, rate_out: int) -> Kernel:
    """Return the filters from ``rate_in`` to ``rate_out`` Hz.

    From one block of ``step`` input samples to the next, the positions of the ``phases`` output
    samples between them repeat, so one matrix serves all blocks.
    """
    divisor = gcd(rate_in, rate_out)
    step, phases = rate_in // divisor, rate_out // divisor
    cutoff = min(1.0, rate_out / rate_in) * ROLLOFF  # share of the input's Nyquist frequency
    reach = int(np.ceil(ZEROS / cutoff))
    position_in = np.arange(-reach, step + reach)[:, None]
    position_out = np.arange(phases)[None, :] * (step / phases)
    distance = (position_in - position_out) * cutoff
    window = np.where(np.abs(distance) < ZEROS, np.cos(np.pi / 2 * distance / ZEROS) ** 2, 0.0)
    return Kernel(step, phases, reach, cutoff * np.sinc(distance) * window)
