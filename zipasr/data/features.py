"""Log-mel features: the extractor, and frames of a stream as they come."""

from __future__ import annotations

import lhotse
import numpy as np
import torch
from lhotse import Fbank
from lhotse.augmentation import torchaudio as resampling
from numpy.typing import NDArray
from torch import Tensor

from zipasr.base.constants import SAMPLING_RATE, WINDOW
from zipasr.data.config import NUM_MEL_BINS

# lhotse resamples by a windowed sinc of its own that needs torch alone, but takes it only where
# torchaudio is installed, and else scipy's filter: the same recordings would have other features.
# Whatever reads cuts for features imports this module.
resampling.is_torchaudio_available = lambda: True


def fbank_extractor(num_mel_bins: int = NUM_MEL_BINS) -> Fbank:
    """Return lhotse's extractor: 16 kHz, 25 ms windows every 10 ms, no dither, 20 to 7600 Hz."""
    return Fbank(lhotse.FbankConfig(num_mel_bins=num_mel_bins, sampling_rate=SAMPLING_RATE))


Samples = NDArray[np.float32]

#: Samples from one frame to the next.
SHIFT = 160

#: Samples of the window of a frame that lie after the beginning of its own ``SHIFT`` samples.
AHEAD = SHIFT + (WINDOW - SHIFT) // 2

#: Seconds of sound after a frame's own 10 ms that its window needs.
AHEAD_SECONDS = (AHEAD - SHIFT) / SAMPLING_RATE


class LiveFbank:
    """Turn the samples of one sound into log-mel energies while they come in.

    All frames put together are those of ``fbank_extractor`` on the whole: frame t is in the middle
    of its window, which reaches 120 samples beyond its own 160 on either side. Only at the two
    ends of the sound is there nothing to reach for: there it is mirrored. So a frame is known 7.5
    ms after it is over, and the frames at the end when it is said that nothing more will come.
    """

    def __init__(self, num_mel_bins: int = NUM_MEL_BINS) -> None:
        self._num_mel_bins = num_mel_bins
        self._extractor = fbank_extractor(num_mel_bins)
        # From the frame before the next one on, whose window keeps the ends of what is here away.
        self._samples: Samples = np.zeros(0, dtype=np.float32)
        self._is_first = True

    def push(self, samples: Samples) -> Tensor:
        """Take the next samples in, 16 kHz in [-1, 1].

        Returns:
            (T, 80), the frames that are known now and were not before; T may be 0.
        """
        self._samples = np.concatenate([self._samples, samples.astype(np.float32, copy=False)])
        before = 0 if self._is_first else 1
        num_known = (len(self._samples) - AHEAD) // SHIFT + 1 - before
        if num_known < 1:
            return torch.zeros(0, self._num_mel_bins)
        end = (before + num_known - 1) * SHIFT + AHEAD
        frames = self._extract(self._samples[:end])[before : before + num_known]
        self._samples = self._samples[(before + num_known - 1) * SHIFT :]
        self._is_first = False
        return frames

    def finish(self) -> Tensor:
        """Say that nothing more will come.

        Returns:
            (T, 80), the frames that were not known yet; none of less than 17.5 ms of sound.
        """
        if self._is_first and len(self._samples) < AHEAD:
            return torch.zeros(0, self._num_mel_bins)
        return self._extract(self._samples)[0 if self._is_first else 1 :]

    def _extract(self, samples: Samples) -> Tensor:
        return torch.from_numpy(self._extractor.extract(samples, SAMPLING_RATE))
