"""From clean speech to a recording: a noise floor, and the level of a real microphone."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

# By name, since numpy would load these only when they are first used: once per forked child.
from numpy.fft import irfft, rfft, rfftfreq
from numpy.random import PCG64, Generator
from numpy.typing import NDArray

Samples = NDArray[np.float64]
NoiseKind = Literal["white", "low"]
NOISE_KINDS: tuple[NoiseKind, ...] = get_args(NoiseKind)

# Low-passed noise falls by 6 dB per octave from here on, like the hum of a room.
CORNER_HZ = 400.0
# Highest peak allowed, relative to full scale.
PEAK = 0.98


def noise(kind: NoiseKind, num_samples: int, rate: int, seed: int) -> Samples:
    """Return (num_samples,) of noise with a root mean square of 1, at ``rate`` Hz."""
    # A power of two, then cut: for an unlucky length the transform takes thirty times as long.
    length = 1 << (num_samples - 1).bit_length()
    floor = Generator(PCG64(seed)).standard_normal(length)
    if kind == "low":
        frequency = rfftfreq(length, 1 / rate)
        spectrum = rfft(floor) / np.sqrt(1 + (frequency / CORNER_HZ) ** 2)
        floor = irfft(spectrum, length)
    floor = floor[:num_samples]
    return floor / rms(floor)


def record(speech: Samples, floor: Samples, snr_db: float, level_dbfs: float) -> Samples:
    """Lay speech over a noise floor and set the level of both.

    Args:
        speech: (num_samples,), any level.
        floor: (num_samples,), noise with a root mean square of 1.
        snr_db: power of the speech over that of the noise, dB.
        level_dbfs: root mean square of the result, dB relative to full scale.

    Returns:
        (num_samples,) in -1 .. 1. Where the peak would not fit the level is lowered, never clipped.
    """
    mixed = speech + floor * (rms(speech) * 10 ** (-snr_db / 20))
    gain = 10 ** (level_dbfs / 20) / rms(mixed)
    return mixed * min(gain, PEAK / float(np.abs(mixed).max()))


def rms(samples: Samples) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(samples**2)))
