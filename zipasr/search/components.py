"""Components of decoding methods: model parts, vocabulary, external resources."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from zipasr.base.errors import UserError
from zipasr.lm.ngram import NgramLm
from zipasr.search.config import DecodingConfig, LatticeConfig
from zipasr.search.ctc import CtcHead, CtcOutput
from zipasr.search.language_models import LanguageModel
from zipasr.search.rescoring import AttentionDecoderLike, ScaleSetting
from zipasr.search.scorers import ContextGraph, HotWords, TokenScorer, sum_scorers
from zipasr.search.transducer_step import DecoderLike, JoinerLike, TransducerSteps


@dataclass(frozen=True, slots=True)
class ModelParts:
    """What a model offers to a search; a part it lacks is ``None``."""

    decoder: DecoderLike | None
    joiner: JoinerLike | None
    ctc_output: CtcOutput | None = None
    attention_decoder: AttentionDecoderLike | None = None


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Words that a search may find, and how they follow each other.

    Attributes:
        lexicon: words with the token ids of each.
        grammar: an n-gram over words, which takes part in the search.
        large_grammar: one that judges again what was found, or ``None``.
        about: lines that say which they are.
        exact_backoff: no path of a grammar backs off where there is an n-gram.
    """

    lexicon: Sequence[tuple[str, Sequence[int]]]
    grammar: NgramLm
    large_grammar: NgramLm | None = None
    about: tuple[str, ...] = ()
    exact_backoff: bool = False


@dataclass(frozen=True, slots=True)
class DecodingResources:
    """What helps a search beside the model.

    Attributes:
        lattice: limits of the searches that keep a lattice.
        hot_words: phrases with a bonus.
        lm: a language model.
        lm_scale: its weight during a search.
        low_order: what LODR subtracts.
        low_order_scale: its weight during a search, negative; of the grammar of ``vocabulary``
            during a search of the transducer, positive.
        vocabulary: words, for searches over words.
    """

    lattice: LatticeConfig = field(default_factory=LatticeConfig)
    hot_words: ContextGraph | None = None
    lm: LanguageModel | None = None
    lm_scale: float = 0.3
    low_order: LanguageModel | None = None
    low_order_scale: float = 0.0
    vocabulary: Vocabulary | None = None

    def scorer(self, *uses: str, strict: bool = False) -> TokenScorer | None:
        """Return what scores tokens during a search; for ``strict`` see ``ContextGraph.step``.

        ``uses`` names the language models that take part: lm, lodr.
        """
        scorers: list[TokenScorer] = []
        if "lm" in uses and self.lm is not None:
            scorers.append(self.lm.scorer(self.lm_scale))
        if "lodr" in uses and self.low_order is not None:
            scorers.append(self.low_order.scorer(self.low_order_scale))
        if self.hot_words is not None:
            scorers.append(HotWords(self.hot_words, strict=strict))
        return sum_scorers(scorers)


Builder = Callable[[DecodingConfig, ModelParts, DecodingResources], Any]


class Method(NamedTuple):
    """One entry of the table.

    Attributes:
        meaning: what it does, in one line.
        build: makes a ``Resumable`` if ``can_stream``, else a ``Search``.
        head: the head of the model that it reads: transducer or ctc.
        can_stream: whether it can go on from chunk to chunk.
        takes_hot_words: whether ``--context-file`` has an effect.
        uses: what it cannot do without: lm, lodr, attention, words, large (a large grammar),
            reference (what was really said).
        may_use: what it uses where a file of it is given: lodr.
    """

    meaning: str
    build: Builder
    head: str = "transducer"
    can_stream: bool = True
    takes_hot_words: bool = False
    uses: tuple[str, ...] = ()
    may_use: tuple[str, ...] = ()


def ctc_head(config: DecodingConfig, parts: ModelParts) -> CtcHead:
    """Return the CTC head of a model.

    Raises:
        UserError: it has none.
    """
    if parts.ctc_output is None:
        raise UserError(
            f"--decoding-method {config.decoding_method} needs a CTC head, this model has none.",
            "use greedy_search, or train with --use-ctc 1.",
        )
    return CtcHead(
        parts.ctc_output, blank_penalty=config.blank_penalty, temperature=config.temperature
    )


def transducer(config: DecodingConfig, parts: ModelParts) -> TransducerSteps:
    """Return the steps of the transducer of a model.

    Raises:
        UserError: it has none.
    """
    if parts.decoder is None or parts.joiner is None:
        raise UserError(
            f"--decoding-method {config.decoding_method} needs a transducer, this model has none.",
            "use ctc-greedy-search, or train with --use-transducer 1.",
        )
    return TransducerSteps(parts.decoder, parts.joiner, config.blank_penalty, config.temperature)


def words_of_labels(aids: DecodingResources) -> Vocabulary:
    """Return the words that a method looks for."""
    assert aids.vocabulary is not None, "what a method uses is read before it is built"
    return aids.vocabulary


def at(weighings: Sequence[ScaleSetting], name: str) -> ScaleSetting:
    """Return the setting of a name."""
    return next(one for one in weighings if one.name == name)
