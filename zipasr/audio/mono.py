"""Sound files of any rate and number of channels as one channel at the rate of the recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from zipasr.audio.facts import AudioFacts
from zipasr.base.files import atomic_path

SAMPLING_RATE = 16_000

AS_IT_IS = "one channel"
MIXED = "mixed down"
LOUDEST = "the one channel that is not silent"

# A channel this far (40 dB) below the loudest one carries no speech of its own.
_SILENT_SHARE = 1e-4
# Formats that are read in place; others are decoded once.
_READ_IN_PLACE = {".wav", ".flac"}


def treatment(facts: AudioFacts) -> str:
    """Say what makes one channel of a file's channels."""
    if len(facts.energies) <= 1:
        return AS_IT_IS
    return MIXED if len(sounding(facts)) > 1 else LOUDEST


def sounding(facts: AudioFacts) -> list[int]:
    """Return the channels that are not silent beside the loudest one."""
    loudest = max(facts.energies)
    return [c for c, energy in enumerate(facts.energies) if energy > loudest * _SILENT_SHARE]


def needs_conversion(path: Path, facts: AudioFacts) -> bool:
    """Say whether a file has to be written anew to be what the recipes expect."""
    fits = facts.rate == SAMPLING_RATE and len(facts.energies) == 1
    return not (fits and path.suffix.lower() in _READ_IN_PLACE)


def convert(source: Path, facts: AudioFacts, target: Path, channel: int | None = None) -> None:
    """Write ``source`` to ``target`` as FLAC: 16 kHz, 16 bit, one channel.

    Without a ``channel``, those that are not silent are averaged. Where resampling would go beyond
    full scale, the level is lowered; nothing is clipped.
    """
    samples = soundfile.read(source, dtype="float32", always_2d=True)[0]
    one = samples[:, sounding(facts) if channel is None else [channel]].mean(axis=1)
    at_rate = resampled(one, facts.rate)
    peak = float(np.abs(at_rate).max(initial=0.0))
    with atomic_path(target) as temporary:
        soundfile.write(
            temporary, at_rate / max(1.0, peak), SAMPLING_RATE, format="FLAC", subtype="PCM_16"
        )


def resampled(samples: NDArray[Any], rate: int) -> NDArray[Any]:
    """Return (num_samples,) at 16 kHz, as soxr's filter "HQ" makes them.

    Args:
        samples: (num_samples,) at ``rate`` Hz, float32 or float64.
        rate: Hz.

    Returns:
        (ceil(num_samples * 16000 / rate),), same type. Silence is assumed beyond both ends.
    """
    if rate == SAMPLING_RATE:
        return samples
    num_out = -(-len(samples) * SAMPLING_RATE // rate)
    # soxr rounds the length, down to nothing for a few samples; silence that gives one more frame
    # keeps the last, partial one.
    padded = np.pad(samples, (0, -(-rate // SAMPLING_RATE)))
    result: NDArray[Any] = soxr.resample(padded, rate, SAMPLING_RATE, quality="HQ")[:num_out]
    return result
