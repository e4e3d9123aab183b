"""What a frame is: 80 log-mel energies of 25 ms of sound, every 10 ms."""

from __future__ import annotations

import lhotse
from lhotse import Fbank

from zipasr.audio.mono import SAMPLING_RATE

NUM_MEL_BINS = 80


def fbank_extractor(num_mel_bins: int = NUM_MEL_BINS) -> Fbank:
    """Return lhotse's extractor: 16 kHz, 25 ms windows every 10 ms, no dither, 20 to 7600 Hz."""
    return Fbank(lhotse.FbankConfig(num_mel_bins=num_mel_bins, sampling_rate=SAMPLING_RATE))
