import math

import pytest

from tests.lm.backoff_graph import BackoffGraph
from zipasr.base.errors import UserError
from zipasr.search.beam_search import beam_search
from zipasr.search.components import DecodingResources, ModelParts, Vocabulary
from zipasr.search.config import DecodingConfig, LatticeConfig
from zipasr.search.ctc_greedy import CtcGreedySearch, CtcHead
from zipasr.search.ctc_prefix import CtcPrefixBeamSearch
from zipasr.search.fast_beam_search import FastBeamSearch, FastLattice
from zipasr.search.graph_search import (
    CtcAcousticScorer,
    GraphLimits,
    TransducerAcousticScorer,
    graph_search,
)
from zipasr.search.greedy import GreedySearch
from zipasr.search.hot_words import ContextGraph, HotWords
from zipasr.search.lexicon_graph import word_graph
from zipasr.search.methods import METHODS, check_streams, method_of
from zipasr.search.modified_beam_search import ModifiedBeamSearch
from zipasr.search.registry import build_search
from zipasr.search.rescoring import BestPath, Nbest
from zipasr.search.transducer_step import TransducerSteps

from . import golden
from .tiny import tiny_batch, tiny_steps
from .words import GRAMMAR, LEXICON, OTHER


def build(decoder, joiner, ctc_output=None, **flags):
    return build_search(DecodingConfig(**flags), ModelParts(decoder, joiner, ctc_output))


def test_settings_reach_the_searches():
    steps = tiny_steps(0, blank_penalty=1.5, temperature=2.0)
    parts = steps.decoder, steps.joiner
    frames, lens = tiny_batch(0, [20, 15])
    flags = {"blank_penalty": 1.5, "temperature": 2.0}
    plain = TransducerSteps(*parts)

    greedy = build(*parts, max_sym_per_frame=3, **flags)(frames, lens)
    assert greedy == GreedySearch(steps, max_sym_per_frame=3)(frames, lens)
    assert greedy != GreedySearch(plain, max_sym_per_frame=3)(frames, lens)

    beam = build(*parts, decoding_method="modified_beam_search", beam_size=2, **flags)(frames, lens)
    assert beam == ModifiedBeamSearch(steps, beam_size=2)(frames, lens)
    assert beam != ModifiedBeamSearch(steps, beam_size=4)(frames, lens)
    assert beam != ModifiedBeamSearch(plain, beam_size=2)(frames, lens)

    ctc = build(None, None, lambda x: x, decoding_method="ctc_greedy_search", **flags)(frames, lens)
    assert ctc == CtcGreedySearch(CtcHead(lambda x: x, **flags))(frames, lens)


def test_settings_reach_the_other_searches():
    steps = tiny_steps(0, blank_penalty=1.5, temperature=2.0)
    parts = steps.decoder, steps.joiner
    frames, lens = tiny_batch(0, [20, 15])
    flags = {"blank_penalty": 1.5, "temperature": 2.0}

    graves = build(*parts, decoding_method="beam_search", beam_size=2, **flags)(frames, lens)
    assert graves == beam_search(frames, lens, steps=steps, beam_size=2)

    limits = LatticeConfig(beam=3.0, max_states=4, max_contexts=2, allow_partial=True)
    config = DecodingConfig(decoding_method="fast_beam_search", **flags)
    fast = build_search(config, ModelParts(*parts), DecodingResources(limits))(frames, lens)
    wanted = FastBeamSearch(steps, beam=3.0, max_states=4, max_contexts=2, allow_partial=True)
    assert fast == wanted(frames, lens)

    config = DecodingConfig(decoding_method="ctc-prefix-beam-search", beam_size=3, **flags)
    prefix = build_search(config, ModelParts(None, None, lambda x: x))(frames, lens)
    head = CtcHead(lambda x: x, blank_penalty=1.5, temperature=2.0)
    assert prefix == CtcPrefixBeamSearch(head, beam_size=3)(frames, lens)


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
    search = build_search(
        DecodingConfig(decoding_method=method),
        ModelParts(*golden.transducer()),
        DecodingResources(LatticeConfig(**flags)),
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
    beam = build_search(DecodingConfig(decoding_method="modified_beam_search"), parts, aids)
    prefix = build_search(DecodingConfig(decoding_method="ctc-prefix-beam-search"), parts, aids)
    assert isinstance(beam, ModifiedBeamSearch)
    assert isinstance(prefix, CtcPrefixBeamSearch)
    for search, strict in ((beam, False), (prefix, True)):
        assert isinstance(search.scorer, HotWords)
        assert search.scorer.strict == strict
    with pytest.raises(UserError, match="greedy_search cannot use the hot-words of --context-file"):
        build_search(DecodingConfig(), parts, aids)


def test_methods_for_whole_utterances_do_not_stream():
    with pytest.raises(UserError, match=r"needs whole utterances[.] Fix: choose one of"):
        check_streams(METHODS["beam_search"])
    check_streams(METHODS["modified_beam_search"])


def test_unknown_method_lists_the_names_and_the_nearest():
    with pytest.raises(UserError, match="did you mean 'modified_beam_search'") as caught:
        method_of("modifed_beam_serach")
    message = str(caught.value)
    assert "\n" not in message
    assert f"choose one of: {', '.join(METHODS)}." in message
    assert "./decode.py --decoding-method help says what each is" in message


def test_unknown_method_that_resembles_nothing():
    with pytest.raises(UserError, match=r"unknown --decoding-method 'zzz'[.] Fix: choose one of"):
        method_of("zzz")


@pytest.mark.parametrize("exact_backoff", [False, True])
def test_settings_reach_the_searches_over_words(exact_backoff):
    steps = tiny_steps(0, 4, blank_penalty=1.5, temperature=2.0)
    frames, lens = tiny_batch(0, [8, 5])
    limits = LatticeConfig(
        beam=9.0, max_states=7, max_contexts=3, num_paths=9, nbest_scale=0.2, hlg_scale=0.3,
        search_beam=11.0, output_beam=5.0, max_active_states=17, allow_partial=True,
    )  # fmt: skip
    exact = {"exact_backoff": exact_backoff}
    vocabulary = Vocabulary(*(word_graph(LEXICON, one, **exact) for one in (GRAMMAR, OTHER)))
    aids = DecodingResources(limits, low_order_scale=0.4, vocabulary=vocabulary)

    def found(name):
        config = DecodingConfig(decoding_method=name, blank_penalty=1.5, temperature=2.0)
        parts = ModelParts(steps.decoder, steps.joiner, lambda x: x[:, :, :4])
        return build_search(config, parts, aids)

    def fast(frames, lens):
        sound = TransducerAcousticScorer(steps, frames, lens)
        return graph_search(
            sound, word_graph(LEXICON, GRAMMAR, 0.4, **exact), GraphLimits(9.0, 7, 3)
        )

    def ctc(frames, lens):
        head = CtcHead(lambda x: x[:, :, :4], blank_penalty=1.5, temperature=2.0)
        sound = CtcAcousticScorer(head.log_probs(frames), lens)
        graph = word_graph(LEXICON, GRAMMAR, 0.3, **exact)
        return graph_search(sound, graph, GraphLimits(11.0, 17, output_beam=5.0))

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
    choices = [one.hypotheses for one in oracle.scored(oracle.whole(frames, lens))]
    assert choices == wanted["nbest"].search(frames, lens)

    judged = OTHER.sentence if exact_backoff else BackoffGraph(OTHER).best
    (few,) = {len(found(name).settings) for name in ("nbest-rescoring", "whole-lattice-rescoring")}
    for name in ("nbest-rescoring", "whole-lattice-rescoring"):
        search = found(name)
        scored = search.scored(search.whole(frames, lens))
        settings = {
            setting: [one.best(weights) for one in scored] for setting, weights in search.settings
        }
        assert len(settings) == few
        assert search(frames, lens) == settings["_lm_scale_1.0"]
        for setting, results in settings.items():
            scale = float(setting.removeprefix("_lm_scale_"))
            heard = found(name).nbest(frames, lens)
            for chosen, those in zip(results, heard, strict=True):
                best = max(those, key=lambda one: one.log_prob + scale * judged(one.words))
                assert chosen.words == best.words


@pytest.mark.parametrize("name", METHODS)
def test_missing_parts_are_explained(name):
    with pytest.raises(UserError, match="this model has none"):
        build(None, None, decoding_method=name)
