"""The table from ``--decoding-method`` to a search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from zipasr.base.errors import UserError, nearest
from zipasr.search.beam import modified_beam_search
from zipasr.search.ctc import CtcOutput, ctc_greedy_search
from zipasr.search.greedy import greedy_search
from zipasr.search.steps import DecoderLike, JoinerLike, TransducerSteps
from zipasr.search.types import DecodingConfig, Search


@dataclass(frozen=True, slots=True)
class ModelParts:
    """What a model offers to a search; a part it lacks is ``None``."""

    decoder: DecoderLike | None
    joiner: JoinerLike | None
    ctc_output: CtcOutput | None = None


class Method(NamedTuple):
    """One entry of the table: what it does in one line, and how to build it."""

    meaning: str
    build: Callable[[DecodingConfig, ModelParts], Search]


def search_for(
    config: DecodingConfig,
    decoder: DecoderLike | None,
    joiner: JoinerLike | None,
    ctc_output: CtcOutput | None = None,
) -> Search:
    """Build the search that ``config`` asks for.

    Args:
        config: method and its settings.
        decoder: of the transducer, or ``None`` for a model without.
        joiner: of the transducer, or ``None`` for a model without.
        ctc_output: encoder frames (N, T', C) to CTC log-probabilities (N, T', V), or ``None``.

    Raises:
        UserError: the method is unknown, not available yet, or needs a part the model lacks.
    """
    check_method(config.decoding_method)
    parts = ModelParts(decoder, joiner, ctc_output)
    return SEARCHES[config.decoding_method].build(config, parts)


def check_method(name: str) -> None:
    """Refuse a ``--decoding-method`` that cannot be run, before anything is loaded.

    Raises:
        UserError: says which names there are and what they mean.
    """
    if name in SEARCHES:
        return
    known = "; ".join(f"{known} ({method.meaning})" for known, method in SEARCHES.items())
    fix = f"choose one of: {known}."
    if name in NOT_YET:
        raise UserError(f"--decoding-method {name} is not available yet.", fix)
    what = f"unknown --decoding-method {name!r}, {nearest(name, SEARCHES)}".rstrip(", ")
    raise UserError(what if what.endswith("?") else f"{what}.", fix)


def _greedy(config: DecodingConfig, parts: ModelParts) -> Search:
    steps = _transducer(config, parts)
    return partial(greedy_search, steps=steps, max_sym_per_frame=config.max_sym_per_frame)


def _modified_beam(config: DecodingConfig, parts: ModelParts) -> Search:
    steps = _transducer(config, parts)
    return partial(modified_beam_search, steps=steps, beam_size=config.beam_size)


def _ctc_greedy(config: DecodingConfig, parts: ModelParts) -> Search:
    if parts.ctc_output is None:
        raise UserError(
            f"--decoding-method {config.decoding_method} needs a CTC head, this model has none.",
            "use greedy_search, or train with --use-ctc 1.",
        )
    return partial(
        ctc_greedy_search,
        ctc_output=parts.ctc_output,
        blank_penalty=config.blank_penalty,
        temperature=config.temperature,
    )


def _transducer(config: DecodingConfig, parts: ModelParts) -> TransducerSteps:
    if parts.decoder is None or parts.joiner is None:
        raise UserError(
            f"--decoding-method {config.decoding_method} needs a transducer, this model has none.",
            "use ctc_greedy_search, or train with --use-transducer 1.",
        )
    return TransducerSteps(parts.decoder, parts.joiner, config.blank_penalty, config.temperature)


SEARCHES: dict[str, Method] = {
    "greedy_search": Method("best symbol at each frame", _greedy),
    "modified_beam_search": Method(
        "--beam-size hypotheses, one token per frame, equal prefixes merged", _modified_beam
    ),
    "ctc_greedy_search": Method("best path through the CTC head", _ctc_greedy),
}

# Names that published recipes use and that users will try.
NOT_YET = (
    "beam_search",
    "modified_beam_search_LODR",
    "modified_beam_search_lm_shallow_fusion",
    "modified_beam_search_lm_rescore",
    "modified_beam_search_lm_rescore_LODR",
    "fast_beam_search",
    "fast_beam_search_nbest",
    "fast_beam_search_nbest_LG",
    "fast_beam_search_nbest_oracle",
)
