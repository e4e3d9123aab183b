"""Windows hold all speech, are short enough, and end where nobody speaks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.audio import segmentation
from zipasr.audio.segmentation import CutRules, Window, cut_into_windows
from zipasr.audio.speech_activity import LEVEL_SECONDS, activity_by_level, stretches
from zipasr.base.constants import SAMPLING_RATE


@pytest.fixture(autouse=True)
def by_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation, "speech_activity", activity_by_level)


def sound(*parts: tuple[float, float]) -> np.ndarray:
    """Return noise in syllables, as speech is: (seconds, level) after one another."""
    draws = np.random.default_rng(0)
    pieces = []
    for seconds, level in parts:
        num = round(SAMPLING_RATE * seconds)
        is_between = np.arange(num) % round(0.28 * SAMPLING_RATE) >= round(0.2 * SAMPLING_RATE)
        pieces.append(level * np.where(is_between, 0.02, 1.0) * draws.standard_normal(num))
    return np.concatenate(pieces).astype(np.float32)


def rules(longest: float = 10.0, overlap: float = 2.0, **values: float) -> CutRules:
    return CutRules(longest=longest, overlap=overlap, **values)


@settings(max_examples=40, deadline=None)
@given(
    parts=st.lists(st.tuples(st.floats(0.0, 20.0), st.sampled_from([0.0, 0.001, 0.1])), max_size=6),
    longest=st.floats(5.0, 30.0),
    overlap=st.floats(0.0, 2.0),
    usual=st.floats(1.0, 30.0),
    pause=st.floats(0.1, 2.0),
)
def test_all_speech_is_in_windows_in_order(
    parts: list[tuple[float, float]], longest: float, overlap: float, usual: float, pause: float
) -> None:
    samples = sound((0.5, 0.1), *parts)
    windows = cut_into_windows(samples, rules(longest, overlap, usual=usual, pause=pause))
    seconds = len(samples) / SAMPLING_RATE
    assert windows
    assert windows[0].start >= 0.0
    assert windows[-1].end <= seconds + 1e-6
    assert all(0.0 < window.end - window.start <= longest + 1e-6 for window in windows)
    for left, right in pairwise(windows):
        assert left.start < right.start
        assert left.end < right.end
        assert left.end - right.start <= overlap + 1e-6
    covered = np.zeros(len(samples) // round(LEVEL_SECONDS * SAMPLING_RATE) + 1, bool)
    for window in windows:
        covered[int(window.start / LEVEL_SECONDS) : round(window.end / LEVEL_SECONDS) + 1] = True
    for start, end in stretches(activity_by_level(samples).values):
        assert covered[start:end].all()


def test_a_cut_is_in_a_pause_where_there_is_one() -> None:
    samples = sound((5, 0.1), (1, 0.0), (2, 0.1), (1, 0.0), (6, 0.1))
    first, second, third = cut_into_windows(samples, rules())
    assert first.end == pytest.approx(5.2, abs=0.05)
    assert second == pytest.approx((5.8, 8.2), abs=0.05)
    assert third.start == pytest.approx(8.8, abs=0.05)


def test_shorter_pauses_are_kept_where_windows_are_not_too_long() -> None:
    samples = sound(*[(2, 0.1), (0.4, 0.0)] * 12)
    windows = cut_into_windows(samples, rules(25.0, usual=10.0, pause=0.5))
    assert len(windows) == 3
    for left, right in pairwise(windows):
        assert left.end <= right.start
        middle = 0.5 * (left.end + right.start)
        assert (middle + 0.2) / 2.4 == pytest.approx(round((middle + 0.2) / 2.4), abs=0.05)


def test_speech_without_a_pause_is_cut_with_an_overlap() -> None:
    first, second = cut_into_windows(sound((14, 0.1)), rules(usual=8.0))
    assert first.end - second.start == pytest.approx(2.0)
    assert first.end < 10.0
    assert second.start > 3.0


def test_long_silence_is_in_no_window() -> None:
    samples = sound((30, 0.0001), (3, 0.1), (30, 0.0001), (3, 0.1), (5, 0.0001))
    windows = cut_into_windows(samples, rules(25.0))
    assert len(windows) == 2
    assert windows[0] == pytest.approx((29.8, 33.2), abs=0.05)
    assert windows[1] == pytest.approx((62.8, 66.2), abs=0.05)


def test_neighbours_share_the_pause_between_them() -> None:
    samples = sound((3, 0.1), (0.3, 0.0), (3, 0.1), (0.3, 0.0), (3, 0.1))
    windows = cut_into_windows(samples, rules(usual=3.5, pause=0.2, margin=1.0))
    assert len(windows) == 3
    for left, right in pairwise(windows):
        assert left.end == pytest.approx(right.start)
    assert windows[0].end == pytest.approx(3.15, abs=0.05)


def test_an_utterance_by_itself_is_left_whole() -> None:
    assert cut_into_windows(sound((3, 0.1)), rules()) == [Window(0.0, 3.0)]
    assert cut_into_windows(np.zeros(0, np.float32), rules()) == [Window(0.0, 0.0)]
    longer = sound((0.3, 0.0), (3.0, 0.1), (0.4, 0.0))
    assert cut_into_windows(longer, rules(usual=3.2)) == [Window(0.0, 3.7)]


def test_where_nobody_speaks_there_is_no_window() -> None:
    assert cut_into_windows(np.zeros(60 * SAMPLING_RATE, np.float32), rules()) == []


def test_windows_that_are_too_short_for_their_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match="too short for an overlap"):
        CutRules(longest=4.0, overlap=2.0)
