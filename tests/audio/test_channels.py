"""Channels are mixed where they agree; others are recognised and told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.audio.sounds import RATE, hum, voice
from zipasr.audio.audio_info import read_audio_info
from zipasr.audio.channels import LOUDEST, MIXED, ChannelMeasures
from zipasr.audio.loading import convert, load_sound, sound_of, treatment

FIRST, SECOND = voice(4.0, 110.0, seed=1), voice(4.0, 210.0, seed=2)
NOISE = np.random.default_rng(3).standard_normal((2, len(FIRST))).astype(np.float32)
SILENCE = np.zeros_like(FIRST)
HALF = len(FIRST) // 2
IN_TURN = (
    np.where(np.arange(len(FIRST)) < HALF, FIRST, 0.0),
    np.where(np.arange(len(FIRST)) >= HALF, SECOND, 0.0),
)

OPPOSITE, LATER, DEAD, OTHER = "opposite polarity", "later or in noise", "hum or noise", "voices"
SPEECH_ALONE = (DEAD, (1, 0))

# Channels -> a word of what is told, and their weights, the largest being 1.
CASES = {
    "the same": ((FIRST, FIRST), MIXED, (1, 1)),
    "another level": ((FIRST, 0.2 * FIRST), MIXED, (1, 1)),
    "six": ((FIRST,) * 6, MIXED, (1,) * 6),
    "same, with noise": ((FIRST + 0.003 * NOISE[0], FIRST + 0.003 * NOISE[1]), MIXED, (1, 1)),
    "same, one in noise": ((2 * FIRST, FIRST + 0.02 * NOISE[0]), LATER, (1, 0)),
    "same, both in loud noise": ((FIRST + 0.02 * NOISE[0], FIRST + 0.02 * NOISE[1]), MIXED, (1, 1)),
    "opposite": ((FIRST, -FIRST), OPPOSITE, (1, -1)),
    "opposite, lower": ((FIRST, -0.3 * FIRST), OPPOSITE, (1, -1)),
    "opposite, in noise": (
        (FIRST + 0.003 * NOISE[0], 0.003 * NOISE[1] - FIRST), OPPOSITE, (1, -1)
    ),
    "opposite, in loud noise": (
        (FIRST + 0.02 * NOISE[0], 0.02 * NOISE[1] - FIRST), OPPOSITE, (1, -1)
    ),
    "opposite, with DC": ((FIRST + 0.3, 0.3 - FIRST), OPPOSITE, (1, -1)),
    "one silent": ((FIRST, SILENCE), LOUDEST, (1, 0)),
    "DC": ((0.1 * FIRST, SILENCE + 0.5), LOUDEST, (1, 0)),
    "DC and noise": ((0.1 * FIRST, 0.5 + 0.001 * NOISE[0]), *SPEECH_ALONE),
    "hum": ((FIRST, hum(4.0)), *SPEECH_ALONE),
    "loud hum beside quiet speech": ((0.01 * FIRST, hum(4.0, 0.6)), *SPEECH_ALONE),
    "hum with noise": ((FIRST, hum(4.0) + 0.01 * NOISE[0]), *SPEECH_ALONE),
    "loud noise": ((0.1 * FIRST, 0.1 * NOISE[0]), *SPEECH_ALONE),
    "1 ms later": ((FIRST, np.roll(FIRST, 16)), LATER, (1, 0)),
    "1 ms later, opposite": ((FIRST, -0.9 * np.roll(FIRST, 16)), LATER, (1, 0)),
    "two at once": ((FIRST, SECOND), OTHER, (1, 1)),
    "in turn": (IN_TURN, OTHER, (1, 1)),
    "in turn, with noise": (
        (IN_TURN[0] + 0.002 * NOISE[0], IN_TURN[1] + 0.002 * NOISE[1]), OTHER, (1, 1)
    ),
    "in turn, heard on both": (
        (IN_TURN[0] + 0.05 * IN_TURN[1], IN_TURN[1] + 0.05 * IN_TURN[0]), OTHER, (1, 1)
    ),
    "noise": ((0.1 * NOISE[0], 0.1 * NOISE[1]), MIXED, (1, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("rate", [8000, RATE, 48000])
@pytest.mark.parametrize("order", [1, -1])
def test_channels_are_judged_by_what_they_hold(name: str, rate: int, order: int) -> None:
    channels, told, weights = CASES[name]
    stack = np.stack(channels, axis=1)[:, ::order].astype(np.float32)
    if rate < RATE:
        stack = stack[::2]
    elif rate > RATE:
        stack = np.repeat(stack, 3, axis=0)
    measures = ChannelMeasures(stack.shape[1], rate)
    for start in range(0, len(stack), 7001):
        measures.add(stack[start : start + 7001])
    mixing = measures.mixing()
    assert told in mixing.what
    found = np.asarray(mixing.weights)[::order]
    assert np.abs(found).sum() == pytest.approx(1.0)
    found = found / np.abs(found).max()
    if "later" in name:  # either will do
        assert sorted(found) == [0, 1]
    else:
        assert tuple(found) in (weights, tuple(-weight for weight in weights))


def written(folder: Path, *channels: np.ndarray) -> Path:
    path = folder / "a.wav"
    soundfile.write(path, np.stack(channels, axis=1), RATE, subtype="FLOAT")
    return path


@pytest.mark.parametrize(
    ("other", "told"),
    [(-FIRST, OPPOSITE), (hum(4.0, 0.6), DEAD), (SILENCE + 0.5, LOUDEST), (FIRST, MIXED)],
)
def test_speech_comes_through_in_files_samples_and_conversions(
    other: np.ndarray, told: str, tmp_path: Path
) -> None:
    path = written(tmp_path, FIRST, other)
    sound = load_sound(path)
    np.testing.assert_allclose(sound.samples, FIRST, atol=1e-6)
    assert told in sound.about
    np.testing.assert_array_equal(sound_of((np.stack([FIRST, other]), RATE)).samples, sound.samples)
    facts = read_audio_info(path)
    assert told in treatment(facts)
    convert(path, facts, tmp_path / "a.flac")
    np.testing.assert_allclose(soundfile.read(tmp_path / "a.flac")[0], FIRST, atol=1e-4)


def test_the_same_file_gives_the_same_weights_in_any_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, FIRST, SECOND)
    whole = read_audio_info(path)
    monkeypatch.setattr("zipasr.audio.decoding.BLOCK_SAMPLES", 999)
    parts = read_audio_info(path)
    assert (parts.weights, parts.mixing) == (whole.weights, whole.mixing)
    assert parts.level == pytest.approx(whole.level, abs=0.01)


def test_the_level_is_that_of_the_loud_parts() -> None:
    for gain in (1.0, 0.01, 0.001):
        measures = ChannelMeasures(1, RATE)
        measures.add(gain * hum(1.0, 1.0)[:, None] + np.float32(0.2))
        assert measures.loud_level([1.0]) == pytest.approx(20 * np.log10(gain), abs=1.0)


def test_the_level_is_that_of_the_channels_that_are_used(tmp_path: Path) -> None:
    facts = read_audio_info(written(tmp_path, 0.001 * FIRST, hum(4.0, 0.6)))
    assert facts.level < -70.0
    assert "very quiet" in load_sound(tmp_path / "a.wav").about


def test_a_very_quiet_recording_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    for gain, is_told in ((1.0, False), (0.1, False), (0.01, True), (0.001, True)):
        soundfile.write(path, gain * FIRST, RATE, subtype="PCM_24")
        assert ("very quiet" in load_sound(path).about) == is_told
