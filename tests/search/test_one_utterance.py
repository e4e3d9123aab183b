"""Searches of one utterance keep their books otherwise, and find what a batch finds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from zipasr.model.decoder import CachedDecoder
from zipasr.model.joiner import PreparedJoiner
from zipasr.search import transducer_step
from zipasr.search.batched_state import rows_of, stack
from zipasr.search.beam_state import extend_fingerprints, fingerprint_of
from zipasr.search.components import DecodingResources, MethodInputs, ModelParts
from zipasr.search.config import DecodingConfig
from zipasr.search.greedy import GreedySearch
from zipasr.search.methods import method_of
from zipasr.search.modified_beam_search import ModifiedBeamSearch
from zipasr.search.protocol import Search
from zipasr.search.transducer_step import TransducerSteps

from .tiny import assert_same, tiny_batch, tiny_steps

KINDS = {
    "greedy": lambda steps: GreedySearch(steps, max_sym_per_frame=2),
    "beam": lambda steps: ModifiedBeamSearch(steps, beam_size=4),
}


def inputs(parts: ModelParts) -> MethodInputs:
    config = DecodingConfig()
    return MethodInputs(method_of(config.decoding_method), config, parts, DecodingResources())


def in_batch(search: Search[Any], frames: Tensor, num: int) -> Any:
    """Search beside an empty utterance, so that the code for batches runs."""
    both = search.start(2, frames.device)
    frames = torch.cat([frames, torch.zeros_like(frames)])
    return rows_of(search.advance(both, frames, torch.tensor([num, 0])), [0])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), num=st.integers(0, 25), context_size=st.integers(1, 3))
def test_one_utterance_is_a_batch_of_one(kind: str, seed: int, num: int, context_size: int) -> None:
    search = KINDS[kind](tiny_steps(seed, context_size=context_size))
    frames, lens = tiny_batch(seed, [max(num, 1)])
    state = search.advance(search.start(1, frames.device), frames, lens.clamp(max=num))
    other = in_batch(search, frames, num)
    assert_same(search.results(state), search.results(other))
    for mine, theirs in zip(search.hypotheses(state), search.hypotheses(other), strict=True):
        assert_same(mine, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_streams_go_on_alone_or_together(kind: str) -> None:
    search = KINDS[kind](tiny_steps(3))
    frames, lens = tiny_batch(3, [12, 12])
    expected = search(frames, lens)
    parts = [search.start(1, frames.device) for _ in lens]
    five = torch.tensor([5])
    parts = [search.advance(one, frames[n : n + 1, :5], five) for n, one in enumerate(parts)]
    together = search.advance(stack(parts), frames[:, 5:9], torch.tensor([4, 4]))
    ends = [
        search.advance(rows_of(together, [n]), frames[n : n + 1, 9:], torch.tensor([3]))
        for n in (0, 1)
    ]
    assert_same([search.results(one)[0] for one in ends], expected)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=8))
def test_fingerprints_of_numbers_are_those_of_tensors(tokens: list[int]) -> None:
    one, many = 0, torch.zeros(1, dtype=torch.int64)
    for token in tokens:
        one, many = fingerprint_of(one, token), extend_fingerprints(many, torch.tensor([token]))
    assert one == int(many)


class Counted:
    """A decoder in a table that counts the contexts it is asked about."""

    def __init__(self, decoder: CachedDecoder) -> None:
        self.decoder, self.asked = decoder, []
        self.blank_id, self.context_size = decoder.blank_id, decoder.context_size

    def __call__(self, y: Tensor, need_pad: bool) -> Tensor:
        self.asked += map(tuple, y.tolist())
        return self.decoder(y, need_pad)


def counted_steps(seed: int) -> tuple[TransducerSteps, Counted]:
    plain = tiny_steps(seed)
    decoder = Counted(CachedDecoder(plain.decoder))
    parts = ModelParts(decoder, PreparedJoiner(plain.joiner))
    return inputs(parts).transducer(), decoder


@pytest.mark.parametrize("kind", KINDS)
def test_a_context_is_predicted_once(kind: str) -> None:
    steps, decoder = counted_steps(5)
    search = KINDS[kind](steps)
    frames, lens = tiny_batch(5, [60])
    expected = KINDS[kind](tiny_steps(5))(frames, lens)
    assert_same(search(frames, lens), expected)
    start = search.start(1, frames.device)
    again = list(decoder.asked)
    assert_same(search.results(search.advance(start, frames, lens)), expected)
    assert decoder.asked == again  # nothing new in the second run
    taken = [context for context in decoder.asked if -1 not in context]
    assert len(taken) == len({*taken})


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transducer_step, "_MOST_REMEMBERED", 3)
    steps, _ = counted_steps(5)
    frames, lens = tiny_batch(5, [60])
    expected = ModifiedBeamSearch(replace(steps, memory=None))(frames, lens)
    assert_same(ModifiedBeamSearch(steps)(frames, lens), expected)
    assert steps.memory is not None
    assert len(steps.memory) <= 3 + 4


def test_a_decoder_that_may_learn_is_asked_each_time() -> None:
    plain = tiny_steps(0)
    assert inputs(ModelParts(plain.decoder, plain.joiner)).transducer().memory is None


def test_the_prepared_joiner_has_the_gain_in_its_weights() -> None:
    joiner = tiny_steps(0).joiner
    joiner.gain = 3.0
    frames, predictions = torch.randn(2, 4, 5).unbind(0)
    found = PreparedJoiner(joiner)(frames, predictions)
    torch.testing.assert_close(found, joiner(frames, predictions, project_input=False))
