"""Made-up sounds for the tests of sound files."""

from __future__ import annotations

import io

import numpy as np
import soundfile

RATE = 16000


def voice(
    seconds: float = 2.0, pitch: float = 120.0, seed: int = 0, rate: int = RATE
) -> np.ndarray:
    """Harmonics of a pitch in syllables of random length, with pauses: levels as of speech."""
    rng = np.random.default_rng(seed)
    count = round(seconds * rate)
    time = np.arange(count) / rate
    drift = pitch * (1.0 + 0.1 * np.sin(2 * np.pi * 0.7 * time + seed))
    phase = 2 * np.pi * np.cumsum(drift) / rate
    tones = sum(np.sin(k * phase + k) / k for k in range(1, 20))
    envelope = np.zeros(count)
    place = 0
    while place < count:
        length = round(rng.uniform(0.08, 0.25) * rate)
        if rng.random() < 0.7:
            syllable = np.hanning(length)[: count - place]
            envelope[place : place + len(syllable)] = rng.uniform(0.3, 1.0) * syllable
        place += length
    floor = 1e-4 * rng.standard_normal(count)
    return (0.1 * envelope * tones + floor).astype(np.float32)


def hum(seconds: float = 2.0, level: float = 0.3, rate: int = RATE) -> np.ndarray:
    """50 Hz with two harmonics."""
    time = np.arange(round(seconds * rate)) / rate
    parts = ((50, 1.0), (150, 0.3), (350, 0.1))
    return (level * sum(a * np.sin(2 * np.pi * f * time) for f, a in parts)).astype(np.float32)


def encoded(samples: np.ndarray, kind: str, subtype: str | None = None, rate: int = RATE) -> bytes:
    """Return the bytes of a sound file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()
