"""Speech is told from background by level, whatever the background is, and by Silero VAD."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.audio import speech_activity
from zipasr.audio.loading import load_sound
from zipasr.audio.speech_activity import (
    LEVEL_SECONDS,
    activity_by_level,
    activity_by_model,
    levels,
    stretches,
    vad_session,
)
from zipasr.base.constants import SAMPLING_RATE


def noise(seconds: float, level: float, seed: int = 0) -> np.ndarray:
    draws = np.random.default_rng(seed)
    samples = draws.standard_normal(round(seconds * SAMPLING_RATE))
    return (10.0 ** (level / 20.0) * samples).astype(np.float32)


def hum(seconds: float) -> np.ndarray:
    times = np.arange(round(seconds * SAMPLING_RATE)) / SAMPLING_RATE
    return (0.02 * np.sin(2.0 * np.pi * 50.0 * times)).astype(np.float32)


BACKGROUNDS = {
    "silence": np.zeros(10 * SAMPLING_RATE, np.float32),
    "noise": noise(10.0, -60.0, 1),
    "hum": hum(10.0),
    "offset": np.full(10 * SAMPLING_RATE, 0.1, np.float32),
}


@pytest.mark.parametrize("name", BACKGROUNDS)
@pytest.mark.parametrize("gain", [1.0, 0.01])
def test_bursts_are_speech_and_the_rest_is_not(name: str, gain: float) -> None:
    samples = BACKGROUNDS[name].copy()
    begins = (1.0, 3.5, 8.0)
    for begin in begins:
        first = round(begin * SAMPLING_RATE)
        samples[first : first + SAMPLING_RATE] += noise(1.0, -25.0, 2)
    found = stretches(activity_by_level(np.float32(gain) * samples).values)
    assert len(found) == len(begins)
    for (start, end), begin in zip(found, begins, strict=True):
        assert start * LEVEL_SECONDS == pytest.approx(begin, abs=0.05)
        assert end * LEVEL_SECONDS == pytest.approx(begin + 1.0, abs=0.05)


def test_a_quiet_speaker_beside_a_loud_one_is_heard() -> None:
    samples = noise(10.0, -75.0, 1)
    for second, level in ((1, -15.0), (4, -40.0), (7, -15.0)):
        first = second * SAMPLING_RATE
        samples[first : first + SAMPLING_RATE] += noise(1.0, level, second)
    assert len(stretches(activity_by_level(samples).values)) == 3


def test_a_click_is_no_speech() -> None:
    samples = noise(5.0, -70.0, 1)
    samples[2 * SAMPLING_RATE :][:SAMPLING_RATE] += noise(1.0, -25.0, 2)
    samples[4 * SAMPLING_RATE] = 1.0
    activity = activity_by_level(samples).values
    click = [start for start, _ in stretches(activity) if start * LEVEL_SECONDS > 3.5]
    assert len(click) <= 1
    assert all(abs(start * LEVEL_SECONDS - 4.0) < 0.1 for start in click)


@settings(max_examples=20, deadline=None)
@given(num=st.integers(0, 2000), level=st.sampled_from([-90.0, -20.0]))
def test_there_is_a_value_for_each_frame(num: int, level: float) -> None:
    samples = noise(1.0, level)[:num]
    activity = activity_by_level(samples)
    assert len(activity.values) == len(levels(samples)) == num // 320
    assert np.all((activity.values >= 0.0) & (activity.values <= 1.0))


def test_levels_double_by_six_decibels() -> None:
    samples = noise(1.0, -30.0)
    assert levels(2.0 * samples) == pytest.approx(levels(samples) + 6.0206, abs=1e-3)


def test_without_a_model_the_level_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech_activity, "vad_session", lambda: None)
    samples = noise(2.0, -30.0)
    found, expected = speech_activity.speech_activity(samples), activity_by_level(samples)
    assert found.frame == expected.frame
    assert np.array_equal(found.values, expected.values)


SPEECH = Path(__file__).resolve().parents[3] / "shared" / "data" / "LibriSpeech" / "dev-clean-2"


def session_or_skip() -> Any:
    session = vad_session()
    if session is None:
        pytest.skip("silero-vad or onnxruntime is not installed: pip install 'zipasr[vad]'")
    return session


def test_silero_hears_no_speech_in_noise() -> None:
    found = activity_by_model(noise(20.0, -30.0), session_or_skip())
    assert found.frame == pytest.approx(0.032)
    assert len(found.values) == -(-20 * SAMPLING_RATE // 512)
    assert found.values.max() < 0.5


def test_silero_hears_speech_between_noise() -> None:
    session = session_or_skip()
    file = next(iter(sorted(SPEECH.glob("*/*/*.flac"))), None)
    if file is None:
        pytest.skip(f"there is no speech in {SPEECH}")
    speech = load_sound(file).samples
    samples = np.concatenate([noise(5.0, -60.0, 1), speech, noise(5.0, -60.0, 2)])
    found = activity_by_model(samples, session)
    times = (np.arange(len(found.values)) + 0.5) * found.frame
    end = 5.0 + len(speech) / SAMPLING_RATE
    outside = (times < 4.5) | (times > end + 0.5)
    assert np.mean(found.values[~outside] > 0.5) > 0.6
    assert np.all(found.values[outside] < 0.5)
