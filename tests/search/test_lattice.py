"""Lattices of the fast beam search: what is drawn from them and added up, against enumeration."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.search.fast_beam_search import FastBeamSearch, FastLattice
from zipasr.search.rescoring import BestPath, Nbest

from .tiny import assert_same, log_add, tiny_batch, tiny_steps

WIDE = {"beam": 1e4, "max_states": 10000, "max_contexts": 200, "allow_partial": True}


def enumerated(steps, frames):
    """Sum over all alignments of each token sequence; the last frame takes none."""
    vocab_size, totals = steps.joiner.output_linear.out_features, {}
    projected = steps.project(frames)
    for path in product(range(vocab_size), repeat=len(frames) - 1):
        context, total = [0] * steps.context_size, 0.0
        for frame, symbol in zip(projected, path, strict=False):
            prediction = steps.predict(torch.tensor([context]))
            total += steps.next_scores(frame[None], prediction)[0, symbol].item()
            context = [*context, symbol][-steps.context_size :] if symbol else context
        tokens = tuple(symbol for symbol in path if symbol)
        totals[tokens] = log_add(totals.get(tokens, -math.inf), total)
    return totals


@settings(max_examples=8)
@given(seed=st.integers(0, 1000), num_frames=st.integers(1, 4), context_size=st.integers(1, 2))
@torch.no_grad()
def test_of_everything_each_sequence_has_the_sum_of_its_alignments(seed, num_frames, context_size):
    steps = tiny_steps(seed, 3, context_size, blank_bias=0.0)
    frames, lens = tiny_batch(seed, [num_frames])
    want = enumerated(steps, frames[0])
    search = Nbest(FastLattice(FastBeamSearch(steps, **WIDE)), 2000, 0.2)
    (got,) = search.search(frames, lens)
    assert got[0].log_prob == max(one.log_prob for one in got)
    assert len({tuple(one.tokens) for one in got}) == len(got) <= len(want)
    for one in got:
        assert one.log_prob == pytest.approx(want[tuple(one.tokens)], abs=1e-4)
    assert tuple(got[0].tokens) == max(want, key=want.get)


@settings(max_examples=12)
@given(
    seed=st.integers(0, 1000),
    lens=st.lists(st.integers(0, 9), min_size=1, max_size=4),
    beam=st.sampled_from([2.0, 6.0, 20.0]),
    max_states=st.integers(2, 9),
    max_contexts=st.integers(1, 6),
)
def test_the_best_path_is_what_the_search_finds_and_a_batch_is_one_by_one(
    seed, lens, beam, max_states, max_contexts
):
    frames, lengths = tiny_batch(seed, lens)
    search = FastBeamSearch(tiny_steps(seed), beam, max_states, max_contexts, allow_partial=True)
    start = search.start(len(lens), frames.device)
    want = search.results(search.advance(start, frames, lengths))
    assert_same(BestPath(FastLattice(search))(frames, lengths), want)
    nbest = Nbest(FastLattice(search), 20, 0.5)
    got = nbest.search(frames, lengths)
    for row, num in enumerate(lens):
        (alone,) = nbest.search(frames[row : row + 1, :num], lengths[row : row + 1])
        assert_same(got[row], alone)
        assert want[row].tokens in [one.tokens for one in alone]


def test_the_scale_and_the_number_of_paths_count():
    frames, lens = tiny_batch(3, [12, 9])
    lattice = FastLattice(FastBeamSearch(tiny_steps(3), allow_partial=True))
    counts = {
        (num, scale): [len(one) for one in Nbest(lattice, num, scale).search(frames, lens)]
        for num, scale in ((1, 0.5), (100, 1.0), (100, 0.1))
    }
    assert counts[1, 0.5] == [1, 1]
    assert all(1 < a < b for a, b in zip(counts[100, 1.0], counts[100, 0.1], strict=True))


def test_paths_are_drawn_in_proportion():
    steps = tiny_steps(5, 3, blank_bias=0.0)
    frames, lens = tiny_batch(5, [4])
    lattice = FastLattice(FastBeamSearch(steps, **WIDE))(frames, lens)
    from zipasr.search.lattice import random_paths

    paths = random_paths(lattice, 20001, 0.5)[0, 1:]
    scores = 0.5 * lattice.scores[paths].sum(dim=1)
    total = lattice.departures(0.5 * lattice.scores, 0.5 * lattice.ends, summed=True)[0]
    found, counts = torch.unique(paths, dim=0, return_counts=True)
    for path, count in zip(found, counts.tolist(), strict=True):
        chance = math.exp(0.5 * lattice.scores[path].sum().item() - total.item())
        spread = math.sqrt(20000 * chance * (1 - chance))
        assert abs(count - 20000 * chance) < 5 * spread + 1
    assert scores.isfinite().all()


def test_what_is_far_from_the_best_path_goes():
    frames, lens = tiny_batch(1, [9, 6])
    lattice = FastLattice(FastBeamSearch(tiny_steps(1), allow_partial=True))(frames, lens)
    few = lattice.within(1.0)
    assert len(few.sources) < len(lattice.sources)
    assert BestPath(lambda *_: few)(frames, lens) == BestPath(lambda *_: lattice)(frames, lens)
    assert len(lattice.within(1e9).sources) <= len(lattice.sources)
