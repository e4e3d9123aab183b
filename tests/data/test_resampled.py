"""Cuts at another rate: resampled by lhotse's own filter, whether torchaudio is there or not."""

from __future__ import annotations

from pathlib import Path

import lhotse.utils
import numpy as np
import pytest
import soundfile
import torch
from lhotse import MonoCut, Recording

from tests.peers import needed
from zipasr.data.fbank import at_sampling_rate


def tone(hertz: float, rate: int) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(rate) / rate)


def resampled(path: Path, samples: np.ndarray, rate: int) -> np.ndarray:
    soundfile.write(path, samples, rate, subtype="FLOAT")
    cut = MonoCut("a", 0.0, 1.0, 0, recording=Recording.from_file(path))
    found: np.ndarray = at_sampling_rate(cut).load_audio()[0]
    return found


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_without_torchaudio_a_tone_is_the_same_tone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int
) -> None:
    with_all = resampled(tmp_path / "a.wav", tone(1000, rate), rate)
    monkeypatch.setattr(lhotse.utils, "is_module_available", lambda *names: False)
    without = resampled(tmp_path / "b.wav", tone(1000, rate), rate)
    np.testing.assert_array_equal(without, with_all)
    # lhotse's filter is a short one: six zero crossings.
    assert np.abs(without - tone(1000, 16000))[800:-800].max() < 5e-3


def test_the_filter_is_the_one_of_torchaudio(tmp_path: Path) -> None:
    transforms = needed("torchaudio.transforms")
    noise = np.random.default_rng(0).normal(scale=0.1, size=22050).astype(np.float32)
    theirs = transforms.Resample(22050, 16000)(torch.from_numpy(noise)).numpy()
    np.testing.assert_allclose(resampled(tmp_path / "a.wav", noise, 22050), theirs, atol=1e-6)
