import math

import pytest
import torch

from zipasr.search.beam_search import MAX_TAKEN_PER_FRAME, beam_search, beam_search_nbest
from zipasr.search.modified_beam_search import ModifiedBeamSearch

from . import golden
from .tiny import Loops, log_add, tiny_batch, tiny_steps


@pytest.mark.parametrize("run", golden.runs("beam_search"), ids=lambda run: run["id"])
def test_reference_results(run):
    options = run["options"]
    lens = golden.arrays()["lens"].clamp(max=options["max_frames"])
    # What did not end is not stored, and takes long here, too.
    ended = [n for n, hyp in enumerate(run["hyps"]) if hyp is not None]
    nbest = beam_search_nbest(
        golden.arrays()["encoder_out"][ended], lens[ended], golden.steps(options), options["beam"]
    )
    names = ("hyps", "timestamps", "num_hyps", "stable", "log_probs")
    some = {name: [run[name][n] for n in ended] for name in names}
    golden.check([hypotheses[0] for hypotheses in nbest], some)
    assert [len(hypotheses) for hypotheses in nbest] == some["num_hyps"]


def test_a_context_that_predicts_itself_for_ever_is_stopped():
    steps = tiny_steps(0, blank_bias=-1000.0)
    frames, lens = tiny_batch(0, [1])
    (utterance,) = beam_search(frames, lens, steps=steps, beam_size=2)
    assert len(utterance.tokens) < MAX_TAKEN_PER_FRAME


def test_where_blank_is_sure_all_searches_agree():
    steps = tiny_steps(3, blank_bias=40.0)
    frames, lens = tiny_batch(3, [5, 2])
    assert [u.tokens for u in beam_search(frames, lens, steps=steps)] == [[], []]
    assert [u.tokens for u in ModifiedBeamSearch(steps)(frames, lens)] == [[], []]


def test_a_wide_beam_adds_up_the_alignments_of_short_sequences():
    """Two frames: all ways to no token and to one token, each frame any number of tokens."""
    steps = tiny_steps(5, vocab_size=3, blank_bias=3.0)
    frames, lens = tiny_batch(5, [2])
    (nbest,) = beam_search_nbest(frames, lens, steps, 12)
    loops = Loops(steps)
    found = {tuple(one.tokens): one.log_prob for one in nbest}
    none = [loops.scores(frame, ()) for frame in frames[0]]
    assert abs(found[()] - (none[0][0] + none[1][0])) < 1e-4
    for token in (1, 2):
        after = [loops.scores(frame, (token,)) for frame in frames[0]]
        first = none[0][token] + after[0][0] + after[1][0]
        second = none[0][0] + none[1][token] + after[1][0]
        assert abs(found[token,] - log_add(first, second)) < 1e-4
    assert sum(math.exp(value) for value in found.values()) <= 1 + 1e-6


def test_empty_utterance():
    frames, _ = tiny_batch(0, [3])
    (utterance,) = beam_search(frames, torch.tensor([0]), steps=tiny_steps(0))
    assert (utterance.tokens, utterance.log_prob) == ([], 0.0)
