"""Construction of searches: of a decoding method, or over parts of a model built elsewhere."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

from zipasr.base.config import unknown_value
from zipasr.search.components import DecodingResources, MethodInputs, ModelParts
from zipasr.search.config import DecodingConfig
from zipasr.search.ctc_greedy import CtcGreedySearch, CtcOutput
from zipasr.search.ctc_prefix import CtcPrefixBeamSearch
from zipasr.search.greedy import GreedySearch
from zipasr.search.hot_words import ContextGraph
from zipasr.search.methods import check_takes_hot_words, method_of
from zipasr.search.modified_beam_search import ModifiedBeamSearch
from zipasr.search.protocol import Search
from zipasr.search.transducer_step import DecoderLike, JoinerLike

Factory: TypeAlias = Callable[[MethodInputs], Search[Any]]
"""What a row of the table names; it raises a ``UserError`` where the model lacks a part."""


def build_search(
    config: DecodingConfig, parts: ModelParts, resources: DecodingResources | None = None
) -> Search[Any]:
    """Build the search that ``config`` asks for.

    Args:
        config: method and its settings.
        parts: what the model offers.
        resources: what the method uses beside the model; nothing if omitted.

    Raises:
        UserError: the method is unknown, needs a part that the model lacks, or cannot use the
            hot-words that are there.
    """
    method, resources = method_of(config.decoding_method), resources or DecodingResources()
    if resources.hot_words is not None:
        check_takes_hot_words(method)
    module, _, name = method.factory.partition(":")
    factory: Factory = getattr(importlib.import_module(module), name)
    return factory(MethodInputs(method, config, parts, resources))


def greedy(given: MethodInputs) -> GreedySearch:
    """Build greedy search of the transducer."""
    return GreedySearch(given.transducer(), given.config.max_sym_per_frame)


def modified_beam(given: MethodInputs) -> ModifiedBeamSearch:
    """Build modified beam search with the language models that the method needs."""
    scorer = given.resources.scorer(given.method.needs)
    return ModifiedBeamSearch(given.transducer(), given.config.beam_size, scorer)


def modified_beam_ranked(given: MethodInputs) -> ModifiedBeamSearch:
    """Build modified beam search in which an n-gram takes part in the choice alone."""
    steps = given.transducer()
    ngram = given.resources.low_order
    scorer = None if ngram is None else ngram.scorer(given.resources.low_order_scale)
    return ModifiedBeamSearch(steps, given.config.beam_size, scorer, ranks_only=True)


def ctc_greedy(given: MethodInputs) -> CtcGreedySearch:
    """Build the search for the best path of the CTC head."""
    return CtcGreedySearch(given.ctc_head())


def ctc_prefix(given: MethodInputs) -> CtcPrefixBeamSearch:
    """Build CTC prefix beam search with the language models that the method uses."""
    scorer = given.resources.scorer(given.method.needs | given.method.optional, strict=True)
    return CtcPrefixBeamSearch(given.ctc_head(), given.config.beam_size, scorer)


#: Methods that need a transducer and nothing else.
TransducerMethod = Literal[
    "greedy_search", "modified_beam_search", "beam_search", "fast_beam_search"
]

#: Methods that need a CTC head and nothing else.
CtcMethod = Literal["ctc-greedy-search", "ctc-prefix-beam-search"]


def transducer_search(
    decoder: DecoderLike,
    joiner: JoinerLike,
    *,
    method: TransducerMethod = "greedy_search",
    beam_size: int = 4,
    max_sym_per_frame: int = 1,
    blank_penalty: float = 0.0,
    temperature: float = 1.0,
    hot_words: ContextGraph | None = None,
) -> Search[Any]:
    """Build a search over a transducer: call it with frames (N, T', C) and their lengths (N,).

    Args:
        decoder: prediction network: token ids (M, context_size), of which -1 stands for nothing,
            to vectors (M, 1, C); with the attributes ``context_size`` and ``blank_id``.
        joiner: with the projections ``encoder_proj`` and ``decoder_proj``; called with two
            projected tensors and ``project_input=False``, it returns logits (..., V).
        method: value of ``--decoding-method``.
        beam_size: hypotheses per utterance, in the beam searches.
        max_sym_per_frame: most tokens per frame, in greedy search.
        blank_penalty: subtracted from the logit of blank; above 0: fewer deletions.
        temperature: divisor of the logits; above 1: a flatter distribution.
        hot_words: phrases with a bonus, in modified beam search.

    Returns:
        A search. Called, it returns an ``Utterance`` for each row; ``start``, ``advance`` and
        ``results`` go on chunk by chunk, but for beam_search.

    Raises:
        UserError: there is no such method, or it cannot use hot-words.
        ValueError: a number out of its range.
    """
    _check(method, get_args(TransducerMethod))
    config = DecodingConfig(
        decoding_method=method,
        beam_size=beam_size,
        max_sym_per_frame=max_sym_per_frame,
        blank_penalty=blank_penalty,
        temperature=temperature,
    )
    return build_search(config, ModelParts(decoder, joiner), DecodingResources(hot_words=hot_words))


def ctc_search(
    ctc_output: CtcOutput,
    *,
    method: CtcMethod = "ctc-greedy-search",
    beam_size: int = 4,
    blank_penalty: float = 0.0,
    temperature: float = 1.0,
    hot_words: ContextGraph | None = None,
) -> Search[Any]:
    """Build a search over a CTC head, whose blank is 0; see ``transducer_search``.

    Args:
        ctc_output: frames (N, T', C) to logits or log-probabilities (N, T', V), such as a linear
            layer; ``torch.nn.Identity()`` for a search that is called with logits.
        method: value of ``--decoding-method``.
        beam_size: hypotheses per utterance, in prefix beam search.
        blank_penalty: see ``transducer_search``.
        temperature: likewise.
        hot_words: phrases with a bonus, in prefix beam search.

    Raises:
        UserError: there is no such method, or it cannot use hot-words.
        ValueError: a number out of its range.
    """
    _check(method, get_args(CtcMethod))
    config = DecodingConfig(
        decoding_method=method,
        beam_size=beam_size,
        blank_penalty=blank_penalty,
        temperature=temperature,
    )
    parts = ModelParts(None, None, ctc_output)
    return build_search(config, parts, DecodingResources(hot_words=hot_words))


def _check(method: str, known: tuple[str, ...]) -> None:
    if method not in known:
        raise unknown_value("method", method, known)
