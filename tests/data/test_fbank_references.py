"""Features against kaldi-native-fbank, torchaudio, and the formulas in double precision.

All three libraries compute in single precision. In a few very quiet bands beside louder ones,
rounding moves the logarithm by more than 1e-4 in each of them; everywhere else they agree.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import kaldi_native_fbank as knf
import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from tests import tones
from tests.peers import loaded
from zipasr.data.feature_store import fbank_extractor

SPEECH = tones.ROOT.parent / "shared" / "data" / "LibriSpeech"
Frames = NDArray[np.float32]
# None where it cannot be loaded; then the others remain.
TORCHAUDIO = loaded("torchaudio.compliance.kaldi")


def native(samples: NDArray[np.float32]) -> Frames:
    options = knf.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = 80
    options.mel_opts.high_freq = -400.0
    computer = knf.OnlineFbank(options)
    computer.accept_waveform(16000, samples.tolist())
    computer.input_finished()
    return np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)])


def by_torchaudio(samples: NDArray[np.float32]) -> Frames:
    features: Frames = TORCHAUDIO.fbank(
        torch.from_numpy(samples)[None],
        num_mel_bins=80,
        dither=0.0,
        snip_edges=False,
        high_freq=-400.0,
        sample_frequency=16000.0,
    ).numpy()
    return features


def in_double_precision(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """The formulas, written down: mirrored ends, no mean, pre-emphasis, window, bands, log."""
    sound = samples.astype(np.float64)
    num_frames = int(len(sound) / 160 + 0.5)
    left = (400 - 160) // 2
    right = num_frames * 160 + 240 - left - len(sound)
    sound = np.concatenate([sound[:left][::-1], sound, sound[::-1][:right]])
    frames = np.lib.stride_tricks.sliding_window_view(sound, 400)[::160][:num_frames]
    frames = frames - frames.mean(axis=1, keepdims=True)
    frames = frames - 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
    power = np.abs(np.fft.rfft(frames * window, 512)) ** 2

    def mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1127 * np.log1p(hertz / 700)

    edges = np.linspace(*mel(np.array([20.0, 7600.0])), 82)
    lower, centre, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    at = mel(np.arange(257) * 16000 / 512)
    bands = np.minimum((at - lower) / (centre - lower), (upper - at) / (upper - centre)).clip(0)
    return np.log(np.maximum(power @ bands.T, np.finfo(np.float32).eps))


class Apart(NamedTuple):
    """How far values lie apart: those of an utterance, or of several.

    Attributes:
        others: (references, values), ours from kaldi-native-fbank, from the formulas in double
            precision, and from torchaudio if it loads.
        native: (values,), kaldi-native-fbank from the formulas.
    """

    others: NDArray[np.float64]
    native: NDArray[np.float64]


def differences(samples: NDArray[np.float32]) -> Apart:
    ours = fbank_extractor().extract(samples[None], 16000)
    by_library, exact = native(samples), in_double_precision(samples)
    others = [by_library, exact]
    if TORCHAUDIO is not None:
        others.append(by_torchaudio(samples))
    assert {other.shape for other in others} == {ours.shape}
    apart = np.stack([np.abs(ours - other).ravel() for other in others])
    return Apart(apart, np.abs(by_library - exact).ravel())


def check(apart: Apart) -> None:
    assert np.quantile(apart.others, 0.995, axis=1).max() < 1e-4
    # Nearly silent bands are what rounding leaves of them, on each processor something else: the
    # formulas bound us by twice what they leave of another library, and the libraries both add up.
    exact = max(1e-3, 2 * apart.native.max())
    assert apart.others[1].max() < exact
    assert apart.others.max() < exact + apart.native.max()


@pytest.mark.parametrize("num_samples", [400, 1600, 16001, 47999])
def test_noise(num_samples: int) -> None:
    noise = np.random.default_rng(num_samples).normal(scale=0.1, size=num_samples)
    check(differences(noise.astype(np.float32)))


@pytest.mark.skipif(not SPEECH.is_dir(), reason="no real speech beside this clone")
def test_speech() -> None:
    paths: list[Path] = sorted(SPEECH.rglob("*.flac"))[::9]
    assert len(paths) > 9
    found = [differences(soundfile.read(path, dtype="float32")[0]) for path in paths]
    others, natives = zip(*found, strict=True)
    check(Apart(np.concatenate(others, axis=1), np.concatenate(natives)))


def test_silence_has_the_same_floor() -> None:
    silence = np.zeros(16000, np.float32)
    ours = fbank_extractor().extract(silence[None], 16000)
    np.testing.assert_allclose(ours, native(silence), atol=1e-5)
    if TORCHAUDIO is not None:
        np.testing.assert_allclose(ours, by_torchaudio(silence), atol=1e-5)


@pytest.mark.parametrize("num_samples", range(401, 1200, 61))
def test_the_number_of_frames_is_the_same(num_samples: int) -> None:
    samples = np.random.default_rng(0).normal(size=num_samples).astype(np.float32)
    ours = fbank_extractor().extract(samples[None], 16000)
    assert len(ours) == len(native(samples))
    if TORCHAUDIO is not None:
        assert len(ours) == len(by_torchaudio(samples))
