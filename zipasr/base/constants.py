"""Constants of every part: the sample rate of audio."""

from __future__ import annotations

SAMPLING_RATE = 16_000
