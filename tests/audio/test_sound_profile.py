"""Profiles of training sound: what is measured, what is unlike it, and how it is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soxr

from zipasr.audio.sound_profile import (
    PROFILE,
    Measures,
    SoundProfile,
    copy_profile,
    measure,
    profile_of,
    read_profile,
    write_profile,
)
from zipasr.base.constants import SAMPLING_RATE


def utterance(level: float = -25.0) -> np.ndarray:
    """Return a second of silence, speech-like noise of 3 s with a pause of 0.5 s, half a second."""
    draws = np.random.default_rng(0)
    parts = [(1.0, -90.0), (2.0, level), (0.5, -90.0), (1.0, level), (0.5, -90.0)]
    return np.concatenate(
        [10 ** (db / 20) * draws.standard_normal(round(SAMPLING_RATE * s)) for s, db in parts]
    ).astype(np.float32)


def test_measures_of_an_utterance() -> None:
    found = measure(utterance(-30.0))
    assert found is not None
    assert found.seconds == pytest.approx(5.0)
    assert found.pause == pytest.approx(0.5, abs=0.05)
    assert found.margin == pytest.approx(0.5, abs=0.05)
    assert found.level == pytest.approx(-30.0, abs=0.3)
    assert found.bandwidth == pytest.approx(8000.0, abs=250.0)


def test_where_nobody_speaks_there_is_nothing_to_measure() -> None:
    assert measure(np.zeros(SAMPLING_RATE, np.float32)) is None
    assert measure(np.zeros(0, np.float32)) is None


@pytest.mark.parametrize("rate", [8000, 11025])
def test_bandwidth_of_sound_that_had_another_rate(rate: int) -> None:
    narrow = soxr.resample(utterance(), SAMPLING_RATE, rate)
    found = measure(soxr.resample(narrow, rate, SAMPLING_RATE).astype(np.float32))
    assert found is not None
    assert found.bandwidth == pytest.approx(rate / 2, abs=500.0)


def test_a_profile_covers_what_it_was_made_of() -> None:
    levels = np.linspace(-35.0, -15.0, 50)
    measures = [
        Measures(2.0 + 0.1 * n, 0.02 * n, 0.1, level, 8000.0) for n, level in enumerate(levels)
    ]
    profile = profile_of(measures)
    assert 6.0 < profile.usual <= 6.9
    assert 0.8 < profile.pause <= 0.98
    assert profile.margin == 0.1
    assert profile.bandwidth == 8000.0
    assert all(profile.gain(one.level) == 0.0 and not profile.warning(one) for one in measures)


@pytest.mark.parametrize(
    ("level", "bandwidth", "words"),
    [
        (-25.0, 8000.0, ""),
        (-40.0, 8000.0, ""),
        (-65.0, 8000.0, "speech at -65 dB (brought to -25 dB); expect"),
        (0.0, 8000.0, "speech at 0 dB (brought to -25 dB); expect"),
        (-25.0, 4000.0, "nothing above 4.0 kHz"),
        (-65.0, 4000.0, "speech at -65 dB (brought to -25 dB), nothing above 4.0 kHz"),
    ],
)
def test_what_is_unlike_is_said_in_one_sentence(level: float, bandwidth: float, words: str) -> None:
    profile = SoundProfile(quietest=-35.0, loudest=-15.0, bandwidth=8000.0)
    measures = Measures(60.0, 1.0, 0.0, level, bandwidth)
    warning = profile.warning(measures)
    assert words in warning
    assert bool(warning) == bool(words)
    assert -35.0 <= level + profile.gain(level) <= -15.0


def test_sound_above_the_band_of_the_training_is_told() -> None:
    profile = SoundProfile(bandwidth=4000.0)
    assert "sound up to 8.0 kHz" in profile.warning(Measures(60.0, 1.0, 0.0, -25.0, 8000.0))


def test_a_profile_is_read_as_it_was_written(tmp_path: Path) -> None:
    profile = SoundProfile(usual=3.4, pause=0.18, margin=0.08, quietest=-34.0, bandwidth=8000.0)
    write_profile(profile, tmp_path)
    assert read_profile(tmp_path) == profile
    (tmp_path / "export").mkdir()
    copy_profile(tmp_path, tmp_path / "export")
    assert read_profile(tmp_path / "export") == profile


@pytest.mark.parametrize("content", [None, "", "[]", "{", '{"usual": "long"}', '{"other": 1}'])
def test_without_a_profile_the_usual_one_counts(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / PROFILE).write_text(content)
    assert read_profile(tmp_path) == SoundProfile()
    copy_profile(tmp_path / "nowhere", tmp_path)
