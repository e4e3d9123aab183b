"""Constants of several parts: of audio and its features, confidence intervals, units."""

from __future__ import annotations

SAMPLING_RATE = 16_000

#: Samples in the window of a feature frame; less sound than that has none.
WINDOW = 400

#: Frames of features in a second of sound.
FRAMES_PER_SECOND = 100

#: Bytes.
GIB = 2**30

#: Standard errors on either side in which 95 % of a normal distribution lie.
NORMAL_95 = 1.96
