"""Registry of decoding methods: required model components, external resources, a row each."""

from __future__ import annotations

from functools import partial
from typing import Any

from zipasr.base.errors import UserError, nearest
from zipasr.search.beam_search import ModifiedBeamSearch, beam_search
from zipasr.search.components import (
    Builder,
    DecodingResources,
    Method,
    ModelParts,
    at,
    ctc_head,
    transducer,
)
from zipasr.search.config import DecodingConfig
from zipasr.search.ctc import CtcGreedySearch, CtcOutput
from zipasr.search.ctc_prefix import CtcPrefixBeamSearch
from zipasr.search.greedy import GreedySearch
from zipasr.search.language_models import LanguageModel
from zipasr.search.lattice_methods import LATTICE_SEARCHES, fast_beam
from zipasr.search.protocol import Search, StreamingSearch, as_batch_search
from zipasr.search.rescoring import (
    AttentionDecoderLike,
    Rescoring,
    attention_scorer,
    attention_settings,
    language_model_scorer,
    lm_settings,
    lodr_settings,
)
from zipasr.search.scorers import Ranking
from zipasr.search.transducer_step import DecoderLike, JoinerLike

# Hypotheses of the CTC head that the attention decoder judges, at least.
MIN_ATTENTION_BEAM = 8


def search_for(
    config: DecodingConfig,
    decoder: DecoderLike | None,
    joiner: JoinerLike | None,
    ctc_output: CtcOutput | None = None,
    *,
    attention_decoder: AttentionDecoderLike | None = None,
    aids: DecodingResources | None = None,
) -> Search:
    """Build the search that ``config`` asks for.

    Args:
        config: method and its settings.
        decoder: of the transducer, or ``None`` for a model without.
        joiner: of the transducer, or ``None`` for a model without.
        ctc_output: encoder frames (N, T', C) to CTC log-probabilities (N, T', V), or ``None``.
        attention_decoder: what judges hypotheses, or ``None``.
        aids: what helps it; nothing if omitted.

    Raises:
        UserError: the method is unknown, not available yet, needs a part the model lacks, or
            cannot use what shall help.
    """
    parts = ModelParts(decoder, joiner, ctc_output, attention_decoder)
    method, built = _built(config, parts, aids or DecodingResources())
    search: Search = as_batch_search(built) if method.can_stream else built
    return search


def streaming_search_for(
    config: DecodingConfig, parts: ModelParts, aids: DecodingResources
) -> StreamingSearch[Any]:
    """Build the search that ``config`` asks for, to go on from chunk to chunk.

    Raises:
        UserError: as ``search_for``, or the method needs whole utterances.
    """
    method, built = _built(config, parts, aids)
    if not method.can_stream:
        able = ", ".join(name for name, one in SEARCHES.items() if one.can_stream)
        raise UserError(
            f"--decoding-method {config.decoding_method} needs whole utterances.",
            f"choose one of: {able}.",
        )
    resumable: StreamingSearch[Any] = built
    return resumable


def _built(
    config: DecodingConfig, parts: ModelParts, aids: DecodingResources
) -> tuple[Method, Any]:
    name = config.decoding_method
    check_method(name)
    method = SEARCHES[name]
    if aids.hot_words is not None:
        check_takes_hot_words(name)
    return method, method.build(config, parts, aids)


def check_method(name: str) -> None:
    """Refuse a ``--decoding-method`` that cannot be run, before anything is loaded.

    Raises:
        UserError: says which names there are and what they mean.
    """
    if name in SEARCHES:
        return
    known = "; ".join(f"{known} ({method.meaning})" for known, method in SEARCHES.items())
    fix = f"choose one of: {known}."
    what = f"unknown --decoding-method {name!r}, {nearest(name, SEARCHES)}".rstrip(", ")
    raise UserError(what if what.endswith("?") else f"{what}.", fix)


def check_takes_hot_words(name: str) -> None:
    """Refuse hot-words for a method that cannot use them.

    Raises:
        UserError: says which methods can.
    """
    if not SEARCHES[name].takes_hot_words:
        able = ", ".join(other for other, one in SEARCHES.items() if one.takes_hot_words)
        raise UserError(
            f"--decoding-method {name} cannot use the hot-words of --context-file.",
            f"choose one of: {able}.",
        )


def _greedy(config: DecodingConfig, parts: ModelParts, _: DecodingResources) -> GreedySearch:
    return GreedySearch(transducer(config, parts), config.max_sym_per_frame)


def _modified_beam(*uses: str) -> Builder:
    def build(
        config: DecodingConfig, parts: ModelParts, aids: DecodingResources
    ) -> ModifiedBeamSearch:
        steps = transducer(config, parts)
        return ModifiedBeamSearch(steps, config.beam_size, aids.scorer(*uses))

    return build


def _ranked_beam(
    config: DecodingConfig, parts: ModelParts, aids: DecodingResources
) -> ModifiedBeamSearch:
    ngram = None if aids.low_order is None else aids.low_order.scorer(aids.low_order_scale)
    ranking = None if ngram is None else Ranking(ngram)
    return ModifiedBeamSearch(transducer(config, parts), config.beam_size, ranking)


def _rescored_beam(config: DecodingConfig, parts: ModelParts, aids: DecodingResources) -> Rescoring:
    first = _modified_beam()(config, parts, aids)
    judge = language_model_scorer(_needed(aids.lm))
    weighings = lm_settings()
    return Rescoring(first.search, (judge,), weighings, at(weighings, "_nnlm_scale_0.30"))


def _rescored_beam_lodr(
    config: DecodingConfig, parts: ModelParts, aids: DecodingResources
) -> Rescoring:
    first = _modified_beam()(config, parts, aids)
    judges = language_model_scorer(_needed(aids.lm)), language_model_scorer(_needed(aids.low_order))
    weighings = lodr_settings()
    default = at(weighings, "_nnlm_scale_0.30_lodr_scale_0.50")
    return Rescoring(first.search, judges, weighings, default)


def _attention(config: DecodingConfig, parts: ModelParts, aids: DecodingResources) -> Rescoring:
    head = ctc_head(config, parts)
    if parts.attention_decoder is None:
        raise UserError(
            f"--decoding-method {config.decoding_method} needs an attention decoder, this model "
            "has none.",
            "use ctc-prefix-beam-search, or train with --use-attention-decoder 1.",
        )
    # Its hypotheses need to differ in more than the last token.
    beam_size = max(config.beam_size, MIN_ATTENTION_BEAM)
    first = CtcPrefixBeamSearch(head, beam_size, aids.scorer(strict=True))
    weighings = attention_settings()
    judge = attention_scorer(parts.attention_decoder)
    return Rescoring(first.search, (judge,), weighings, at(weighings, "_attention_scale_1.0"))


def _needed(model: LanguageModel | None) -> LanguageModel:
    assert model is not None, "what a method uses is read before it is built"
    return model


def _beam(config: DecodingConfig, parts: ModelParts, _: DecodingResources) -> Search:
    return partial(beam_search, steps=transducer(config, parts), beam_size=config.beam_size)


def _ctc_greedy(config: DecodingConfig, parts: ModelParts, _: DecodingResources) -> CtcGreedySearch:
    return CtcGreedySearch(ctc_head(config, parts))


def _ctc_prefix(*uses: str) -> Builder:
    def build(
        config: DecodingConfig, parts: ModelParts, aids: DecodingResources
    ) -> CtcPrefixBeamSearch:
        scorer = aids.scorer(*uses, strict=True)
        return CtcPrefixBeamSearch(ctc_head(config, parts), config.beam_size, scorer)

    return build


_CTC_GREEDY = Method("best path through the CTC head", _ctc_greedy, "ctc")
SEARCHES: dict[str, Method] = {
    "greedy_search": Method("best symbol at each frame", _greedy),
    "beam_search": Method(
        "--beam-size hypotheses, any number of tokens per frame, slow", _beam, can_stream=False
    ),
    "modified_beam_search": Method(
        "--beam-size hypotheses, one token per frame, equal prefixes merged",
        _modified_beam(),
        takes_hot_words=True,
    ),
    "modified_beam_search_lm_shallow_fusion": Method(
        "the same, with a language model in the search",
        _modified_beam("lm"),
        takes_hot_words=True,
        uses=("lm",),
    ),
    "modified_beam_search_LODR": Method(
        "the same, less a token n-gram",
        _modified_beam("lm", "lodr"),
        takes_hot_words=True,
        uses=("lm", "lodr"),
    ),
    "modified_beam_search_ngram_rescoring": Method(
        "modified_beam_search, a token n-gram says which hypotheses stay",
        _ranked_beam,
        uses=("lodr",),
    ),
    "modified_beam_search_lm_rescore": Method(
        "modified_beam_search, its hypotheses judged by a language model",
        _rescored_beam,
        can_stream=False,
        takes_hot_words=True,
        uses=("lm",),
    ),
    "modified_beam_search_lm_rescore_LODR": Method(
        "the same, less a token n-gram",
        _rescored_beam_lodr,
        can_stream=False,
        takes_hot_words=True,
        uses=("lm", "lodr"),
    ),
    "fast_beam_search": Method(
        "best alignment within --beam, --max-states and --max-contexts", fast_beam
    ),
    "ctc-greedy-search": _CTC_GREEDY,
    "ctc_greedy_search": _CTC_GREEDY,
    "ctc-decoding": _CTC_GREEDY._replace(
        meaning="best path through the CTC topology, which is that of ctc-greedy-search"
    ),
    "ctc-prefix-beam-search": Method(
        "--beam-size token sequences of the CTC head, all alignments of each added up",
        _ctc_prefix(),
        "ctc",
        takes_hot_words=True,
    ),
    "ctc-prefix-beam-search-shallow-fussion": Method(
        "the same, with a language model in the search, less a token n-gram if one is given",
        _ctc_prefix("lm", "lodr"),
        "ctc",
        takes_hot_words=True,
        uses=("lm",),
        may_use=("lodr",),
    ),
    "attention-decoder-rescoring-no-ngram": Method(
        "token sequences of the CTC head, judged by the attention decoder",
        _attention,
        "ctc",
        can_stream=False,
        takes_hot_words=True,
        uses=("attention",),
    ),
    **LATTICE_SEARCHES,
}
