"""Constants of every part: the sample rate of audio, the window of a feature frame."""

from __future__ import annotations

SAMPLING_RATE = 16_000

#: Samples in the window of a feature frame; less sound than that has none.
WINDOW = 400
