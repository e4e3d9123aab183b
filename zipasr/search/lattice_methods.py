"""Decoding methods that keep a lattice, most of them over the words of a lexicon."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from torch import Tensor

from zipasr.base.errors import UserError
from zipasr.lm.ngram import NgramLm
from zipasr.search.components import (
    Builder,
    DecodingResources,
    Method,
    ModelParts,
    Vocabulary,
    at,
    ctc_head,
    transducer,
    words_of_labels,
)
from zipasr.search.config import DecodingConfig
from zipasr.search.fast_beam_search import FastBeamSearch, FastLattice
from zipasr.search.graph_search import (
    CtcAcousticScorer,
    GraphLimits,
    TransducerAcousticScorer,
    graph_search,
)
from zipasr.search.lattice import Lattice
from zipasr.search.lexicon_graph import WordGraph, word_graph
from zipasr.search.rescoring import (
    BestPath,
    LatticeSearch,
    Nbest,
    Oracle,
    Rescoring,
    WholeLattice,
    attention_ngram_settings,
    attention_scorer,
    ngram_scorer,
    ngram_settings,
)

ToNbest = Callable[[DecodingConfig, ModelParts, DecodingResources], Nbest]


def fast_beam(config: DecodingConfig, parts: ModelParts, aids: DecodingResources) -> FastBeamSearch:
    """Build the fast beam search."""
    limits = aids.lattice
    return FastBeamSearch(
        transducer(config, parts),
        limits.beam,
        limits.max_states,
        limits.max_contexts,
        limits.allow_partial,
    )


def _fast_nbest(config: DecodingConfig, parts: ModelParts, aids: DecodingResources) -> Nbest:
    lattice = FastLattice(fast_beam(config, parts, aids))
    return Nbest(lattice, aids.lattice.num_paths, aids.lattice.nbest_scale)


def _fast_nbest_words(config: DecodingConfig, parts: ModelParts, aids: DecodingResources) -> Nbest:
    steps, limits = transducer(config, parts), aids.lattice
    vocabulary = words_of_labels(aids)
    graph = _graph(vocabulary, vocabulary.grammar, aids.low_order_scale)
    kept = GraphLimits(limits.beam, limits.max_states, limits.max_contexts)
    graph_on = cache(graph.to)

    def lattice(frames: Tensor, lens: Tensor) -> Lattice:
        sound = TransducerAcousticScorer(steps, frames, lens)
        return graph_search(sound, graph_on(frames.device), kept)

    return Nbest(lattice, limits.num_paths, limits.nbest_scale, graph.words)


def _ctc_words(
    config: DecodingConfig, parts: ModelParts, aids: DecodingResources
) -> tuple[LatticeSearch, WordGraph]:
    head, limits = ctc_head(config, parts), aids.lattice
    vocabulary = words_of_labels(aids)
    graph = _graph(vocabulary, vocabulary.grammar, limits.hlg_scale)
    kept = GraphLimits(limits.search_beam, limits.max_active_states)
    graph_on = cache(graph.to)

    def lattice(frames: Tensor, lens: Tensor) -> Lattice:
        sound = CtcAcousticScorer(head.log_probs(frames), lens.to(frames.device), head.blank_id)
        return graph_search(sound, graph_on(frames.device), kept).within(limits.output_beam)

    return lattice, graph


def _ctc_best(config: DecodingConfig, parts: ModelParts, aids: DecodingResources) -> BestPath:
    lattice, graph = _ctc_words(config, parts, aids)
    return BestPath(lattice, graph.words)


def _ctc_nbest(config: DecodingConfig, parts: ModelParts, aids: DecodingResources) -> Nbest:
    lattice, graph = _ctc_words(config, parts, aids)
    return Nbest(lattice, aids.lattice.num_paths, aids.lattice.nbest_scale, graph.words)


def _oracle(nbest: ToNbest) -> Builder:
    def build(config: DecodingConfig, parts: ModelParts, aids: DecodingResources) -> Oracle:
        return Oracle(nbest(config, parts, aids))

    return build


def _large(aids: DecodingResources) -> WordGraph:
    """The words with the large grammar, unscaled."""
    vocabulary = words_of_labels(aids)
    return _graph(vocabulary, vocabulary.large_grammar)


def _graph(vocabulary: Vocabulary, grammar: NgramLm | None, scale: float = 1.0) -> WordGraph:
    return word_graph(vocabulary.lexicon, grammar, scale, exact_backoff=vocabulary.exact_backoff)


def _ctc_rescored(config: DecodingConfig, parts: ModelParts, aids: DecodingResources) -> Rescoring:
    first = _ctc_nbest(config, parts, aids)
    weighings = ngram_settings()
    judge = ngram_scorer(_large(aids))
    return Rescoring(first.by_sound, (judge,), weighings, at(weighings, "_lm_scale_1.0"))


def _ctc_whole(config: DecodingConfig, parts: ModelParts, aids: DecodingResources) -> Rescoring:
    lattice, _ = _ctc_words(config, parts, aids)
    weighings, large = ngram_settings(), _large(aids)
    first = WholeLattice(lattice, large, [one.weights[1] for one in weighings])
    judge = ngram_scorer(large)
    return Rescoring(first.by_sound, (judge,), weighings, at(weighings, "_lm_scale_1.0"))


def _ctc_attention(config: DecodingConfig, parts: ModelParts, aids: DecodingResources) -> Rescoring:
    first = _ctc_nbest(config, parts, aids)
    if parts.attention_decoder is None:
        raise UserError(
            f"--decoding-method {config.decoding_method} needs an attention decoder, this model "
            "has none.",
            "use nbest-rescoring, or train with --use-attention-decoder 1.",
        )
    weighings = attention_ngram_settings()
    judges = ngram_scorer(_large(aids)), attention_scorer(parts.attention_decoder)
    default = at(weighings, "_ngram_lm_scale_0.5_attention_scale_1.0")
    return Rescoring(first.by_sound, judges, weighings, default)


def _method(meaning: str, build: Builder, head: str, *uses: str) -> Method:
    return Method(meaning, build, head, can_stream=False, uses=uses)


LATTICE_SEARCHES: dict[str, Method] = {
    "fast_beam_search_nbest": _method(
        "--num-paths paths of fast_beam_search, the tokens with the largest sum of alignments",
        _fast_nbest,
        "transducer",
    ),
    "fast_beam_search_nbest_oracle": _method(
        "of the same, what is nearest to the reference: what a perfect judge would reach",
        _oracle(_fast_nbest),
        "transducer",
        "reference",
    ),
    "fast_beam_search_nbest_LG": _method(
        "the same over the words of a lexicon, with a grammar of --ngram-lm-scale",
        _fast_nbest_words,
        "transducer",
        "words",
    ),
    "1best": _method(
        "best path of the CTC head through a lexicon and a grammar of --hlg-scale",
        _ctc_best,
        "ctc",
        "words",
    ),
    "nbest": _method(
        "--num-paths such paths, the words with the largest sum of alignments",
        _ctc_nbest,
        "ctc",
        "words",
    ),
    "nbest-oracle": _method(
        "of the same, what is nearest to the reference",
        _oracle(_ctc_nbest),
        "ctc",
        "words",
        "reference",
    ),
    "nbest-rescoring": _method(
        "the words of nbest, judged by a larger grammar under several weights",
        _ctc_rescored,
        "ctc",
        "words",
        "large",
    ),
    "whole-lattice-rescoring": _method(
        "best path with the larger grammar in place of the other, under several weights",
        _ctc_whole,
        "ctc",
        "words",
        "large",
    ),
    "attention-decoder-rescoring-with-ngram": _method(
        "the words of nbest, judged by a larger grammar and the attention decoder",
        _ctc_attention,
        "ctc",
        "words",
        "large",
        "attention",
    ),
}
