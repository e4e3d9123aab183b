"""Construction of the search of a decoding method: the table's factories, lattices apart."""

from __future__ import annotations

import importlib
from typing import Any, Protocol

from zipasr.search.beam_search import ModifiedBeamSearch
from zipasr.search.components import DecodingResources, ModelParts, ctc_head, transducer
from zipasr.search.config import DecodingConfig
from zipasr.search.ctc_greedy import CtcGreedySearch
from zipasr.search.ctc_prefix import CtcPrefixBeamSearch
from zipasr.search.greedy import GreedySearch
from zipasr.search.methods import MethodSpec, check_takes_hot_words, method_of
from zipasr.search.protocol import Search


class Factory(Protocol):
    """A function that a row of the table names."""

    def __call__(
        self,
        method: MethodSpec,
        config: DecodingConfig,
        parts: ModelParts,
        resources: DecodingResources,
    ) -> Search[Any]:
        """Build the search of a method.

        Raises:
            UserError: the model lacks a part that the method needs.
        """


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
    return factory(method, config, parts, resources)


def greedy(
    _: MethodSpec, config: DecodingConfig, parts: ModelParts, __: DecodingResources
) -> GreedySearch:
    """Build greedy search of the transducer."""
    return GreedySearch(transducer(config, parts), config.max_sym_per_frame)


def modified_beam(
    method: MethodSpec, config: DecodingConfig, parts: ModelParts, resources: DecodingResources
) -> ModifiedBeamSearch:
    """Build modified beam search with the language models that the method needs."""
    scorer = resources.scorer(method.needs)
    return ModifiedBeamSearch(transducer(config, parts), config.beam_size, scorer)


def modified_beam_ranked(
    _: MethodSpec, config: DecodingConfig, parts: ModelParts, resources: DecodingResources
) -> ModifiedBeamSearch:
    """Build modified beam search in which an n-gram takes part in the choice alone."""
    steps = transducer(config, parts)
    ngram = resources.low_order
    scorer = None if ngram is None else ngram.scorer(resources.low_order_scale)
    return ModifiedBeamSearch(steps, config.beam_size, scorer, ranks_only=True)


def ctc_greedy(
    _: MethodSpec, config: DecodingConfig, parts: ModelParts, __: DecodingResources
) -> CtcGreedySearch:
    """Build the search for the best path of the CTC head."""
    return CtcGreedySearch(ctc_head(config, parts))


def ctc_prefix(
    method: MethodSpec, config: DecodingConfig, parts: ModelParts, resources: DecodingResources
) -> CtcPrefixBeamSearch:
    """Build CTC prefix beam search with the language models that the method uses."""
    scorer = resources.scorer(method.needs | method.optional, strict=True)
    return CtcPrefixBeamSearch(ctc_head(config, parts), config.beam_size, scorer)
