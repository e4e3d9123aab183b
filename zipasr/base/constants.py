"""Constants of several parts: of audio and its features, and of confidence intervals."""

from __future__ import annotations

SAMPLING_RATE = 16_000

#: Samples in the window of a feature frame; less sound than that has none.
WINDOW = 400

#: Standard errors on either side in which 95 % of a normal distribution lie.
NORMAL_95 = 1.96
