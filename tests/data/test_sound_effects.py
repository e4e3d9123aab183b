"""Rooms and telephones: what they do to sound, and that the same draws come again."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zipasr.base.constants import SAMPLING_RATE
from zipasr.data.config import AugmentConfig
from zipasr.data.sound_effects import (
    TELEPHONE_RATE,
    WaveEffect,
    band_limited,
    gsm,
    in_room,
    mu_law,
    over_telephone,
    room_response,
    wave_effects,
)

EFFECTS = [in_room, over_telephone]


def tone(frequency: float, seconds: float = 0.5, rate: int = SAMPLING_RATE) -> np.ndarray:
    times = np.arange(int(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * frequency * times)).astype(np.float32)[None]


def level(samples: np.ndarray) -> float:
    """Decibels of the power."""
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-20))


@pytest.mark.parametrize("effect", EFFECTS)
@given(seed=st.integers(0, 2**32), length=st.integers(400, 20000))
def test_length_and_type_stay_and_draws_come_again(effect, seed: int, length: int) -> None:
    samples = np.random.default_rng(0).standard_normal((1, length)).astype(np.float32) * 0.1
    before = samples.copy()
    first = effect(samples, np.random.default_rng(seed))
    again = effect(samples, np.random.default_rng(seed))
    assert first.shape == samples.shape
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    assert np.array_equal(first, again)
    assert np.array_equal(samples, before)


@given(st.integers(0, 2**32))
def test_a_room_begins_with_the_direct_sound_and_decays(seed: int) -> None:
    (response,) = room_response(np.random.default_rng(seed))
    assert response[0] == 1.0
    assert np.argmax(np.abs(response)) == 0
    echoes = np.square(response[1:], dtype=np.float64)
    # Echoes are at most as strong as the direct sound, and at least 15 dB below it.
    assert -15.5 < 10 * np.log10(echoes.sum()) < 0.1
    # 60 dB over the whole: 30 dB from the first half to the second.
    halves = np.array_split(echoes[echoes.nonzero()[0][0] :], 2)
    assert 20 < 10 * np.log10(halves[0].sum() / halves[1].sum()) < 45


def test_a_room_is_as_loud_as_before_and_lasts_longer() -> None:
    burst = np.concatenate([tone(500, 0.2), np.zeros((1, 8000), np.float32)], axis=1)
    heard = in_room(burst, np.random.default_rng(3))
    assert level(heard) == pytest.approx(level(burst), abs=0.01)
    assert level(heard[:, 3300:4800]) > level(burst[:, 3300:4800]) + 60


@pytest.mark.parametrize(
    ("frequency", "passes"),
    [(100, False), (1000, True), (3000, True), (3700, False), (6000, False)],
)
def test_a_telephone_passes_its_band_alone(frequency: float, passes: bool) -> None:
    heard = over_telephone(tone(frequency), np.random.default_rng(1))
    loss = level(tone(frequency)) - level(heard)
    assert loss < 3 if passes else loss > 20


def test_edges_of_a_band_are_halfway_down() -> None:
    noise = np.random.default_rng(2).standard_normal((1, 8000)).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(band_limited(noise, 8000, (300.0, 3400.0)))[0])
    gains = spectrum / np.abs(np.fft.rfft(noise)[0])
    # A bin is one hertz.
    assert gains[[250, 300, 350, 1000, 3350, 3400, 3450]] == pytest.approx(
        [0, 0.5, 1, 1, 1, 0.5, 0], abs=1e-3
    )


@given(st.floats(-1, 1, width=32))
def test_mu_law_is_as_exact_as_its_steps(value: float) -> None:
    """255 steps on a logarithmic curve: an error in proportion to the sample, but near zero."""
    found = float(mu_law(np.array([[value]], np.float32))[0, 0])
    # Half a step is 1/255 of the curve, whose slope is ln(256) (1/255 + |x|).
    assert abs(found - value) <= 1.05 * np.log(256) / 255 * (1 / 255 + abs(value))


def test_mu_law_has_the_values_of_an_independent_table() -> None:
    """Every code of 8 bits comes back as itself."""
    codes = np.arange(256) / 255 * 2 - 1
    table = np.sign(codes) * ((1 + 255.0) ** np.abs(codes) - 1) / 255
    assert mu_law(table[None].astype(np.float32))[0] == pytest.approx(table, abs=1e-6)


def test_gsm_keeps_a_voice_like_tone() -> None:
    wave = tone(700, 1.0, TELEPHONE_RATE)
    coded = gsm(wave)
    assert coded.shape == wave.shape
    assert not np.array_equal(coded, wave)
    assert np.corrcoef(coded[0, 400:-400], wave[0, 400:-400])[0, 1] > 0.9


def test_as_many_utterances_are_changed_as_the_probability_says() -> None:
    effect = WaveEffect(lambda samples, draws: samples + draws.uniform(1, 2), 0.3)
    silence = torch.zeros(10)  # as lhotse gives it
    assert effect(silence).shape == (10,)
    random.seed(7)
    changed = [bool(effect(silence).any()) for _ in range(1000)]
    assert 250 < sum(changed) < 350
    random.seed(7)
    assert [bool(effect(silence).any()) for _ in range(1000)] == changed


def test_what_is_switched_on_comes_in_the_order_of_a_call() -> None:
    assert wave_effects(AugmentConfig()) == []
    both = wave_effects(AugmentConfig(enable_rir=True, enable_codec=True))
    assert [one._effect for one in both] == [in_room, over_telephone]
