import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.search.greedy import GreedySearch
from zipasr.search.transducer_step import TransducerSteps

from . import golden
from .tiny import Loops, assert_same, tiny_batch, tiny_steps


@pytest.mark.parametrize(
    "run",
    golden.runs("greedy_search") + golden.runs("greedy_search_batch"),
    ids=lambda run: run["id"],
)
def test_reference_results(run):
    steps = TransducerSteps(*golden.transducer(), blank_penalty=run["options"]["blank_penalty"])
    search = GreedySearch(steps, run["options"].get("max_sym_per_frame", 1))
    golden.check(search(golden.arrays()["encoder_out"], golden.arrays()["lens"]), run)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1000),
    lens=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    max_sym_per_frame=st.integers(1, 4),
    context_size=st.integers(1, 3),
    blank_penalty=st.sampled_from([0.0, 1.5]),
    temperature=st.sampled_from([1.0, 1.7]),
)
def test_batch_equals_the_definition_one_by_one(
    seed, lens, max_sym_per_frame, context_size, blank_penalty, temperature
):
    steps = tiny_steps(
        seed, context_size=context_size, blank_penalty=blank_penalty, temperature=temperature
    )
    frames, lengths = tiny_batch(seed, lens)
    got = GreedySearch(steps, max_sym_per_frame=max_sym_per_frame)(frames, lengths)
    loops = Loops(steps)
    want = [loops.greedy(frames[n, :num], max_sym_per_frame) for n, num in enumerate(lens)]
    assert_same(got, want)


def test_a_frame_that_always_emits_stops_at_the_limit():
    steps = tiny_steps(0, blank_bias=-1000.0)
    frames, lens = tiny_batch(0, [4])
    (utterance,) = GreedySearch(steps, max_sym_per_frame=3)(frames, lens)
    assert utterance.frames == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_long_utterances_are_not_cut_off():
    """The published one-by-one search stops at 1000 tokens without a word."""
    frames, lens = tiny_batch(0, [1100])
    (utterance,) = GreedySearch(tiny_steps(0, blank_bias=-1000.0))(frames, lens)
    assert len(utterance.tokens) == 1100


def test_empty_utterance_and_empty_batch():
    steps = tiny_steps(0)
    frames, _ = tiny_batch(0, [3, 3])
    first, second = GreedySearch(steps)(frames, torch.tensor([0, 3]))
    assert (first.tokens, first.frames, first.log_prob) == ([], [], 0.0)
    assert_same([second], GreedySearch(steps)(frames[1:], torch.tensor([3])))
    assert GreedySearch(steps)(frames[:0], torch.tensor([], dtype=torch.int64)) == []


def test_needs_no_gradient():
    steps = tiny_steps(0)
    frames, lens = tiny_batch(0, [3])
    GreedySearch(steps)(frames.requires_grad_(), lens)
    assert frames.grad is None
