"""Windows cover a recording, are short enough, and end where nobody speaks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.audio.silence_windows import cut_into_windows

RATE = 1000


def speech(*parts: tuple[float, float]) -> np.ndarray:
    """Return noise: (seconds, level) after one another."""
    draws = np.random.default_rng(0)
    pieces = [level * draws.standard_normal(round(RATE * seconds)) for seconds, level in parts]
    return np.concatenate(pieces).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
    parts=st.lists(st.tuples(st.floats(0.0, 20.0), st.sampled_from([0.0, 0.001, 0.1])), max_size=6),
    longest=st.floats(5.0, 30.0),
    overlap=st.floats(0.0, 2.0),
)
def test_windows_cover_the_recording(
    parts: list[tuple[float, float]], longest: float, overlap: float
) -> None:
    samples = speech((0.5, 0.1), *parts)
    windows = cut_into_windows(samples, RATE, longest, overlap)
    assert windows[0].start == 0.0
    assert windows[-1].end == pytest.approx(len(samples) / RATE)
    assert all(0.0 < window.end - window.start <= longest + 1e-6 for window in windows)
    for left, right in pairwise(windows):
        assert left.start < right.start <= left.end < right.end
        assert left.end - right.start <= overlap + 1e-6


def test_cut_is_in_the_middle_of_the_last_pause() -> None:
    samples = speech((5, 0.1), (1, 0.0), (2, 0.1), (1, 0.0), (6, 0.1))
    first, second = cut_into_windows(samples, RATE, 10.0, 2.0)
    assert first.end == second.start == pytest.approx(8.5, abs=0.1)


def test_speech_without_a_pause_is_cut_with_an_overlap_at_the_quietest_moment() -> None:
    samples = speech((7, 0.1), (1, 0.02), (7, 0.1))
    first, second = cut_into_windows(samples, RATE, 10.0, 2.0)
    assert first.end - second.start == pytest.approx(2.0)
    assert (first.end + second.start) / 2 == pytest.approx(7.5, abs=0.5)


def test_short_and_empty_recordings_are_one_window() -> None:
    assert cut_into_windows(speech((3, 0.1)), RATE, 10.0, 2.0) == [(0.0, 3.0)]
    assert cut_into_windows(np.zeros(0, dtype=np.float32), RATE, 10.0, 2.0) == [(0.0, 0.0)]
    with pytest.raises(ValueError, match="too short for an overlap"):
        cut_into_windows(speech((3, 0.1)), RATE, 4.0, 2.0)
