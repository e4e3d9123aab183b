"""Room and telephone simulation on the samples of utterances, drawn anew each time."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from lhotse.augmentation import Resample, ReverbWithImpulseResponse
from lhotse.augmentation.compress import Compress

from zipasr.base.constants import SAMPLING_RATE
from zipasr.data.config import AugmentConfig

Samples: TypeAlias = np.ndarray
"""(1, number of samples) float32, full scale 1, 16 kHz unless said otherwise."""

ROOM_PROBABILITY = 0.5
CODEC_PROBABILITY = 0.3

REVERBERATION_TIMES = (0.1, 0.8)
"""Seconds until the sound of a room has fallen by 60 dB, drawn uniformly."""
DIRECT_RATIOS = (0.0, 15.0)
"""Decibels by which the direct sound is stronger than all of its echoes, drawn uniformly."""
FIRST_ECHOES = (0.002, 0.02)
"""Seconds from the direct sound to the first echo, drawn uniformly."""

TELEPHONE_RATE = 8000
TELEPHONE_BAND = (300.0, 3400.0)
_SLOPE = 100.0  # Hz over which the band begins and ends
_MU = 255.0


class WaveEffect:
    """Change the samples of some utterances; draws come from the generator of ``random``.

    It is one of the ``wave_transforms`` of lhotse's ``OnTheFlyFeatures``.

    Args:
        effect: changes samples, drawing from a generator; the number of samples stays.
        probability: of an utterance to be changed.
    """

    def __init__(
        self, effect: Callable[[Samples, np.random.Generator], Samples], probability: float
    ) -> None:
        self._effect, self._probability = effect, probability

    def __call__(self, samples: torch.Tensor) -> torch.Tensor:
        """Return the samples of one channel as they were given, or changed."""
        if random.random() >= self._probability:
            return samples
        draws = np.random.default_rng(random.getrandbits(64))
        changed = self._effect(samples.numpy().reshape(1, -1), draws)
        return torch.from_numpy(changed).reshape(samples.shape)


def wave_effects(config: AugmentConfig) -> list[WaveEffect]:
    """Return the effects that are switched on, in the order of a call: room, then telephone."""
    effects = []
    if config.enable_rir:
        effects.append(WaveEffect(in_room, ROOM_PROBABILITY))
    if config.enable_codec:
        effects.append(WaveEffect(over_telephone, CODEC_PROBABILITY))
    return effects


def in_room(samples: Samples, draws: np.random.Generator) -> Samples:
    """Return speech as a microphone in a room hears it, as loud as before and not later."""
    response = room_response(draws)
    reverb = ReverbWithImpulseResponse(rir_generator=lambda **_: response, normalize_output=True)
    heard: Samples = reverb(np.ascontiguousarray(samples, np.float32), SAMPLING_RATE)
    return heard


def room_response(draws: np.random.Generator) -> Samples:
    """Draw the impulse response of a room.

    A direct pulse, then noise that decays exponentially: the statistical model of late
    reverberation (Polack, "La transmission de l'energie sonore dans les salles", 1988).

    Returns:
        (1, number of samples) float32; the direct pulse is the first sample.
    """
    decay = draws.uniform(*REVERBERATION_TIMES)
    ratio = draws.uniform(*DIRECT_RATIOS)
    start = round(SAMPLING_RATE * draws.uniform(*FIRST_ECHOES))
    times = np.arange(round(SAMPLING_RATE * decay)) / SAMPLING_RATE
    echoes = draws.standard_normal(len(times)) * 10.0 ** (-3.0 * times / decay)
    echoes *= 10.0 ** (-ratio / 20.0) / np.sqrt(np.sum(echoes**2))
    # The direct sound must be the largest, for it is where lhotse lets the output begin.
    echoes = np.clip(echoes, -0.99, 0.99)
    response = np.concatenate([[1.0], np.zeros(start - 1), echoes])
    return response[None].astype(np.float32)


def over_telephone(samples: Samples, draws: np.random.Generator) -> Samples:
    """Return speech as a telephone passes it on: 8 kHz, 300 to 3400 Hz, mu-law or GSM 06.10."""
    narrow = Resample(SAMPLING_RATE, TELEPHONE_RATE)(
        np.ascontiguousarray(samples, np.float32), SAMPLING_RATE
    )
    narrow = band_limited(narrow, TELEPHONE_RATE, TELEPHONE_BAND)
    coded = gsm(narrow) if draws.random() < 0.5 else mu_law(narrow)
    wide = Resample(TELEPHONE_RATE, SAMPLING_RATE)(coded, TELEPHONE_RATE)
    return _of_length(wide, samples.shape[-1])


def band_limited(samples: Samples, rate: int, band: tuple[float, float]) -> Samples:
    """Return the samples without what is outside of a band; the edges are 100 Hz wide."""
    frequencies = np.fft.rfftfreq(samples.shape[-1], 1 / rate)
    low, high = band
    gains = np.clip((frequencies - low) / _SLOPE + 0.5, 0.0, 1.0)
    gains *= np.clip((high - frequencies) / _SLOPE + 0.5, 0.0, 1.0)
    limited = np.fft.irfft(np.fft.rfft(samples) * gains, n=samples.shape[-1])
    return limited.astype(np.float32)


def mu_law(samples: Samples) -> Samples:
    """Return the samples in 8 bits of the mu-law of ITU-T G.711, as a continuous curve."""
    bounded = np.clip(samples, -1.0, 1.0)
    curved = np.sign(bounded) * np.log1p(_MU * np.abs(bounded)) / np.log1p(_MU)
    coded = np.round((curved + 1.0) / 2.0 * 255.0) / 255.0 * 2.0 - 1.0
    decoded = np.sign(coded) * np.expm1(np.abs(coded) * np.log1p(_MU)) / _MU
    return np.asarray(decoded, np.float32)


def gsm(samples: Samples) -> Samples:
    """Return samples of 8 kHz after GSM 06.10 (full rate, 13 kbit/s)."""
    coded: Samples = Compress("gsm", 0.0)(np.clip(samples, -1.0, 1.0), TELEPHONE_RATE)
    return _of_length(coded, samples.shape[-1])


def _of_length(samples: Samples, length: int) -> Samples:
    """Return the samples with their end cut off, or with silence behind it."""
    missing = max(0, length - samples.shape[-1])
    padded = np.pad(samples[:, :length], ((0, 0), (0, missing)))
    return np.ascontiguousarray(padded, np.float32)
