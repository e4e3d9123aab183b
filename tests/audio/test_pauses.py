"""Pauses: what is quiet beside the speech around it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zipasr.audio.speech_activity import FRAME, SHORTEST, Pause, frame_levels, pauses_in

RATE = 16_000


def sound_of(parts: list[tuple[float, float]], seed: int = 0) -> np.ndarray:
    """Return noise: (seconds, amplitude) after (seconds, amplitude)."""
    draws = np.random.default_rng(seed)
    pieces = [amplitude * draws.standard_normal(round(RATE * s)) for s, amplitude in parts]
    return np.concatenate(pieces).astype(np.float32)


def test_pauses_are_found_where_it_is_quiet() -> None:
    sound = sound_of([(0.05, 1e-3), (0.5, 0.1), (0.2, 1e-3), (0.4, 0.1), (0.05, 1e-3), (0.3, 0.1)])
    found = pauses_in(sound)
    # The first is shorter than a pause, but at an end; so is the third, and in the middle.
    assert found == [
        Pause(0.0, pytest.approx(0.05, abs=2 * FRAME)),
        Pause(pytest.approx(0.55, abs=2 * FRAME), pytest.approx(0.75, abs=2 * FRAME)),
    ]


def test_the_hum_of_a_room_is_quiet() -> None:
    time = np.arange(RATE) / RATE
    hum = 0.2 * np.sin(2 * np.pi * 50 * time)
    sound = sound_of([(0.4, 0.05), (0.2, 1e-4), (0.4, 0.05)]) + hum
    (pause,) = pauses_in(sound.astype(np.float32))
    assert pause == pytest.approx((0.4, 0.6), abs=FRAME)


def test_soft_speech_far_from_loud_speech_has_pauses_of_its_own() -> None:
    soft = [(0.5, 1e-3), (0.2, 1e-5), (0.5, 1e-3)] * 20
    loud = [(0.5, 0.3), (0.2, 3e-3), (0.5, 0.3)] * 20
    found = pauses_in(sound_of([*soft, *loud]))
    away = [pause for pause in found if not 19 < pause.start < 31]
    assert len(away) >= 30
    assert all(pause.end - pause.start == pytest.approx(0.2, abs=2 * FRAME) for pause in away)


@pytest.mark.parametrize("samples", [0, 1, 159, 160, 161])
def test_hardly_any_sound(samples: int) -> None:
    assert pauses_in(np.zeros(samples, np.float32)) == []


@given(
    st.lists(st.tuples(st.floats(0.01, 0.5), st.sampled_from([0.0, 1e-4, 1e-2, 1.0])), max_size=8)
)
def test_pauses_are_in_order_and_long_enough(parts: list[tuple[float, float]]) -> None:
    sound = sound_of(parts) if parts else np.zeros(0, np.float32)
    length = len(frame_levels(sound, RATE)) * FRAME
    found = pauses_in(sound)
    edges = [edge for pause in found for edge in pause]
    assert edges == sorted(set(edges))
    for start, end in found:
        at_an_end = start == 0 or end == pytest.approx(length)
        assert 0 <= start < end <= length + 1e-9
        assert at_an_end or end - start > SHORTEST - 1e-9
