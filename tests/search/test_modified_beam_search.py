import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.search.greedy import GreedySearch
from zipasr.search.modified_beam_search import ModifiedBeamSearch, advance, start_beams
from zipasr.search.transducer_step import TransducerSteps

from . import golden
from .tiny import Loops, assert_same, tiny_batch, tiny_steps

lens_lists = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@pytest.mark.parametrize("run", golden.runs("modified_beam_search"), ids=lambda run: run["id"])
def test_reference_results(run):
    options, lens = run["options"], golden.arrays()["lens"]
    scorer = golden.hot_words(options, strict=False)
    search = ModifiedBeamSearch(golden.steps(options), options["beam"], scorer)
    start = search.start(len(lens), lens.device)
    state = search.advance(start, golden.arrays()["encoder_out"], lens)
    golden.check(search.results(state), run)
    for hypotheses, num, stable in zip(
        search.hypotheses(state), run["num_hyps"], run["stable"], strict=True
    ):
        assert len(hypotheses) == num or not stable


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1000),
    lens=lens_lists,
    beam_size=st.integers(1, 12),
    context_size=st.integers(1, 3),
    blank_penalty=st.sampled_from([0.0, 1.5]),
    temperature=st.sampled_from([1.0, 1.7]),
)
def test_batch_equals_the_definition_one_by_one(
    seed, lens, beam_size, context_size, blank_penalty, temperature
):
    steps = tiny_steps(
        seed, context_size=context_size, blank_penalty=blank_penalty, temperature=temperature
    )
    frames, lengths = tiny_batch(seed, lens)
    got = ModifiedBeamSearch(steps, beam_size=beam_size)(frames, lengths)
    loops = Loops(steps)
    want = [loops.beam(frames[n, :num], beam_size) for n, num in enumerate(lens)]
    assert_same(got, want)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), lens=lens_lists, temperature=st.sampled_from([1.0, 2.5]))
def test_beam_of_one_is_greedy_with_one_symbol_per_frame(seed, lens, temperature):
    steps = tiny_steps(seed, temperature=temperature)
    frames, lengths = tiny_batch(seed, lens)
    assert_same(
        ModifiedBeamSearch(steps, beam_size=1)(frames, lengths),
        GreedySearch(steps, max_sym_per_frame=1)(frames, lengths),
    )


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), vocab_size=st.integers(2, 4), num_frames=st.integers(1, 3))
def test_beam_of_everything_is_enumeration(seed, vocab_size, num_frames):
    steps = tiny_steps(seed, vocab_size=vocab_size, blank_bias=0.0)
    frames, lens = tiny_batch(seed, [num_frames])
    (got,) = ModifiedBeamSearch(steps, beam_size=vocab_size**num_frames)(frames, lens)
    want = Loops(steps).enumerate(frames[0])
    assert got.tokens == want.tokens
    assert abs(got.log_prob - want.log_prob) < 1e-5


def test_probabilities_of_everything_add_up_to_one():
    steps = tiny_steps(3, vocab_size=3, blank_bias=0.0)
    frames, _ = tiny_batch(3, [4, 4])
    beams = start_beams(2, 3**4, steps, frames.device)
    for frame in range(4):
        with torch.no_grad():
            beams, _, _ = advance(beams, steps.project(frames)[:, frame], steps)
        torch.testing.assert_close(beams.log_probs.logsumexp(-1), torch.zeros(2), atol=1e-5, rtol=0)
        num_sequences = sum(2**length for length in range(frame + 2))
        assert beams.log_probs.isfinite().sum(-1).tolist() == [num_sequences] * 2 or frame == 0


def test_beam_wider_than_the_first_frame_offers():
    steps = tiny_steps(1, vocab_size=3)
    frames, lens = tiny_batch(1, [5, 2])
    got = ModifiedBeamSearch(steps, beam_size=50)(frames, lens)
    loops = Loops(steps)
    assert_same(got, [loops.beam(frames[0], 50), loops.beam(frames[1, :2], 50)])


def test_empty_utterance_and_empty_batch():
    steps = tiny_steps(0)
    frames, _ = tiny_batch(0, [3, 3])
    first, second = ModifiedBeamSearch(steps)(frames, torch.tensor([0, 3]))
    assert (first.tokens, first.frames, first.log_prob) == ([], [], 0.0)
    assert_same([second], ModifiedBeamSearch(steps)(frames[1:], torch.tensor([3])))
    assert ModifiedBeamSearch(steps)(frames[:0], torch.tensor([], dtype=torch.int64)) == []


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("search", [GreedySearch, ModifiedBeamSearch])
@pytest.mark.parametrize("lens_device", ["cpu", "cuda"])
def test_gpu_equals_cpu(search, lens_device):
    lens, frames = golden.arrays()["lens"], golden.arrays()["encoder_out"]
    want = search(TransducerSteps(*golden.transducer()))(frames, lens)
    on_gpu = TransducerSteps(*(copy.deepcopy(part).cuda() for part in golden.transducer()))
    assert_same(search(on_gpu)(frames.cuda(), lens.to(lens_device)), want, tolerance=1e-3)
