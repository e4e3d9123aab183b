"""Searches over words, against all sentences written down."""

import json
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lm.backoff_graph import BackoffGraph, log_sum, models
from zipasr.lm.ngram_file import open_ngrams
from zipasr.search.fast_beam_search import FastBeamSearch, FastLattice
from zipasr.search.graph_search import (
    CtcAcousticScorer,
    GraphLimits,
    TransducerAcousticScorer,
    graph_search,
)
from zipasr.search.lexicon_graph import word_graph
from zipasr.search.rescoring import BestPath, Nbest, WholeLattice, ngram_scorer

from . import golden
from .tiny import assert_same, tiny_batch, tiny_steps
from .words import GRAMMAR, LEXICON, OTHER, by_sentence, ctc_sentences, with_grammar

GRAMMAR_WORDS = frozenset({"a", "b", "ab", "cab"})
WORDS_OF_K2 = json.loads((golden.FOLDER / "words.json").read_text())
EVERYTHING = GraphLimits(1e4, 100000)


def ctc_lattice(graph, limits=EVERYTHING):
    return lambda frames, lens: graph_search(CtcAcousticScorer(frames, lens), graph, limits)


def ctc_batch(seed, lens, vocab_size=4):
    noise = torch.randn(len(lens), max(lens), vocab_size, generator=torch.manual_seed(seed))
    return (2 * noise).log_softmax(-1), torch.tensor(lens)


def best_of(sentences, which):
    return max(sentences.items(), key=lambda item: getattr(item[1], which))


@settings(max_examples=10)
@given(seed=st.integers(0, 1000), num=st.integers(1, 5), scale=st.sampled_from([0.0, 0.6, 2.0]))
def test_of_everything_the_best_sentence_is_that_of_enumeration(seed, num, scale):
    log_probs, lens = ctc_batch(seed, [num])
    spoken = ctc_sentences(log_probs[0])
    want = with_grammar(spoken, GRAMMAR, scale)
    graph = word_graph(LEXICON, GRAMMAR, scale, exact_backoff=True)

    (got,) = BestPath(ctc_lattice(graph), graph.words)(log_probs, lens)
    assert got.log_prob == pytest.approx(best_of(want, "best")[1].best, abs=1e-5)
    assert want[got.words].best == pytest.approx(got.log_prob, abs=1e-5)

    nbest = Nbest(ctc_lattice(graph), 3000, 0.3, graph.words)
    (found,) = nbest.search(log_probs, lens)
    assert len({one.words for one in found}) == len(found)
    for one in found:
        assert one.log_prob == pytest.approx(want[one.words].total, abs=1e-5)
    assert found[0].log_prob == pytest.approx(best_of(want, "total")[1].total, abs=1e-5)
    for one in nbest.by_sound(log_probs, lens)[0]:
        assert one.log_prob == pytest.approx(spoken[one.words].total, abs=1e-5)


@settings(max_examples=10)
@given(seed=st.integers(0, 1000), num=st.integers(1, 4))
def test_the_whole_lattice_under_another_grammar(seed, num):
    log_probs, lens = ctc_batch(seed, [num])
    spoken, scales = ctc_sentences(log_probs[0]), (0.2, 0.7, 1.5)
    graph = word_graph(LEXICON, GRAMMAR, 0.6, exact_backoff=True)
    other = word_graph(LEXICON, OTHER, exact_backoff=True)
    (found,) = WholeLattice(ctc_lattice(graph), other, scales).by_sound(log_probs, lens)
    for one in found:
        assert one.log_prob == pytest.approx(spoken[one.words].best, abs=1e-5)
    for scale in scales:
        want = best_of(with_grammar(spoken, OTHER, scale), "best")[1].best
        got = max(one.log_prob + scale * OTHER.sentence(one.words) for one in found)
        assert got == pytest.approx(want, abs=1e-5)


@settings(max_examples=15)
@given(
    seed=st.integers(0, 1000),
    num=st.integers(1, 4),
    scale=st.sampled_from([0.6, 2.0]),
    grammar=models(sorted(GRAMMAR_WORDS)),
    other=models(sorted(GRAMMAR_WORDS)),
)
def test_with_back_off_arcs_all_is_that_of_the_graph_written_down(seed, num, scale, grammar, other):
    log_probs, lens = ctc_batch(seed, [num])
    lexicon = [(word, tokens) for word, tokens in LEXICON if word in GRAMMAR_WORDS]
    arcs, other_arcs = BackoffGraph(grammar), BackoffGraph(other)
    spoken = {
        words: one
        for words, one in ctc_sentences(log_probs[0]).items()
        if GRAMMAR_WORDS.issuperset(words)
    }
    graph, large = word_graph(lexicon, grammar, scale), word_graph(lexicon, other)

    (got,) = BestPath(ctc_lattice(graph), graph.words)(log_probs, lens)
    want = {words: one.best + scale * arcs.best(words) for words, one in spoken.items()}
    assert got.log_prob == pytest.approx(max(want.values()), abs=1e-5)
    assert want[got.words] == pytest.approx(got.log_prob, abs=1e-5)

    nbest = Nbest(ctc_lattice(graph), 500, 0.3, graph.words)
    (found,) = nbest.search(log_probs, lens)
    for one in found:
        # Each alignment with each path of the grammar to its last word, and the best end there.
        paths = [scale * (s + arcs.best_end(last)) for s, last in arcs.paths(one.words)]
        total = spoken[one.words].total + log_sum(paths)
        assert one.log_prob == pytest.approx(total, abs=1e-5)
    (alone,) = nbest.by_sound(log_probs, lens)
    assert {one.words for one in alone} == {one.words for one in found}
    for one in alone:
        assert one.log_prob == pytest.approx(spoken[one.words].total, abs=1e-5)
    (judged,) = ngram_scorer(large)(log_probs, lens, [alone])
    assert judged == pytest.approx([other_arcs.best(one.words) for one in alone], abs=1e-9)

    (whole,) = WholeLattice(ctc_lattice(graph), large, (0.3, 1.2)).by_sound(log_probs, lens)
    for weight in (0.3, 1.2):
        values = [one.log_prob + weight * other_arcs.best(one.words) for one in whole]
        want = {words: one.best + weight * other_arcs.best(words) for words, one in spoken.items()}
        assert max(values) == pytest.approx(max(want.values()), abs=1e-5)


@settings(max_examples=6)
@given(seed=st.integers(0, 1000), num=st.integers(1, 4), context_size=st.integers(1, 2))
@torch.no_grad()
def test_a_transducer_over_words_adds_up_the_alignments_of_a_sentence(seed, num, context_size):
    steps = tiny_steps(seed, 4, context_size, blank_bias=0.0)
    frames, lens = tiny_batch(seed, [num])
    projected, alignments = steps.project(frames)[0], []
    for path in product(range(4), repeat=num - 1):
        context, total = [0] * context_size, 0.0
        for frame, symbol in zip(projected, path, strict=False):
            prediction = steps.predict(torch.tensor([context]))
            total += steps.next_scores(frame[None], prediction)[0, symbol].item()
            context = [*context, symbol][-context_size:] if symbol else context
        alignments.append((tuple(symbol for symbol in path if symbol), total))
    want = with_grammar(by_sentence(alignments), GRAMMAR, 0.4)
    graph = word_graph(LEXICON, GRAMMAR, 0.4, exact_backoff=True)

    def lattice(frames, lens):
        return graph_search(TransducerAcousticScorer(steps, frames, lens), graph, EVERYTHING)

    (found,) = Nbest(lattice, 2000, 0.2, graph.words).search(frames, lens)
    for one in found:
        assert one.log_prob == pytest.approx(want[one.words].total, abs=1e-4)
    assert found[0].log_prob == pytest.approx(best_of(want, "total")[1].total, abs=1e-4)


@pytest.mark.parametrize("case", WORDS_OF_K2, ids=range(len(WORDS_OF_K2)))
def test_best_paths_are_those_of_k2(case, tmp_path):
    (tmp_path / "g.arpa").write_text(case["arpa"])
    grammar, log_probs = open_ngrams(tmp_path / "g.arpa"), torch.tensor(case["log_probs"])
    graphs = [word_graph(case["lexicon"], grammar, 0.6, exact_backoff=one) for one in (False, True)]
    best, exact = (
        BestPath(ctc_lattice(graph), graph.words)(log_probs, torch.tensor(case["lens"]))
        for graph in graphs
    )
    assert [list(one.words) for one in best] == case["words"]
    assert [one.log_prob for one in best] == pytest.approx(case["scores"], abs=1e-4)
    assert [list(one.words) for one in exact] != case["words"]


@settings(max_examples=8)
@given(seed=st.integers(0, 1000), lens=st.lists(st.integers(0, 8), min_size=1, max_size=3))
def test_where_every_token_is_a_word_the_transducer_is_free(seed, lens):
    steps = tiny_steps(seed)
    frames, lengths = tiny_batch(seed, lens)
    graph = word_graph([(str(token), [token]) for token in range(1, 7)])

    def lattice(frames, lens):
        return graph_search(TransducerAcousticScorer(steps, frames, lens), graph, EVERYTHING)

    free = FastLattice(FastBeamSearch(steps, 1e4, 10000, 100, allow_partial=True))
    got = BestPath(lattice, graph.words)(frames, lengths)
    for one, other in zip(got, BestPath(free)(frames, lengths), strict=True):
        assert (one.tokens, one.frames) == (other.tokens, other.frames)
        assert one.log_prob == pytest.approx(other.log_prob, abs=1e-4)
        assert one.words == tuple(map(str, one.tokens))


@settings(max_examples=10)
@given(
    seed=st.integers(0, 1000),
    lens=st.lists(st.integers(0, 9), min_size=1, max_size=4),
    beam=st.sampled_from([3.0, 8.0]),
    max_states=st.integers(1, 12),
    max_memories=st.sampled_from([None, 1, 3]),
)
def test_batch_equals_one_by_one_within_limits(seed, lens, beam, max_states, max_memories):
    graph = word_graph(LEXICON, GRAMMAR, 0.6)
    limits = GraphLimits(beam, max_states, max_memories)
    other = word_graph(LEXICON, OTHER)
    log_probs, lengths = ctc_batch(seed, [*lens, 9])
    steps = tiny_steps(seed, 4)
    frames, _ = tiny_batch(seed, [*lens, 9])

    def transducer(frames, lens):
        return graph_search(TransducerAcousticScorer(steps, frames, lens), graph, limits)

    ctc = ctc_lattice(graph, limits)
    searches = (
        (BestPath(ctc, graph.words), log_probs, lambda one: [one]),
        (Nbest(ctc, 10, 0.7, graph.words).search, log_probs, lambda one: one),
        (Nbest(transducer, 10, 0.7, graph.words).search, frames, lambda one: one),
        (WholeLattice(ctc, other, (0.3, 1.0)).by_sound, log_probs, lambda one: one),
    )
    for search, given_frames, many in searches:
        got = search(given_frames, lengths)
        for row, num in enumerate(lengths.tolist()):
            (alone,) = search(given_frames[row : row + 1, :num], lengths[row : row + 1])
            assert_same(many(got[row]), many(alone))
            assert [one.words for one in many(got[row])] == [one.words for one in many(alone)]
    sizes = ctc(log_probs, lengths)
    for frame in range(1, sizes.num_frames + 1):
        there = sizes.owners[slice(*sizes.state_splits[frame : frame + 2])]
        assert not len(there) or int(there.bincount().max()) <= max_states


@settings(max_examples=20)
@given(
    seed=st.integers(0, 1000),
    lens=st.lists(st.integers(0, 45), min_size=1, max_size=4),
    output_beam=st.sampled_from([0.0, 1.0, 4.0]),
    max_states=st.sampled_from([5, 1000]),
)
def test_what_is_dropped_early_is_what_would_be_dropped_at_last(
    seed, lens, output_beam, max_states
):
    graph = word_graph(LEXICON, GRAMMAR, 0.6)
    log_probs, lengths = ctc_batch(seed, lens)
    whole = ctc_lattice(graph, GraphLimits(8.0, max_states))(log_probs, lengths)
    wanted = whole.within(output_beam)
    got = ctc_lattice(graph, GraphLimits(8.0, max_states, output_beam=output_beam))(
        log_probs, lengths
    )
    assert got.arc_splits == wanted.arc_splits
    for name in ("tokens", "words", "sound", "grammar"):
        assert torch.equal(getattr(got, name), getattr(wanted, name)), name
    for place in ("sources", "targets"):
        mine, theirs = getattr(got, place), getattr(wanted, place)
        assert torch.equal(got.owners[mine], wanted.owners[theirs])
        assert torch.equal(got.ends[mine], wanted.ends[theirs])
        assert torch.equal(got.alike[mine], wanted.alike[theirs])
        # Numbers differ by the states that are gone, which were in the same order.
        assert torch.equal(*(x.unique(return_inverse=True)[1] for x in (mine, theirs)))
    if max(lens) > 20:
        assert len(got.owners) < len(whole.owners)


def test_where_no_word_ends_the_unfinished_one_is_left_out():
    # "cab" is begun at the end, and nothing else is likely.
    symbols = torch.tensor([1, 0, 3])
    log_probs = torch.full((1, 3, 4), -50.0)
    log_probs[0, torch.arange(3), symbols] = 0.0
    graph = word_graph([("a", [1]), ("cab", [3, 1])], GRAMMAR, 1.0)
    lattice = ctc_lattice(graph, GraphLimits(10.0, 10))
    (got,) = BestPath(lattice, graph.words)(log_probs, torch.tensor([3]))
    assert (got.words, got.tokens, got.frames) == (("a",), [1], [0])
    ((one,),) = Nbest(lattice, 5, 1.0, graph.words).search(log_probs, torch.tensor([3]))
    assert (one.words, one.tokens) == (("a",), [1])
    (few,) = BestPath(lattice, graph.words)(log_probs[:, 2:], torch.tensor([1]))
    assert (few.words, few.tokens) == ((), [])


def test_a_word_without_tokens_is_refused():
    with pytest.raises(ValueError, match="word 0 has no tokens"):
        word_graph([("x", [])])


def test_an_empty_batch():
    graph = word_graph(LEXICON, GRAMMAR)
    none, lens = torch.zeros(0, 3, 4), torch.zeros(0, dtype=torch.int64)
    assert BestPath(ctc_lattice(graph), graph.words)(none, lens) == []
    assert Nbest(ctc_lattice(graph), 3, 1.0, graph.words).search(none, lens) == []
