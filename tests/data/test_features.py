"""Features of sound as it comes are those of the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.data.features import AHEAD, LiveFbank, fbank_extractor

SOUND = np.random.default_rng(0).uniform(-0.5, 0.5, 40_000).astype(np.float32)


def live(samples: np.ndarray, cuts: list[int]) -> torch.Tensor:
    fbank = LiveFbank()
    parts = [fbank.push(part) for part in np.split(samples, cuts)]
    return torch.cat([*parts, fbank.finish()])


@settings(max_examples=30)
@given(
    length=st.integers(AHEAD, len(SOUND)),
    sizes=st.lists(st.integers(0, 3000), max_size=20),
)
def test_chunks_of_any_size_give_the_frames_of_the_whole(length: int, sizes: list[int]) -> None:
    whole = torch.from_numpy(fbank_extractor().extract(SOUND[:length], 16_000))
    cuts = [int(cut) for cut in np.minimum(np.cumsum(sizes), length)]
    torch.testing.assert_close(live(SOUND[:length], cuts), whole, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    "length", [AHEAD, 320, 399, 400, 401, 479, 480, 481, 559, 560, 679, 680, 681]
)
def test_the_shortest_sounds_sample_by_sample(length: int) -> None:
    whole = torch.from_numpy(fbank_extractor().extract(SOUND[:length], 16_000))
    parts = live(SOUND[:length], list(range(length)))
    torch.testing.assert_close(parts, whole, rtol=0, atol=2e-5)


def test_a_frame_is_there_as_soon_as_its_window_is() -> None:
    fbank = LiveFbank()
    assert len(fbank.push(SOUND[: AHEAD - 1])) == 0
    assert len(fbank.push(SOUND[AHEAD - 1 : AHEAD])) == 1
    assert len(fbank.push(SOUND[AHEAD : AHEAD + 480])) == 3


def test_sound_too_short_for_a_frame() -> None:
    assert live(SOUND[: AHEAD - 1], [100]).shape == (0, 80)
    assert live(SOUND[:0], []).shape == (0, 80)
