"""Log-mel features of cuts; ``audio.log_mel`` computes those of sounds in memory."""

from __future__ import annotations

import lhotse
from lhotse import Fbank
from lhotse.augmentation import torchaudio as resampling

from zipasr.base.constants import SAMPLING_RATE
from zipasr.data.config import NUM_MEL_BINS

# lhotse resamples by a windowed sinc of its own that needs torch alone, but takes it only where
# torchaudio is installed, and else scipy's filter: the same recordings would have other features.
# Whatever reads cuts for features imports this module.
resampling.is_torchaudio_available = lambda: True


def fbank_extractor(num_mel_bins: int = NUM_MEL_BINS) -> Fbank:
    """Return lhotse's extractor: 16 kHz, 25 ms windows every 10 ms, no dither, 20 to 7600 Hz."""
    return Fbank(lhotse.FbankConfig(num_mel_bins=num_mel_bins, sampling_rate=SAMPLING_RATE))
