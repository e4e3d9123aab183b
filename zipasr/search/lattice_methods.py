"""Factories of the decoding methods that keep a lattice, or score hypotheses again."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from zipasr.search.beam_search import beam_search
from zipasr.search.components import DecodingResources, MethodInputs, needed
from zipasr.search.ctc_prefix import CtcPrefixBeamSearch
from zipasr.search.fast_beam_search import FastBeamSearch, FastLattice
from zipasr.search.graph_search import (
    CtcAcousticScorer,
    GraphLimits,
    TransducerAcousticScorer,
    graph_search,
)
from zipasr.search.lattice import Lattice
from zipasr.search.lexicon_graph import WordGraph
from zipasr.search.methods import Need
from zipasr.search.modified_beam_search import ModifiedBeamSearch
from zipasr.search.protocol import ScaleSetting, Utterance
from zipasr.search.rescoring import (
    BestPath,
    LatticeSearch,
    Nbest,
    NbestSearch,
    Rescorer,
    WholeLattice,
    WholeUtteranceSearch,
    attention_ngram_settings,
    attention_scorer,
    attention_settings,
    language_model_scorer,
    lm_settings,
    lodr_settings,
    ngram_scorer,
    ngram_settings,
)

# Hypotheses of the CTC head that the attention decoder scores, at least.
MIN_ATTENTION_BEAM = 8


def beam(given: MethodInputs) -> WholeUtteranceSearch:
    """Build beam search with any number of tokens at a frame."""
    steps = given.transducer()

    def nbest(frames: Tensor, lens: Tensor) -> list[list[Utterance]]:
        return [
            [one]
            for one in beam_search(frames, lens, steps=steps, beam_size=given.config.beam_size)
        ]

    return WholeUtteranceSearch(nbest)


def modified_beam_rescored(given: MethodInputs) -> WholeUtteranceSearch:
    """Build modified beam search whose hypotheses language models score again."""
    first = ModifiedBeamSearch(given.transducer(), given.config.beam_size, given.resources.scorer())
    rescorers = [language_model_scorer(needed(given.resources.lm))]
    settings, default = lm_settings(), "_nnlm_scale_0.30"
    if Need.TOKEN_NGRAM in given.method.needs:
        rescorers.append(language_model_scorer(needed(given.resources.low_order)))
        settings, default = lodr_settings(), "_nnlm_scale_0.30_lodr_scale_0.50"
    return _rescored(first.search, rescorers, settings, default)


def fast_beam(given: MethodInputs) -> FastBeamSearch:
    """Build fast beam search."""
    limits = given.resources.lattice
    return FastBeamSearch(
        given.transducer(),
        limits.beam,
        limits.max_states,
        limits.max_contexts,
        limits.allow_partial,
    )


def fast_beam_nbest(given: MethodInputs) -> WholeUtteranceSearch:
    """Build the search for the best sums of paths of the lattice of fast beam search."""
    lattice, limits = FastLattice(fast_beam(given)), given.resources.lattice
    return WholeUtteranceSearch(Nbest(lattice, limits.num_paths, limits.nbest_scale).search)


def fast_beam_words(given: MethodInputs) -> WholeUtteranceSearch:
    """Build the same over the words of a lexicon and a grammar."""
    steps, limits = given.transducer(), given.resources.lattice
    graph = needed(given.resources.vocabulary).graph.scaled(given.resources.low_order_scale)
    kept = GraphLimits(limits.beam, limits.max_states, limits.max_contexts)

    def lattice(frames: Tensor, lens: Tensor) -> Lattice:
        acoustics = TransducerAcousticScorer(steps, frames, lens)
        return graph_search(acoustics, graph, kept)

    nbest = Nbest(lattice, limits.num_paths, limits.nbest_scale, graph.words)
    return WholeUtteranceSearch(nbest.search)


def ctc_prefix_attention(given: MethodInputs) -> WholeUtteranceSearch:
    """Build CTC prefix beam search whose hypotheses the attention decoder scores again."""
    head = given.ctc_head()
    decoder = given.attention_decoder("ctc-prefix-beam-search")
    # Its hypotheses need to differ in more than the last token.
    beam_size = max(given.config.beam_size, MIN_ATTENTION_BEAM)
    first = CtcPrefixBeamSearch(head, beam_size, given.resources.scorer(strict=True))
    rescorers = [attention_scorer(decoder)]
    return _rescored(first.search, rescorers, attention_settings(), "_attention_scale_1.0")


def ctc_words_best(given: MethodInputs) -> WholeUtteranceSearch:
    """Build the search for the best path of the CTC head through a lexicon and a grammar."""
    lattice, graph = _ctc_words(given)
    best = BestPath(lattice, graph.words)
    return WholeUtteranceSearch(lambda frames, lens: [[one] for one in best(frames, lens)])


def ctc_words_nbest(given: MethodInputs) -> WholeUtteranceSearch:
    """Build the search for the words with the best sum of paths."""
    return WholeUtteranceSearch(_ctc_nbest(given).search)


def ctc_words_rescored(given: MethodInputs) -> WholeUtteranceSearch:
    """Build the same, with a larger grammar that scores the words again."""
    first = _ctc_nbest(given)
    rescorers = [ngram_scorer(_large_graph(given.resources))]
    return _rescored(first.by_sound, rescorers, ngram_settings(), "_lm_scale_1.0")


def ctc_words_whole_lattice(given: MethodInputs) -> WholeUtteranceSearch:
    """Build the search for the best paths of the lattice under a larger grammar."""
    lattice = _ctc_words(given)[0]
    settings, large = ngram_settings(), _large_graph(given.resources)
    first = WholeLattice(lattice, large, [one.weights[1] for one in settings])
    return _rescored(first.by_sound, [ngram_scorer(large)], settings, "_lm_scale_1.0")


def ctc_words_attention(given: MethodInputs) -> WholeUtteranceSearch:
    """Build the search for words that a larger grammar and the attention decoder score again."""
    first = _ctc_nbest(given)
    decoder = given.attention_decoder("nbest-rescoring")
    rescorers = [ngram_scorer(_large_graph(given.resources)), attention_scorer(decoder)]
    default = "_ngram_lm_scale_0.5_attention_scale_1.0"
    return _rescored(first.by_sound, rescorers, attention_ngram_settings(), default)


def _ctc_words(given: MethodInputs) -> tuple[LatticeSearch, WordGraph]:
    head, limits = given.ctc_head(), given.resources.lattice
    graph = needed(given.resources.vocabulary).graph.scaled(limits.hlg_scale)
    kept = GraphLimits(limits.search_beam, limits.max_active_states, output_beam=limits.output_beam)

    def lattice(frames: Tensor, lens: Tensor) -> Lattice:
        acoustics = CtcAcousticScorer(head.log_probs(frames), lens, head.blank_id)
        return graph_search(acoustics, graph, kept)

    return lattice, graph


def _ctc_nbest(given: MethodInputs) -> Nbest:
    lattice, graph = _ctc_words(given)
    limits = given.resources.lattice
    return Nbest(lattice, limits.num_paths, limits.nbest_scale, graph.words)


def _large_graph(resources: DecodingResources) -> WordGraph:
    return needed(needed(resources.vocabulary).large_graph)


def _rescored(
    nbest: NbestSearch,
    rescorers: Sequence[Rescorer],
    settings: tuple[ScaleSetting, ...],
    default: str,
) -> WholeUtteranceSearch:
    usual = next(one for one in settings if one.name == default)
    return WholeUtteranceSearch(nbest, tuple(rescorers), settings, usual)
