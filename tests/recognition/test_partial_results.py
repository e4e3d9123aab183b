"""Partial results: words that were shown change no more than they must, and are counted."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.search.tiny import tiny_batch, tiny_steps
from zipasr.recognition.stream_results import ShownWords, steady
from zipasr.search.modified_beam_search import ModifiedBeamSearch
from zipasr.search.protocol import Utterance

NOTHING = Utterance([], [], 0.0)

WORDS = st.lists(st.sampled_from(["A", "AB", "ABC", "B"]), max_size=5)


def hypothesis_of(tokens: list[int], log_prob: float = -1.0) -> Utterance:
    return Utterance(tokens, list(range(len(tokens))), log_prob)


def words_of(found: Utterance) -> list[str]:
    return [str(token) for token in found.tokens]


def test_what_is_shown_stays_while_the_search_may_come_back_to_it() -> None:
    shown = steady(NOTHING, [hypothesis_of([1, 2])])
    assert shown.tokens == [1, 2]
    # Another one is better for a while ...
    assert steady(shown, [hypothesis_of([1, 3]), hypothesis_of([1, 2, 4])]) is shown
    # ... but not for good: what comes is shown.
    assert steady(shown, [hypothesis_of([1, 2, 4])]).tokens == [1, 2, 4]
    # It was wrong when no hypothesis has it any more.
    assert steady(shown, [hypothesis_of([1, 3]), hypothesis_of([1])]).tokens == [1, 3]
    # A lattice none of whose paths ends with this frame has no result.
    assert steady(shown, [hypothesis_of([], -math.inf)]) is shown


def test_words_are_counted_when_they_are_replaced_or_taken_back() -> None:
    shown = ShownWords()
    shown.show(["TURN", "THE", "KIT"], 1.0)
    shown.show(["TURN", "THE", "KITCHEN", "LIGHT"], 2.0)  # the last one has grown
    assert (shown.changed, shown.since) == (0, [1.0, 1.0, 2.0, 2.0])
    shown.show(["TURN", "A", "KITCHEN", "LIGHT"], 3.0)  # three stand in other places
    assert (shown.changed, shown.since) == (3, [1.0, 3.0, 3.0, 3.0])
    shown.show(["TURN"], 4.0)
    assert (shown.changed, shown.since) == (6, [1.0])
    shown.show(["TURNED"], 5.0)
    assert (shown.changed, shown.words) == (6, ["TURNED"])


@given(partials=st.lists(WORDS, min_size=1, max_size=6))
def test_every_word_has_the_moment_since_when_it_is_there(partials: list[list[str]]) -> None:
    shown = ShownWords()
    for moment, words in enumerate(partials):
        shown.show(words, float(moment))
    assert shown.words == partials[-1]
    for place, (word, since) in enumerate(zip(shown.words, shown.since, strict=True)):
        assert all(words[place : place + 1] == [word] for words in partials[int(since) :])
    assert shown.since == sorted(shown.since)
    assert 0 <= shown.changed <= sum(map(len, partials[:-1]))


@given(seed=st.integers(0, 10_000), chunk=st.integers(1, 4), beam=st.integers(1, 5))
def test_no_more_words_change_than_if_the_best_were_always_shown(
    seed: int, chunk: int, beam: int
) -> None:
    search = ModifiedBeamSearch(tiny_steps(seed), beam_size=beam)
    frames, _ = tiny_batch(seed, [16])
    state = search.start(1, frames.device)
    best, calm, found = ShownWords(), ShownWords(), NOTHING
    parts = frames.split(chunk, dim=1)
    for index, part in enumerate(parts):
        state = search.advance(state, part, torch.tensor([part.size(1)]))
        (hypotheses,) = search.hypotheses(state)
        is_last = index == len(parts) - 1
        found = hypotheses[0] if is_last else steady(found, hypotheses)
        best.show(words_of(hypotheses[0]), index)
        calm.show(words_of(found), index)
    assert calm.words == best.words
    assert calm.changed <= best.changed
    assert (
        all(late >= early for late, early in zip(calm.since, best.since, strict=True))
        or calm.changed < best.changed
    )
