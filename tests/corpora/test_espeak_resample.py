"""Resampling against sines written down at the other rate, and against torchaudio."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.peers import needed
from zipasr.corpora.espeak.voice import resample


@pytest.mark.parametrize("hertz", [100.0, 1000.0, 5000.0, 6500.0])
def test_a_tone_keeps_its_phase_and_amplitude(hertz: float) -> None:
    before = np.sin(2 * np.pi * hertz * np.arange(22050) / 22050)
    after = resample(before, 22050, 16000)
    expected = np.sin(2 * np.pi * hertz * np.arange(16000) / 16000)
    # Away from the ends, where the tone begins and stops at once.
    assert np.abs(after - expected)[200:-200].max() < 2e-3


def test_what_the_new_rate_cannot_hold_is_gone() -> None:
    tone = np.sin(2 * np.pi * 9000 * np.arange(22050) / 22050)
    assert np.abs(resample(tone, 22050, 16000))[200:-200].max() < 1e-3


def test_speech_like_sound_agrees_with_torchaudio() -> None:
    functional = needed("torchaudio.functional")
    white = torch.randn(1, 22050, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sound = functional.lowpass_biquad(white, 22050, 2000.0)
    theirs = functional.resample(sound, 22050, 16000, lowpass_filter_width=64)
    ours = resample(sound[0].numpy(), 22050, 16000)
    # The two filters differ near the cut-off only, where this sound is 20 dB down.
    error = ours - theirs[0].numpy()
    assert np.sqrt(np.mean(error**2)) < 0.02 * np.sqrt(np.mean(ours**2))


@settings(max_examples=25, deadline=None)
@given(num_samples=st.integers(1, 3000), rates=st.sampled_from([(22050, 16000), (8000, 16000)]))
def test_length_and_linearity(num_samples: int, rates: tuple[int, int]) -> None:
    sound = np.random.default_rng(num_samples).standard_normal(num_samples)
    once = resample(sound, *rates)
    assert len(once) == int(np.ceil(num_samples * rates[1] / rates[0]))
    np.testing.assert_allclose(resample(2 * sound, *rates), 2 * once, atol=1e-12)


def test_the_same_rate_changes_nothing_but_the_highest_frequencies() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(4000) / 16000)
    np.testing.assert_allclose(resample(tone, 16000, 16000)[100:-100], tone[100:-100], atol=2e-3)
