"""Recordings made ready: level, warning, windows; each word once and in order, however cut."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.audio import segmentation
from zipasr.audio.loading import Sound
from zipasr.audio.sound_profile import SoundProfile, measure
from zipasr.audio.speech_activity import activity_by_level
from zipasr.base.constants import SAMPLING_RATE
from zipasr.recognition.long_form import Cutting, Piece, prepared, read_recording, words_in
from zipasr.recognition.transcription import TimedHypothesis
from zipasr.text.timed_words import Word

PROFILE = SoundProfile(usual=4.0, pause=0.3, margin=0.1, quietest=-35.0, loudest=-15.0)
CUTTING = Cutting(10.0, 2.0, 3, PROFILE)
#: Seconds of a word, and of the break behind it.
WORD, BREAK = 0.3, 0.08


@pytest.fixture(autouse=True)
def by_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation, "speech_activity", activity_by_level)


def recording(pauses: Sequence[float], level: float = -25.0) -> tuple[Sound, list[Word]]:
    """Return words of noise with a pause behind each, beside the breaks, and the words."""
    draws = np.random.default_rng(0)
    parts, words, at = [], [], 0.0
    for number, pause in enumerate(pauses):
        silence = round((BREAK + pause) * SAMPLING_RATE)
        sound = draws.standard_normal(round(WORD * SAMPLING_RATE))
        parts += [10 ** (level / 20) * sound, 1e-5 * draws.standard_normal(silence)]
        words.append(Word(f"W{number}", at, at + WORD))
        at += WORD + silence / SAMPLING_RATE
    return Sound(np.concatenate([*parts, np.zeros(0)]).astype(np.float32), "made"), words


class Listener:
    """A model that hears each word that is wholly in a piece."""

    def __init__(self, words: Sequence[Word]) -> None:
        self.words, self.pieces = words, 0

    def __call__(self, pieces: Sequence[Piece]) -> list[list[TimedHypothesis]]:
        self.pieces += len(pieces)
        return [[TimedHypothesis(tuple(self._heard(piece)), 0.0)] for piece in pieces]

    def _heard(self, piece: Piece) -> list[Word]:
        start, end = piece.start - 0.02, piece.start + piece.seconds + 0.02
        return [word for word in self.words if start <= word.start and word.end <= end]


@settings(max_examples=30, deadline=None)
@given(
    pauses=st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.2, 0.5, 1.0, 8.0]), min_size=1, max_size=60),
    usual=st.floats(1.0, 20.0),
    pause=st.floats(0.2, 1.0),
)
def test_each_word_is_there_once_and_in_order(
    pauses: list[float], usual: float, pause: float
) -> None:
    sound, words = recording(pauses)
    profile = SoundProfile(usual=usual, pause=pause, margin=0.1)
    listener = Listener(words)
    cutting = Cutting(10.0, 2.0, 3, profile)
    found = words_in(listener, sound, cutting, 0.04, lambda window, text: None)
    assert [word.text for word in found] == [word.text for word in words]
    starts = [word.start for word in found]
    assert starts == sorted(starts)
    assert listener.pieces == len(prepared(sound, cutting).windows)


@pytest.mark.parametrize("level", [-65.0, -25.0, -5.0])
def test_the_level_becomes_that_of_the_training(
    level: float, caplog: pytest.LogCaptureFixture
) -> None:
    sound, words = recording([0.0] * 10 + [1.0] + [0.0] * 10, level)
    ready = prepared(sound, CUTTING)
    measures = measure(ready.sound.samples)
    assert measures is not None
    assert -35.0 <= measures.level <= -15.0
    is_alike = level == -25.0
    is_far = level == -65.0
    assert np.array_equal(ready.sound.samples, sound.samples) == is_alike
    with caplog.at_level(logging.WARNING):
        words_in(Listener(words), sound, CUTTING, 0.04, lambda window, text: None)
    told = [one for one in caplog.records if "unlike the training data" in one.getMessage()]
    assert len(told) == int(is_far)
    about = read_recording((sound.samples, SAMPLING_RATE), CUTTING, False).about
    assert ("unlike the training data" in about) == is_far


def test_where_nobody_speaks_nothing_is_recognised() -> None:
    sound = Sound(np.zeros(60 * SAMPLING_RATE, np.float32), "")
    listener = Listener([])
    assert words_in(listener, sound, CUTTING, 0.04, lambda window, text: None) == []
    assert listener.pieces == 0
