"""Noise floor and level: the decibels are what was asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.corpora.espeak.voice import (
    CORNER_HZ,
    NOISE_KINDS,
    NoiseKind,
    mix_recording,
    noise_floor,
    rms,
)

RATE = 16000


def decibels(power_ratio: float) -> float:
    return 10 * np.log10(power_ratio)


@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_noise_has_unit_power_and_depends_on_its_seed_alone(kind: NoiseKind) -> None:
    floor = noise_floor(kind, 12345, RATE, seed=7)
    assert floor.shape == (12345,)
    assert rms(floor) == pytest.approx(1.0)
    np.testing.assert_array_equal(floor, noise_floor(kind, 12345, RATE, seed=7))
    assert not np.allclose(floor, noise_floor(kind, 12345, RATE, seed=8))


def test_low_noise_falls_by_six_decibels_per_octave() -> None:
    power = np.abs(np.fft.rfft(noise_floor("low", 1 << 17, RATE, seed=0))) ** 2
    frequency = np.fft.rfftfreq(1 << 17, 1 / RATE)

    def around(hertz: float) -> float:
        return float(power[np.abs(frequency - hertz) < 100].mean())

    assert decibels(around(2000) / around(4000)) == pytest.approx(6.0, abs=0.5)
    assert decibels(around(100) / around(CORNER_HZ)) > 2


@settings(max_examples=30, deadline=None)
@given(snr=st.floats(0, 40), level=st.floats(-60, -20), amplitude=st.floats(0.01, 1.0))
def test_recordings_have_the_ratio_and_level_asked_for(
    snr: float, level: float, amplitude: float
) -> None:
    speech = amplitude * np.sin(2 * np.pi * 220 * np.arange(RATE) / RATE)
    floor = noise_floor("white", RATE, RATE, seed=1)
    mixed = mix_recording(speech, floor, snr, level)
    assert decibels(np.mean(mixed**2)) == pytest.approx(level, abs=1e-6)
    # What is left after the best fit of the speech is the noise.
    share = np.dot(mixed, speech) / np.dot(speech, speech)
    rest = mixed - share * speech
    assert decibels(np.mean((share * speech) ** 2) / np.mean(rest**2)) == pytest.approx(
        snr, abs=0.3
    )


def test_a_level_that_would_clip_is_lowered() -> None:
    click = np.zeros(RATE)
    click[100] = 1.0
    assert (
        np.abs(mix_recording(click, noise_floor("white", RATE, RATE, seed=1), 40.0, -3.0)).max()
        <= 0.98
    )
