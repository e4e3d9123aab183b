"""Searches that stop after a chunk and go on find what they find at once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.search.batched_state import rows_of, stack
from zipasr.search.components import DecodingResources, ModelParts
from zipasr.search.config import DecodingConfig
from zipasr.search.methods import METHODS
from zipasr.search.registry import build_search
from zipasr.search.scorers import ContextGraph

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
