import math

import pytest

from tests.lm.backoff_graph import BackoffGraph
from zipasr.base.errors import UserError
from zipasr.search.beam_search import beam_search, modified_beam_search
from zipasr.search.components import DecodingResources, ModelParts, Vocabulary
from zipasr.search.config import DecodingConfig, LatticeConfig
from zipasr.search.ctc import CtcHead, ctc_greedy_search
from zipasr.search.ctc_prefix import CtcPrefixBeamSearch, ctc_prefix_beam_search
from zipasr.search.fast_beam_search import FastBeamSearch, FastLattice, fast_beam_search
from zipasr.search.graph_search import (
    CtcAcousticScorer,
    GraphLimits,
    TransducerAcousticScorer,
    graph_search,
)
from zipasr.search.greedy import greedy_search
from zipasr.search.lexicon_graph import word_graph
from zipasr.search.registry import SEARCHES, check_method, search_for, streaming_search_for
from zipasr.search.rescoring import BestPath, Nbest
from zipasr.search.scorers import ContextGraph, HotWords
from zipasr.search.transducer_step import TransducerSteps

from . import golden
from .tiny import tiny_batch, tiny_steps
from .words import GRAMMAR, LEXICON, OTHER


def build(decoder, joiner, ctc_output=None, **flags):
    return search_for(DecodingConfig(**flags), decoder, joiner, ctc_output)


def test_settings_reach_the_searches():
    steps = tiny_steps(0, blank_penalty=1.5, temperature=2.0)
    parts = steps.decoder, steps.joiner
    frames, lens = tiny_batch(0, [20, 15])
    flags = {"blank_penalty": 1.5, "temperature": 2.0}
    plain = TransducerSteps(*parts)

    greedy = build(*parts, max_sym_per_frame=3, **flags)(frames, lens)
    assert greedy == greedy_search(frames, lens, steps=steps, max_sym_per_frame=3)
    assert greedy != greedy_search(frames, lens, steps=plain, max_sym_per_frame=3)

    beam = build(*parts, decoding_method="modified_beam_search", beam_size=2, **flags)(frames, lens)
    assert beam == modified_beam_search(frames, lens, steps=steps, beam_size=2)
    assert beam != modified_beam_search(frames, lens, steps=steps, beam_size=4)
    assert beam != modified_beam_search(frames, lens, steps=plain, beam_size=2)

    ctc = build(None, None, lambda x: x, decoding_method="ctc_greedy_search", **flags)(frames, lens)
    assert ctc == ctc_greedy_search(frames, lens, ctc_output=lambda x: x, **flags)


def test_settings_reach_the_other_searches():
    steps = tiny_steps(0, blank_penalty=1.5, temperature=2.0)
    parts = steps.decoder, steps.joiner
    frames, lens = tiny_batch(0, [20, 15])
    flags = {"blank_penalty": 1.5, "temperature": 2.0}

    graves = build(*parts, decoding_method="beam_search", beam_size=2, **flags)(frames, lens)
    assert graves == beam_search(frames, lens, steps=steps, beam_size=2)

    limits = LatticeConfig(beam=3.0, max_states=4, max_contexts=2, allow_partial=True)
    config = DecodingConfig(decoding_method="fast_beam_search", **flags)
    fast = search_for(config, *parts, aids=DecodingResources(limits))(frames, lens)
    assert fast == fast_beam_search(
        frames, lens, steps=steps, beam=3.0, max_states=4, max_contexts=2, allow_partial=True
    )

    config = DecodingConfig(decoding_method="ctc-prefix-beam-search", beam_size=3, **flags)
    prefix = search_for(config, None, None, lambda x: x)(frames, lens)
    head = CtcHead(lambda x: x, blank_penalty=1.5, temperature=2.0)
    assert prefix == ctc_prefix_beam_search(frames, lens, head=head, beam_size=3)


@pytest.mark.parametrize("allow_partial", [False, True])
@pytest.mark.parametrize("method", ["fast_beam_search", "fast_beam_search_nbest"])
def test_without_a_final_state_the_result_is_empty_unless_it_may_be_partial(method, allow_partial):
    # The reference's results under the default limits; without a final state in the second.
    (run,) = (
        run
        for run in golden.runs("fast_beam_search_one_best")
        if run["id"] == f"fast.encoder_out.b20.c8.s64.bp0.0.t1.0.ilme0.0.partial{allow_partial:d}"
    )
    flags = {"allow_partial": True} if allow_partial else {}
    search = search_for(
        DecodingConfig(decoding_method=method),
        *golden.transducer(),
        aids=DecodingResources(LatticeConfig(**flags)),
    )
    found = search(golden.arrays()[run["options"]["input"]], golden.arrays()["lens"])
    assert bool(found[1].tokens) == bool(run["hyps"][1]) == allow_partial
    assert (found[1].log_prob == -math.inf) != allow_partial
    assert found[0].tokens
    if method == "fast_beam_search":
        golden.check(found, run)


def test_hot_words_reach_the_searches_in_their_modes():
    steps = tiny_steps(0)
    aids = DecodingResources(hot_words=ContextGraph([[1, 2], [3]], 2.0))
    parts = ModelParts(steps.decoder, steps.joiner, lambda x: x)
    beam = streaming_search_for(DecodingConfig(decoding_method="modified_beam_search"), parts, aids)
    prefix = streaming_search_for(
        DecodingConfig(decoding_method="ctc-prefix-beam-search"), parts, aids
    )
    assert isinstance(prefix, CtcPrefixBeamSearch)
    for search, strict in ((beam, False), (prefix, True)):
        assert isinstance(search.scorer, HotWords)
        assert search.scorer.strict == strict
    with pytest.raises(UserError, match="greedy_search cannot use the hot-words of --context-file"):
        streaming_search_for(DecodingConfig(), parts, aids)


def test_methods_for_whole_utterances_do_not_stream():
    steps = tiny_steps(0)
    parts = ModelParts(steps.decoder, steps.joiner)
    with pytest.raises(UserError, match=r"needs whole utterances[.] Fix: choose one of"):
        streaming_search_for(
            DecodingConfig(decoding_method="beam_search"), parts, DecodingResources()
        )


def test_unknown_method_lists_the_names_and_the_nearest():
    with pytest.raises(UserError, match="did you mean 'modified_beam_search'") as caught:
        check_method("modifed_beam_serach")
    message = str(caught.value)
    assert "\n" not in message
    for name, method in SEARCHES.items():
        assert f"{name} ({method.meaning})" in message


def test_unknown_method_that_resembles_nothing():
    with pytest.raises(UserError, match=r"unknown --decoding-method 'zzz'[.] Fix: choose one of"):
        check_method("zzz")


@pytest.mark.parametrize("exact_backoff", [False, True])
def test_settings_reach_the_searches_over_words(exact_backoff):
    steps = tiny_steps(0, 4, blank_penalty=1.5, temperature=2.0)
    frames, lens = tiny_batch(0, [8, 5])
    limits = LatticeConfig(
        beam=9.0, max_states=7, max_contexts=3, num_paths=9, nbest_scale=0.2, hlg_scale=0.3,
        search_beam=11.0, output_beam=5.0, max_active_states=17, allow_partial=True,
    )  # fmt: skip
    exact = {"exact_backoff": exact_backoff}
    vocabulary = Vocabulary(LEXICON, GRAMMAR, OTHER, **exact)
    aids = DecodingResources(limits, low_order_scale=0.4, vocabulary=vocabulary)

    def found(name):
        config = DecodingConfig(decoding_method=name, blank_penalty=1.5, temperature=2.0)
        return search_for(config, steps.decoder, steps.joiner, lambda x: x[:, :, :4], aids=aids)

    def fast(frames, lens):
        sound = TransducerAcousticScorer(steps, frames, lens)
        return graph_search(
            sound, word_graph(LEXICON, GRAMMAR, 0.4, **exact), GraphLimits(9.0, 7, 3)
        )

    def ctc(frames, lens):
        head = CtcHead(lambda x: x[:, :, :4], blank_penalty=1.5, temperature=2.0)
        sound = CtcAcousticScorer(head.log_probs(frames), lens)
        graph = word_graph(LEXICON, GRAMMAR, 0.3, **exact)
        return graph_search(sound, graph, GraphLimits(11.0, 17)).within(5.0)

    names = word_graph(LEXICON).words
    lattice = FastLattice(FastBeamSearch(steps, 9.0, 7, 3, allow_partial=True))
    wanted = {
        "fast_beam_search_nbest": Nbest(lattice, 9, 0.2),
        "fast_beam_search_nbest_LG": Nbest(fast, 9, 0.2, names),
        "1best": BestPath(ctc, names),
        "nbest": Nbest(ctc, 9, 0.2, names),
    }
    for name, search in wanted.items():
        assert found(name)(frames, lens) == search(frames, lens)
    oracle = found("nbest-oracle")
    assert oracle.choices(frames, lens) == wanted["nbest"].search(frames, lens)

    judged = OTHER.sentence if exact_backoff else BackoffGraph(OTHER).best
    (few,) = {len(found(name).weighings) for name in ("nbest-rescoring", "whole-lattice-rescoring")}
    for name in ("nbest-rescoring", "whole-lattice-rescoring"):
        settings = found(name).settings(frames, lens)
        assert len(settings) == few
        assert found(name)(frames, lens) == settings["_lm_scale_1.0"]
        for setting, results in settings.items():
            scale = float(setting.removeprefix("_lm_scale_"))
            heard = found(name).nbest(frames, lens)
            for chosen, those in zip(results, heard, strict=True):
                best = max(those, key=lambda one: one.log_prob + scale * judged(one.words))
                assert chosen.words == best.words


@pytest.mark.parametrize("name", SEARCHES)
def test_missing_parts_are_explained(name):
    with pytest.raises(UserError, match="this model has none"):
        build(None, None, decoding_method=name)
