"""Log-mel features of a sound in memory, at once or as it comes, by torch alone.

The features of cuts are lhotse's (``data.feature_store``), whose import takes longer than the
recognition of a sentence; these are equal to them up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from zipasr.base.constants import SAMPLING_RATE, WINDOW
from zipasr.nn.numerics import row_blocks, to_device

Samples = NDArray[np.float32]

#: Samples from one frame to the next.
SHIFT = 160

#: Samples of a window that lie before the beginning of its frame's own ``SHIFT`` samples.
BEFORE = (WINDOW - SHIFT) // 2

#: Samples of the window of a frame that lie after the beginning of its own ``SHIFT`` samples.
AHEAD = SHIFT + BEFORE

#: Seconds of sound after a frame's own 10 ms that its window needs.
AHEAD_SECONDS = (AHEAD - SHIFT) / SAMPLING_RATE

_FFT_LENGTH = 512
_LOWEST, _HIGHEST = 20.0, 0.5 * SAMPLING_RATE - 400.0
_PRE_EMPHASIS = 0.97
_FLOOR = torch.finfo(torch.float32).eps
#: Bytes that the steps from a window to its energies take: samples, twice, and a spectrum.
_SPECTRUM_BYTES = 4 * (2 * WINDOW + _FFT_LENGTH + _FFT_LENGTH // 2)


class _Constants(NamedTuple):
    """The window (400,) and the mel filters (257, mel bins)."""

    window: Tensor
    filters: Tensor


@cache
def _constants(num_mel_bins: int) -> _Constants:
    with torch.inference_mode(False):
        window = torch.hann_window(WINDOW, periodic=False).pow(0.85)  # Povey's
        return _Constants(window, _mel_filters(num_mel_bins))


def _mel_filters(num_mel_bins: int) -> Tensor:
    """Return triangles of equal width in mels, each from the middle of one neighbour to the next.

    Source: Kaldi, feat/mel-computations.cc; the bin of the Nyquist frequency counts in none.
    """
    lowest, highest = (1127.0 * math.log(1.0 + hertz / 700.0) for hertz in (_LOWEST, _HIGHEST))
    width = (highest - lowest) / (num_mel_bins + 1)
    place = torch.arange(num_mel_bins)[:, None]
    left, middle, right = (lowest + (place + beyond) * width for beyond in (0.0, 1.0, 2.0))
    hertz = SAMPLING_RATE / _FFT_LENGTH * np.arange(_FFT_LENGTH // 2, dtype=np.float32)
    mels = torch.from_numpy(1127.0 * np.log(1.0 + hertz / 700.0))
    rising, falling = (mels - left) / (middle - left), (right - mels) / (right - middle)
    return F.pad(torch.minimum(rising, falling).clamp_(min=0.0), (0, 1)).t().contiguous()


def log_mel(samples: Samples, num_mel_bins: int) -> Tensor:
    """Return the log-mel energies of a sound.

    Windows of 25 ms every 10 ms, without mean, pre-emphasised; beyond both ends the sound is
    mirrored.

    Args:
        samples: (num_samples,) at 16 kHz in [-1, 1], at least ``AHEAD`` of them.
        num_mel_bins: from 20 to 7600 Hz.

    Returns:
        (T, num_mel_bins) float32, T = num_samples / 160, rounded.

    Source: Kaldi's fbank with ``--snip-edges=false --dither=0``, as lhotse computes it.
    """
    mirrored, num_frames = _mirrored(torch.from_numpy(samples))
    frames = mirrored.as_strided((num_frames, WINDOW), (SHIFT, 1))
    return _energies(frames, _constants(num_mel_bins))


def log_mel_batch(
    sounds: Sequence[Samples], num_mel_bins: int, device: torch.device, padding: float
) -> tuple[Tensor, Tensor]:
    """Return the log-mel energies of several sounds, computed on a device, all at once.

    Args:
        sounds: as for ``log_mel``, or empty: such a sound has no frames.
        num_mel_bins: from 20 to 7600 Hz.
        device: where the energies are computed, and stay; the host does not wait for it.
        padding: beyond the frames of a sound.

    Returns:
        (N, T, num_mel_bins) float32, those of ``log_mel`` up to rounding, and numbers of frames
        (N,), on the host.
    """
    mirrored = MirroredSounds.of(sounds)
    return mirrored.log_mel(num_mel_bins, device, padding), mirrored.lens


@dataclass(frozen=True, slots=True)
class MirroredSounds:
    """Sounds of a batch with what their windows reach to, of which a device computes features.

    Attributes:
        samples: (N, S) float32, zeros behind the shorter ones.
        lens: (N,) int64, numbers of frames.
    """

    samples: Tensor
    lens: Tensor

    @classmethod
    def of(cls, sounds: Sequence[Samples]) -> MirroredSounds:
        """Return N sounds; see ``log_mel_batch``."""
        parts = [_mirrored(torch.from_numpy(s)) if len(s) else (torch.zeros(0), 0) for s in sounds]
        lens = torch.tensor([num_frames for _, num_frames in parts])
        samples = torch.zeros(len(parts), max(1, int(lens.max())) * SHIFT + WINDOW)
        for row, (sound, _) in enumerate(parts):
            samples[row, : len(sound)] = sound
        return cls(samples, lens)

    @property
    def num_frames(self) -> int:
        """Frames of the longest, at least 1."""
        return (self.samples.size(1) - WINDOW) // SHIFT

    def log_mel(self, num_mel_bins: int, device: torch.device, padding: float) -> Tensor:
        """Return the log-mel energies (N, T, mel bins); see ``log_mel_batch``."""
        samples, most = to_device(self.samples, device), self.num_frames
        constants = _Constants(*(to_device(part, device) for part in _constants(num_mel_bins)))
        energies = samples.new_empty(len(samples), most, num_mel_bins)
        # What lies between samples and energies is a few times as large as all windows.
        for rows in row_blocks(len(samples), _SPECTRUM_BYTES * most, samples.device):
            part = samples[rows]
            frames = part.as_strided((len(part), most, WINDOW), (samples.size(1), SHIFT, 1))
            energies[rows] = _energies(frames, constants)
        is_beyond = torch.arange(most, device=device) >= to_device(self.lens, device)[:, None]
        return energies.masked_fill_(is_beyond[:, :, None], padding)


def _mirrored(sound: Tensor) -> tuple[Tensor, int]:
    """Return what the windows of a sound reach to, and the number of windows."""
    num_frames = (len(sound) + SHIFT // 2) // SHIFT
    behind = (num_frames - 1) * SHIFT + WINDOW - BEFORE - len(sound)
    return torch.cat(
        [sound[:BEFORE].flip(0), sound, sound[len(sound) - behind :].flip(0)]
    ), num_frames


def _energies(frames: Tensor, constants: _Constants) -> Tensor:
    """Return the log-mel energies (..., mel bins) of windows (..., 400)."""
    frames = frames - frames.mean(dim=-1, keepdim=True)
    emphasised = torch.empty_like(frames)
    torch.sub(frames[..., 1:], frames[..., :-1], alpha=_PRE_EMPHASIS, out=emphasised[..., 1:])
    torch.mul(frames[..., 0], 1.0 - _PRE_EMPHASIS, out=emphasised[..., 0])
    spectrum = torch.view_as_real(torch.fft.rfft(emphasised.mul_(constants.window), _FFT_LENGTH))
    return (spectrum.square_().sum(dim=-1) @ constants.filters).clamp_(min=_FLOOR).log_()


class LiveFbank:
    """Turn the samples of one sound into log-mel energies while they come in.

    All frames put together are those of ``log_mel`` on the whole: frame t is in the middle
    of its window, which reaches 120 samples beyond its own 160 on either side. Only at the two
    ends of the sound is there nothing to reach for: there it is mirrored. So a frame is known 7.5
    ms after it is over, and the frames at the end when it is said that nothing more will come.
    """

    def __init__(self, num_mel_bins: int = 80) -> None:
        self._num_mel_bins = num_mel_bins
        # From the frame before the next one on, whose window keeps the ends of what is here away.
        self._samples: Samples = np.zeros(0, dtype=np.float32)
        self._is_first = True

    def push(self, samples: Samples, least: int = 1) -> Tensor:
        """Take the next samples in, 16 kHz in [-1, 1].

        Args:
            samples: of any number.
            least: frames that it takes to return any; fewer wait for the next call.

        Returns:
            (T, 80), the frames that are known now and were not before; T may be 0.
        """
        self._samples = np.concatenate([self._samples, samples.astype(np.float32, copy=False)])
        before = 0 if self._is_first else 1
        num_known = (len(self._samples) - AHEAD) // SHIFT + 1 - before
        if num_known < max(least, 1):
            return torch.zeros(0, self._num_mel_bins)
        end = (before + num_known - 1) * SHIFT + AHEAD
        frames = log_mel(self._samples[:end], self._num_mel_bins)[before : before + num_known]
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
        return log_mel(self._samples, self._num_mel_bins)[0 if self._is_first else 1 :]
