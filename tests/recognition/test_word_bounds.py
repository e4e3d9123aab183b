"""Starts and ends of words: in order, inside the sound, long enough."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zipasr.audio.speech_activity import Pause
from zipasr.recognition.word_bounds import DELAY, SHORTEST_WORD, bounded
from zipasr.text.timed_words import Token, Word

FRAME = 0.04


def word(text: str, *frames: int) -> Word:
    tokens = tuple(Token(text, FRAME * n, FRAME * (n + 1)) for n in frames)
    return Word(text, tokens[0].start, tokens[-1].end, 0.5, tokens)


def times(words: list[Word]) -> list[tuple[float, float]]:
    return [(pytest.approx(one.start), pytest.approx(one.end)) for one in words]


def test_a_word_lasts_until_the_next_one() -> None:
    words = [word("A", 5), word("B", 10, 12), word("C", 20)]
    assert times(bounded(words, 1.0, FRAME, [])) == [(0.21, 0.41), (0.41, 0.81), (0.81, 1.0)]


def test_a_word_ends_where_a_pause_begins() -> None:
    words = [word("A", 5), word("B", 20)]
    pauses = [Pause(0.0, 0.19), Pause(0.5, 0.7), Pause(0.95, 1.0)]
    assert times(bounded(words, 1.0, FRAME, pauses)) == [(0.21, 0.5), (0.81, 0.95)]


def test_a_word_that_would_begin_in_a_pause_begins_at_its_end_if_that_is_near() -> None:
    near, far = [Pause(0.0, 0.15)], [Pause(0.0, 0.5)]
    assert bounded([word("A", 0)], 1.0, FRAME, near)[0].start == pytest.approx(0.15)
    assert bounded([word("A", 0)], 1.0, FRAME, far)[0].start == pytest.approx(DELAY)


def test_speech_that_is_soft_all_through_is_no_pause() -> None:
    # A pause begins behind the last token of the word that it ends.
    (found,) = bounded([word("A", 10, 12)], 1.0, FRAME, [Pause(0.2, 0.9)])
    assert (found.start, found.end) == (pytest.approx(0.41), 1.0)


def test_the_last_token_of_a_word_is_said_before_the_next_word_begins() -> None:
    first, second = bounded([word("A", 5, 8), word("B", 9)], 1.0, FRAME, [])
    assert first.end == second.start == pytest.approx(0.42)


def test_without_sound_a_word_ends_soon_after_its_last_token() -> None:
    first, second = bounded([word("A", 5), word("B", 50)], 3.0, FRAME)
    assert first.end == pytest.approx(0.5)
    assert second.end == pytest.approx(2.3)


def test_texts_confidences_and_tokens_stay() -> None:
    words = [word("A", 1), word("B", 200)]
    first, second = bounded(words, 1.0, FRAME, [])
    assert (first.text, first.confidence, first.tokens) == ("A", 0.5, words[0].tokens)
    # No token is behind the sound.
    assert (second.tokens[0].start, second.tokens[0].end) == (pytest.approx(0.96), 1.0)
    assert bounded([], 1.0, FRAME) == []


moments = st.lists(st.integers(0, 120), min_size=1, max_size=40).map(sorted)
edges = st.lists(st.floats(0, 6), max_size=12, unique=True).map(sorted)


@given(moments, edges, st.floats(0.01, 5), st.booleans(), st.data())
def test_words_do_not_overlap_and_none_is_too_short(
    frames: list[int], borders: list[float], seconds: float, is_heard: bool, data: st.DataObject
) -> None:
    words, rest = [], list(frames)
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        words.append(word("W", *rest[:size]))
        del rest[:size]
    pauses = [Pause(*pair) for pair in zip(borders[::2], borders[1::2], strict=False)]
    found = bounded(words, seconds, FRAME, pauses if is_heard else None)
    shortest = min(SHORTEST_WORD, seconds / len(words))
    assert found[0].start >= 0
    assert found[-1].end <= seconds + 1e-9
    assert all(one.end - one.start >= shortest - 1e-9 for one in found)
    assert all(left.end <= right.start + 1e-9 for left, right in pairwise(found))
    # The rule is met by its own result.
    again = bounded(found, seconds, FRAME, pauses if is_heard else None)
    if frames[-1] * FRAME < seconds - FRAME:
        assert times(again) == [(one.start, one.end) for one in found]
