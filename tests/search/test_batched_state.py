"""Searches that stop after a chunk and go on find what they find at once."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.search.batched_state import rows_of, stack
from zipasr.search.components import DecodingResources, ModelParts
from zipasr.search.config import DecodingConfig
from zipasr.search.hot_words import ContextGraph
from zipasr.search.methods import METHODS
from zipasr.search.modified_beam_search import ModifiedBeamSearch
from zipasr.search.registry import build_search

from .tiny import ENCODER_DIM, assert_same, tiny_batch, tiny_steps

# These keep the frames until they are asked.
WHOLE = ["beam_search", "fast_beam_search_nbest"]
STREAMING = [name for name, method in METHODS.items() if method.streams]


def resumable(name: str, seed: int):
    steps = tiny_steps(seed)
    weight = torch.randn(ENCODER_DIM, 7, generator=torch.Generator().manual_seed(seed))
    parts = ModelParts(steps.decoder, steps.joiner, lambda frames: frames @ weight)
    hot_words = ContextGraph([[1, 2], [3]], 1.0) if METHODS[name].hot_words else None
    return build_search(
        DecodingConfig(decoding_method=name), parts, DecodingResources(hot_words=hot_words)
    )


@pytest.mark.parametrize("name", [*STREAMING, *WHOLE])
@settings(max_examples=6)
@given(seed=st.integers(0, 1000), cuts=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_chunks_equal_the_whole(name, seed, cuts):
    search = resumable(name, seed)
    frames, lens = tiny_batch(seed, [sum(cuts), sum(cuts)])
    start = search.start(2, frames.device)
    want = search.results(search.advance(start, frames, lens))
    state = start
    for chunk in frames.split(cuts, dim=1):
        state = search.advance(state, chunk, torch.full((2,), chunk.size(1)))
    assert_same(search.results(state), want)
    # The state at the start can be used again: nothing was changed in place.
    assert_same(search.results(search.advance(start, frames, lens)), want)


@pytest.mark.parametrize("name", STREAMING)
def test_streams_of_different_ages_go_on_together(name):
    search = resumable(name, 3)
    frames, _ = tiny_batch(3, [9, 9])
    lens = torch.tensor([9, 5])
    want = search.results(search.advance(search.start(2, frames.device), frames, lens))
    old = search.advance(search.start(1, frames.device), frames[:1, :6], torch.tensor([6]))
    young = search.start(1, frames.device)
    both = stack([young, old])
    rest = torch.zeros(2, 5, frames.size(2))
    rest[0], rest[1, :3] = frames[1, :5], frames[0, 6:]
    both = search.advance(both, rest, torch.tensor([5, 3]))
    second, first = (rows_of(both, [row]) for row in (0, 1))
    assert_same(search.results(first) + search.results(second), want)
    assert_same(search.results(rows_of(both, [1, 0])), want)


@pytest.mark.parametrize("name", STREAMING)
@settings(max_examples=6)
@given(seed=st.integers(0, 1000), num=st.integers(1, 3), cut=st.integers(1, 6))
def test_a_search_that_begins_anew_has_found_nothing(name, seed, num, cut):
    search = resumable(name, seed)
    frames, _ = tiny_batch(seed, [8] * num)
    before = search.advance(
        search.start(num, frames.device), frames[:, :cut], torch.full((num,), cut)
    )
    found = search.results(before)
    fresh = search.restart(before, frames.device)
    assert [one.tokens for one in search.results(fresh)] == [[]] * num
    rest = torch.full((num,), 8 - cut)
    after = search.results(search.advance(fresh, frames[:, cut:], rest))
    assert all(0 <= frame < 8 - cut for one in after for frame in one.frames)
    # The state before is as it was; streams do not mix.
    assert_same(search.results(before), found)
    for row in range(num):
        alone = search.restart(rows_of(before, [row]), frames.device)
        alone = search.advance(alone, frames[row : row + 1, cut:], rest[:1])
        assert search.results(alone)[0].tokens == after[row].tokens


@pytest.mark.parametrize("seed", range(20))
def test_a_greedy_decoder_goes_on_from_the_last_tokens(seed):
    search = resumable("greedy_search", seed)
    frames, lens = tiny_batch(seed, [9, 9])
    want = search.results(search.advance(search.start(2, frames.device), frames, lens))
    state, tokens = search.start(2, frames.device), [[], []]
    for chunk in frames.split(2, dim=1):
        state = search.advance(state, chunk, torch.full((2,), chunk.size(1)))
        for all_tokens, one in zip(tokens, search.results(state), strict=True):
            all_tokens += one.tokens
        state = search.restart(state, frames.device)
    assert tokens == [one.tokens for one in want]


@pytest.mark.parametrize("seed", range(20))
def test_a_beam_goes_on_with_the_probabilities_beside_the_best(seed):
    steps = tiny_steps(seed)
    search = ModifiedBeamSearch(steps, beam_size=3)
    frames, _ = tiny_batch(seed, [4])
    before = search.advance(search.start(1, frames.device), frames, torch.tensor([4]))
    beams = search.restart(before, frames.device).beams
    hypotheses = search.hypotheses(before)[0]
    best = max(one.log_prob for one in hypotheses)
    # Of the hypotheses with the same last tokens one is left, with their probabilities together.
    want: dict[tuple[int, ...], float] = {}
    for one in hypotheses:
        context = tuple([-1, 0, *one.tokens][-steps.context_size :])
        want[context] = want.get(context, 0.0) + math.exp(one.log_prob - best)
    found = {
        tuple(context): math.exp(log_prob)
        for context, log_prob in zip(
            beams.contexts[0].tolist(), beams.log_probs[0].tolist(), strict=True
        )
        if log_prob > -math.inf
    }
    assert found == pytest.approx(want, rel=1e-5)
