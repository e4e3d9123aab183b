"""Pieces become words, words of overlapping windows become one text, texts become files."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zipasr.text.timed_words import Token, Word, aligned_words, join_windows, words_of_tokens
from zipasr.text.transcript_formats import FORMATS, subtitle_lines

WORDS = [
    Word("HELLO", 0.12, 0.4),
    Word("BIG", 0.52, 0.8),
    Word("WORLD", 3661.5, 3662.25),
]


def test_words_of_tokens() -> None:
    pieces = [("\u2581HE", 0), ("LLO", 1), ("\u2581", 2), ("WOR", 3), ("LD", 4), ("\u2581A", 5)]
    words = words_of_tokens([Token(piece, at, at + 0.5) for piece, at in pieces])
    assert times(words) == [("HELLO", 0, 1.5), ("WORLD", 3, 4.5), ("A", 5, 5.5)]
    assert words_of_tokens([]) == []
    # Cut at the start of a window.
    assert times(words_of_tokens([Token("LLO", 1, 2)])) == [("LLO", 1, 2)]


def test_a_word_on_another_clock_has_its_tokens_there_too() -> None:
    word = Word("AB", 0.1, 0.5, 0.7, (Token("\u2581A", 0.1, 0.2, -1.0), Token("B", 0.2, 0.5)))
    assert word.later(10.0) == Word(
        "AB", 10.1, 10.5, 0.7, (Token("\u2581A", 10.1, 10.2, -1.0), Token("B", 10.2, 10.5))
    )


def times(words: list[Word]) -> list[tuple[str, float, float]]:
    return [(word.text, word.start, word.end) for word in words]


def test_confidence_of_recognised_words_is_the_mean_probability_of_their_tokens() -> None:
    tokens = [Token("\u2581A", 0.0, 0.1, math.log(0.5)), Token("B", 0.1, 0.4, math.log(0.9))]
    (word,) = words_of_tokens(tokens)
    assert word.confidence == pytest.approx(0.7)
    assert word.tokens == tuple(tokens)
    (aligned,) = aligned_words(tokens)
    assert aligned.confidence == pytest.approx(0.5**0.25 * 0.9**0.75)


@given(
    st.lists(st.tuples(st.sampled_from(["A", "B", "C"]), st.floats(0.5, 2.0)), max_size=20),
    st.floats(-0.15, 0.15),
    st.integers(0, 20),
)
def test_windows_that_heard_the_same_are_joined_without_loss(
    said: list[tuple[str, float]], jitter: float, index: int
) -> None:
    clock, words = 0.0, []
    for text, gap in said:
        clock += gap
        words.append(Word(text, clock, clock + 0.3))
    border = words[min(index, len(words) - 1)].start if words else 0.0
    moved = [Word(w.text, w.start + jitter, w.end + jitter) for w in words]
    left = [w for w in words if w.start < border + 1.0]
    right = [w for w in moved if w.start >= border - 1.0]
    assert [w.text for w in join_windows(left, right, border)] == [w.text for w in words]


def test_each_window_is_believed_on_its_own_side() -> None:
    left = [Word("ONE", 1, 1.2), Word("TW", 2.9, 3.0)]
    right = [Word("NE", 1.9, 2.0), Word("TWO", 2.9, 3.2)]
    assert [w.text for w in join_windows(left, right, 2.5)] == ["ONE", "TWO"]


def test_formats() -> None:
    assert FORMATS["txt"]("a.wav", WORDS) == "HELLO BIG WORLD\n"
    content = json.loads(FORMATS["json"]("a.wav", WORDS))
    assert content["text"] == "HELLO BIG WORLD"
    big = {"word": "BIG", "start": 0.52, "end": 0.8, "confidence": 1.0}
    assert content["words"][1] == big
    assert FORMATS["ctm"]("a b.wav", WORDS[:1]) == "a_b.wav 1 0.120 0.280 HELLO\n"
    assert FORMATS["srt"]("a.wav", WORDS) == (
        "1\n00:00:00,120 --> 00:00:00,800\nHELLO BIG\n\n2\n01:01:01,500 --> 01:01:02,250\nWORLD\n"
    )
    assert FORMATS["srt"]("a.wav", []) == ""


@pytest.mark.parametrize("count", [1, 50])
def test_subtitles_are_short(count: int) -> None:
    words = [Word("WORD", 0.3 * i, 0.3 * i + 0.2) for i in range(count)]
    lines = subtitle_lines(words)
    assert [word for line in lines for word in line] == words
    assert all(len(" ".join(w.text for w in line)) <= 64 for line in lines)
    assert all(line[-1].end - line[0].start <= 6.0 for line in lines)


def test_a_word_that_is_said_twice_at_the_border_stays_twice() -> None:
    left = [Word("A", 9.5, 9.7), Word("A", 10.0, 10.2)]
    right = [Word("A", 9.65, 9.8), Word("A", 10.15, 10.3)]
    assert len(join_windows(left, right, 10.0)) == 2
    # Each window puts the one word across the border, or on its own side.
    assert len(join_windows([Word("A", 10.1, 10.2)], [Word("A", 9.9, 10.0)], 10.0)) == 1
    assert len(join_windows([Word("A", 9.9, 10.0)], [Word("A", 10.1, 10.2)], 10.0)) == 1
