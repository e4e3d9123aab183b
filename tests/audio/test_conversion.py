from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.peers import needed
from zipasr.audio.audio_info import read_audio_info
from zipasr.audio.channels import LOUDEST, MIXED
from zipasr.audio.loading import convert, needs_conversion, resampled, treatment


def tone(hertz: float, rate: int, seconds: float = 1.0, level: float = 0.3) -> np.ndarray:
    return level * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


def converted(samples: np.ndarray, rate: int, folder: Path, channel: int | None = None):
    source, target = folder / "in.wav", folder / "out" / "in.wav.flac"
    soundfile.write(source, samples, rate, subtype="FLOAT")
    facts = read_audio_info(source)
    convert(source, facts, target, channel)
    return facts, *soundfile.read(target)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_a_tone_is_the_same_tone_at_16_khz(rate: int, tmp_path: Path) -> None:
    facts, sound, new_rate = converted(tone(1000, rate), rate, tmp_path)
    assert new_rate == 16000
    assert len(sound) == -(-len(tone(1000, rate)) * 16000 // rate)
    inside = slice(800, -800)  # the filter sees silence beyond the ends
    assert np.abs(sound - tone(1000, 16000)[: len(sound)])[inside].max() < 2e-4
    assert needs_conversion(Path("x.wav"), facts)


def test_what_16_khz_cannot_hold_goes_away() -> None:
    assert np.abs(resampled(tone(10000, 48000).astype(np.float32), 48000)[800:-800]).max() < 1e-3


def test_channels_are_mixed_down_and_silent_ones_left_out(tmp_path: Path) -> None:
    left, right = tone(500, 16000), tone(900, 16000)
    facts, sound, _ = converted(np.stack([left, right], axis=1), 16000, tmp_path)
    assert treatment(facts) == MIXED
    np.testing.assert_allclose(sound, (left + right) / 2, atol=1e-4)
    facts, sound, _ = converted(np.stack([1e-4 * left, right], axis=1), 16000, tmp_path)
    assert treatment(facts) == LOUDEST
    np.testing.assert_allclose(sound, right, atol=1e-4)


def test_one_channel_can_be_asked_for(tmp_path: Path) -> None:
    both = np.stack([tone(500, 16000), tone(900, 16000)], axis=1)
    _, sound, _ = converted(both, 16000, tmp_path, channel=1)
    np.testing.assert_allclose(sound, both[:, 1], atol=1e-4)


@settings(max_examples=20)
@given(st.floats(0.5, 8.0))
def test_nothing_is_clipped(tmp_path_factory: pytest.TempPathFactory, level: float) -> None:
    loud = tone(440, 16000, 0.1, level)
    _, sound, _ = converted(loud, 16000, tmp_path_factory.mktemp("loud"))
    np.testing.assert_allclose(sound, loud / max(1.0, np.abs(loud).max()), atol=1e-4)


def test_what_fits_stays_where_it_is(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", tone(440, 16000), 16000)
    assert not needs_conversion(tmp_path / "a.flac", read_audio_info(tmp_path / "a.flac"))
    soundfile.write(tmp_path / "a.ogg", tone(440, 16000), 16000)
    assert needs_conversion(tmp_path / "a.ogg", read_audio_info(tmp_path / "a.ogg"))


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("num_samples", [1, 2, 3, 100, 1001])
def test_a_part_of_a_sample_is_kept(rate: int, num_samples: int) -> None:
    noise = np.random.default_rng(0).normal(size=num_samples).astype(np.float32)
    sound = resampled(noise, rate)
    assert sound.shape == (-(-num_samples * 16000 // rate),)
    assert sound.dtype == np.float32


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_noise_is_what_torchaudio_makes_of_it_away_from_the_cut_off(rate: int) -> None:
    functional = needed("torchaudio.functional")
    white = torch.from_numpy(np.random.default_rng(0).normal(scale=0.1, size=rate))
    sound = functional.lowpass_biquad(functional.lowpass_biquad(white, rate, 1000.0), rate, 1000.0)
    theirs = functional.resample(sound, rate, 16000, lowpass_filter_width=64).numpy()
    apart = (resampled(sound.numpy(), rate) - theirs)[800:-800]
    assert np.sqrt(np.mean(apart**2)) < 0.01 * np.sqrt(np.mean(theirs**2))
