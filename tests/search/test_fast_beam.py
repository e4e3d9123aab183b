from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.search.fast_beam_search import FastBeamSearch

from . import golden
from .tiny import assert_same, tiny_batch, tiny_steps

# No flag subtracts a language model inside the transducer.
RUNS = [run for run in golden.runs("fast_beam_search_one_best") if not run["options"]["ilme_scale"]]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run["id"])
def test_reference_results(run):
    options, lens = run["options"], golden.arrays()["lens"]
    search = FastBeamSearch(
        golden.steps(options),
        options["beam"],
        options["max_states"],
        options["max_contexts"],
        options["allow_partial"],
    )
    # Without limits the long utterances take half a minute.
    rows = [n for n, num in enumerate(lens) if options["max_contexts"] < 100 or num < 10]
    start = search.start(len(rows), lens.device)
    frames = golden.arrays()[options["input"]]
    found = search.results(search.advance(start, frames[rows], lens[rows]))
    names = ("hyps", "timestamps", "stable", "log_probs")
    golden.check(found, {name: [run[name][n] for n in rows] for name in names})


@settings(max_examples=12)
@given(
    seed=st.integers(0, 1000),
    vocab_size=st.integers(2, 4),
    num_frames=st.integers(1, 4),
    context_size=st.integers(1, 3),
)
def test_without_limits_it_is_the_best_alignment(seed, vocab_size, num_frames, context_size):
    steps = tiny_steps(seed, vocab_size, context_size, blank_bias=0.0)
    frames, lens = tiny_batch(seed, [num_frames])
    (got,) = FastBeamSearch(steps, beam=1e4, max_states=10000, max_contexts=200)(frames, lens)
    projected = steps.project(frames)[0]
    best = -1e30
    with torch.no_grad():
        # The last frame takes no token and adds no score.
        for path in product(range(vocab_size), repeat=num_frames - 1):
            context, total = [0] * context_size, 0.0
            for frame, symbol in zip(projected, path, strict=False):
                prediction = steps.predict(torch.tensor([context]))
                total += steps.next_scores(frame[None], prediction)[0, symbol].item()
                context = [*context, symbol][-context_size:] if symbol else context
            if total > best:
                best, tokens = total, [symbol for symbol in path if symbol]
                times = [t for t, symbol in enumerate(path) if symbol]
    assert (got.tokens, got.frames) == (tokens, times)
    assert abs(got.log_prob - best) < 1e-4


@settings(max_examples=15)
@given(
    seed=st.integers(0, 1000),
    lens=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    beam=st.sampled_from([2.0, 6.0, 20.0]),
    max_states=st.integers(2, 9),
    max_contexts=st.integers(1, 6),
    context_size=st.integers(1, 3),
)
def test_batch_equals_one_by_one(seed, lens, beam, max_states, max_contexts, context_size):
    steps = tiny_steps(seed, context_size=context_size)
    frames, lengths = tiny_batch(seed, lens)
    limits = {"beam": beam, "max_states": max_states, "max_contexts": max_contexts}
    settings = {"steps": steps, "allow_partial": True, **limits}
    got = FastBeamSearch(**settings)(frames, lengths)
    want = [
        FastBeamSearch(**settings)(frames[n : n + 1, :num], lengths[n : n + 1])[0]
        for n, num in enumerate(lens)
    ]
    assert_same(got, want)


def test_empty_utterance_and_empty_batch():
    steps = tiny_steps(0)
    frames, _ = tiny_batch(0, [3, 3])
    first, _ = FastBeamSearch(steps)(frames, torch.tensor([0, 3]))
    assert (first.tokens, first.frames, first.log_prob) == ([], [], 0.0)
    assert FastBeamSearch(steps)(frames[:0], torch.tensor([], dtype=torch.int64)) == []
