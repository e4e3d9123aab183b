"""Features by torch alone are lhotse's, and those of sound as it comes are those of the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tones
from zipasr.audio.log_mel import AHEAD, LiveFbank, log_mel, log_mel_batch
from zipasr.data.feature_store import fbank_extractor

SOUND = np.random.default_rng(0).uniform(-0.5, 0.5, 40_000).astype(np.float32)
SHORTEST = [AHEAD, 320, 399, 400, 401, 479, 480, 481, 559, 560, 679, 680, 681]


def live(samples: np.ndarray, cuts: list[int]) -> torch.Tensor:
    fbank = LiveFbank()
    parts = [fbank.push(part) for part in np.split(samples, cuts)]
    return torch.cat([*parts, fbank.finish()])


@settings(max_examples=30)
@given(
    length=st.integers(AHEAD, len(SOUND)),
    bins=st.sampled_from([40, 80]),
    gain=st.sampled_from([1.0, 1e-3, 0.0]),
)
def test_features_are_those_of_lhotse(length: int, bins: int, gain: float) -> None:
    samples = SOUND[:length] * np.float32(gain)
    theirs = torch.from_numpy(fbank_extractor(bins).extract(samples, 16_000))
    torch.testing.assert_close(log_mel(samples, bins), theirs, rtol=0, atol=1e-3)


def test_features_are_as_exact_as_those_of_lhotse() -> None:
    """Both are float32: where a sound has little energy, either is off by its rounding."""
    samples = np.sin(np.arange(32_000) * 0.2).astype(np.float32) + 1e-4 * SOUND[:32_000]
    extractor = fbank_extractor()
    theirs = torch.from_numpy(extractor.extract(samples, tones.RATE))
    exact = extractor.extractor.double()(torch.from_numpy(samples).double()[None])[0]
    error, other = ((one - exact).abs().max() for one in (log_mel(samples, 80), theirs))
    assert error < 2 * other + 1e-4


@settings(max_examples=30)
@given(
    length=st.integers(AHEAD, len(SOUND)),
    sizes=st.lists(st.integers(0, 3000), max_size=20),
)
def test_chunks_of_any_size_give_the_frames_of_the_whole(length: int, sizes: list[int]) -> None:
    cuts = [int(cut) for cut in np.minimum(np.cumsum(sizes), length)]
    whole = log_mel(SOUND[:length], 80)
    torch.testing.assert_close(live(SOUND[:length], cuts), whole, rtol=0, atol=2e-5)


@pytest.mark.parametrize("length", SHORTEST)
def test_the_shortest_sounds_sample_by_sample(length: int) -> None:
    whole = log_mel(SOUND[:length], 80)
    parts = live(SOUND[:length], list(range(length)))
    torch.testing.assert_close(parts, whole, rtol=0, atol=2e-5)


def test_a_frame_is_there_as_soon_as_its_window_is() -> None:
    fbank = LiveFbank()
    assert len(fbank.push(SOUND[: AHEAD - 1])) == 0
    assert len(fbank.push(SOUND[AHEAD - 1 : AHEAD])) == 1
    assert len(fbank.push(SOUND[AHEAD : AHEAD + 480])) == 3


def test_few_frames_wait_for_others() -> None:
    fbank, pieces = LiveFbank(), np.split(SOUND, range(700, len(SOUND), 700))
    parts = [fbank.push(piece, least=20) for piece in pieces]
    assert all(len(part) == 0 or len(part) >= 20 for part in parts)
    found = torch.cat([*parts, fbank.finish()])
    torch.testing.assert_close(found, live(SOUND, []), rtol=0, atol=1e-5)


def test_sound_too_short_for_a_frame() -> None:
    assert live(SOUND[: AHEAD - 1], [100]).shape == (0, 80)
    assert live(SOUND[:0], []).shape == (0, 80)


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.just(0) | st.integers(AHEAD, 5000), min_size=1, max_size=5),
    bins=st.sampled_from([40, 80]),
)
def test_a_batch_has_the_features_of_each(lengths: list[int], bins: int) -> None:
    """As a GPU computes them."""
    sounds = [SOUND[100 * n : 100 * n + length] for n, length in enumerate(lengths)]
    found, lens = log_mel_batch(sounds, bins, torch.device("cpu"), -7.0)
    for row, num_frames, sound in zip(found, lens.tolist(), sounds, strict=True):
        wanted = log_mel(sound, bins) if len(sound) else torch.zeros(0, bins)
        torch.testing.assert_close(row[:num_frames], wanted, rtol=0, atol=1e-4)
        assert (row[num_frames:] == -7.0).all()
