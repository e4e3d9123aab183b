"""Factories of the decoding methods that keep a lattice, or score hypotheses again."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from zipasr.search.beam_search import ModifiedBeamSearch
from zipasr.search.components import (
    DecodingResources,
    ModelParts,
    attention_decoder,
    ctc_head,
    needed,
    transducer,
)
from zipasr.search.config import DecodingConfig
from zipasr.search.ctc_prefix import CtcPrefixBeamSearch
from zipasr.search.fast_beam_search import FastBeamSearch, FastLattice
from zipasr.search.full_beam_search import beam_search
from zipasr.search.graph_search import (
    CtcAcousticScorer,
    GraphLimits,
    TransducerAcousticScorer,
    graph_search,
)
from zipasr.search.lattice import Lattice
from zipasr.search.lexicon_graph import WordGraph
from zipasr.search.methods import MethodSpec, Need
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


def beam(
    _: MethodSpec, config: DecodingConfig, parts: ModelParts, __: DecodingResources
) -> WholeUtteranceSearch:
    """Build beam search with any number of tokens at a frame."""
    steps = transducer(config, parts)

    def nbest(frames: Tensor, lens: Tensor) -> list[list[Utterance]]:
        return [[one] for one in beam_search(frames, lens, steps=steps, beam_size=config.beam_size)]

    return WholeUtteranceSearch(nbest)


def modified_beam_rescored(
    method: MethodSpec, config: DecodingConfig, parts: ModelParts, resources: DecodingResources
) -> WholeUtteranceSearch:
    """Build modified beam search whose hypotheses language models score again."""
    first = ModifiedBeamSearch(transducer(config, parts), config.beam_size, resources.scorer())
    rescorers = [language_model_scorer(needed(resources.lm))]
    settings, default = lm_settings(), "_nnlm_scale_0.30"
    if Need.TOKEN_NGRAM in method.needs:
        rescorers.append(language_model_scorer(needed(resources.low_order)))
        settings, default = lodr_settings(), "_nnlm_scale_0.30_lodr_scale_0.50"
    return _rescored(first.search, rescorers, settings, default)


def fast_beam(
    _: MethodSpec, config: DecodingConfig, parts: ModelParts, resources: DecodingResources
) -> FastBeamSearch:
    """Build fast beam search."""
    limits = resources.lattice
    return FastBeamSearch(
        transducer(config, parts),
        limits.beam,
        limits.max_states,
        limits.max_contexts,
        limits.allow_partial,
    )


def fast_beam_nbest(
    method: MethodSpec, config: DecodingConfig, parts: ModelParts, resources: DecodingResources
) -> WholeUtteranceSearch:
    """Build the search for the best sums of paths of the lattice of fast beam search."""
    lattice, limits = FastLattice(fast_beam(method, config, parts, resources)), resources.lattice
    return WholeUtteranceSearch(Nbest(lattice, limits.num_paths, limits.nbest_scale).search)


def fast_beam_words(
    _: MethodSpec, config: DecodingConfig, parts: ModelParts, resources: DecodingResources
) -> WholeUtteranceSearch:
    """Build the same over the words of a lexicon and a grammar."""
    steps, limits = transducer(config, parts), resources.lattice
    graph = needed(resources.vocabulary).graph.scaled(resources.low_order_scale)
    kept = GraphLimits(limits.beam, limits.max_states, limits.max_contexts)

    def lattice(frames: Tensor, lens: Tensor) -> Lattice:
        acoustics = TransducerAcousticScorer(steps, frames, lens)
        return graph_search(acoustics, graph, kept)

    nbest = Nbest(lattice, limits.num_paths, limits.nbest_scale, graph.words)
    return WholeUtteranceSearch(nbest.search)


def ctc_prefix_attention(
    _: MethodSpec, config: DecodingConfig, parts: ModelParts, resources: DecodingResources
) -> WholeUtteranceSearch:
    """Build CTC prefix beam search whose hypotheses the attention decoder scores again."""
    head = ctc_head(config, parts)
    decoder = attention_decoder(config, parts, "ctc-prefix-beam-search")
    # Its hypotheses need to differ in more than the last token.
    beam_size = max(config.beam_size, MIN_ATTENTION_BEAM)
    first = CtcPrefixBeamSearch(head, beam_size, resources.scorer(strict=True))
    rescorers = [attention_scorer(decoder)]
    return _rescored(first.search, rescorers, attention_settings(), "_attention_scale_1.0")


def ctc_words_best(
    _: MethodSpec, config: DecodingConfig, parts: ModelParts, resources: DecodingResources
) -> WholeUtteranceSearch:
    """Build the search for the best path of the CTC head through a lexicon and a grammar."""
    lattice, graph = _ctc_words(config, parts, resources)
    best = BestPath(lattice, graph.words)
    return WholeUtteranceSearch(lambda frames, lens: [[one] for one in best(frames, lens)])


def ctc_words_nbest(
    _: MethodSpec, config: DecodingConfig, parts: ModelParts, resources: DecodingResources
) -> WholeUtteranceSearch:
    """Build the search for the words with the best sum of paths."""
    return WholeUtteranceSearch(_ctc_nbest(config, parts, resources).search)


def ctc_words_rescored(
    _: MethodSpec, config: DecodingConfig, parts: ModelParts, resources: DecodingResources
) -> WholeUtteranceSearch:
    """Build the same, with a larger grammar that scores the words again."""
    first = _ctc_nbest(config, parts, resources)
    rescorers = [ngram_scorer(_large_graph(resources))]
    return _rescored(first.by_sound, rescorers, ngram_settings(), "_lm_scale_1.0")


def ctc_words_whole_lattice(
    _: MethodSpec, config: DecodingConfig, parts: ModelParts, resources: DecodingResources
) -> WholeUtteranceSearch:
    """Build the search for the best paths of the lattice under a larger grammar."""
    lattice = _ctc_words(config, parts, resources)[0]
    settings, large = ngram_settings(), _large_graph(resources)
    first = WholeLattice(lattice, large, [one.weights[1] for one in settings])
    return _rescored(first.by_sound, [ngram_scorer(large)], settings, "_lm_scale_1.0")


def ctc_words_attention(
    _: MethodSpec, config: DecodingConfig, parts: ModelParts, resources: DecodingResources
) -> WholeUtteranceSearch:
    """Build the search for words that a larger grammar and the attention decoder score again."""
    first = _ctc_nbest(config, parts, resources)
    decoder = attention_decoder(config, parts, "nbest-rescoring")
    rescorers = [ngram_scorer(_large_graph(resources)), attention_scorer(decoder)]
    default = "_ngram_lm_scale_0.5_attention_scale_1.0"
    return _rescored(first.by_sound, rescorers, attention_ngram_settings(), default)


def _ctc_words(
    config: DecodingConfig, parts: ModelParts, resources: DecodingResources
) -> tuple[LatticeSearch, WordGraph]:
    head, limits = ctc_head(config, parts), resources.lattice
    graph = needed(resources.vocabulary).graph.scaled(limits.hlg_scale)
    kept = GraphLimits(limits.search_beam, limits.max_active_states)

    def lattice(frames: Tensor, lens: Tensor) -> Lattice:
        acoustics = CtcAcousticScorer(head.log_probs(frames), lens, head.blank_id)
        return graph_search(acoustics, graph, kept).within(limits.output_beam)

    return lattice, graph


def _ctc_nbest(config: DecodingConfig, parts: ModelParts, resources: DecodingResources) -> Nbest:
    lattice, graph = _ctc_words(config, parts, resources)
    limits = resources.lattice
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
