"""Components of decoding methods: parts of a model, resources beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from torch import Tensor, nn

from zipasr.base.errors import UserError
from zipasr.search.config import DecodingConfig, LatticeConfig
from zipasr.search.ctc_greedy import CtcHead, CtcOutput
from zipasr.search.hot_words import ContextGraph, HotWords
from zipasr.search.methods import MethodSpec, Need
from zipasr.search.scorers import TokenScorer, sum_scorers
from zipasr.search.transducer_step import Context, DecoderLike, JoinerLike, TransducerSteps

if TYPE_CHECKING:
    from zipasr.search.language_models import LanguageModel
    from zipasr.search.lexicon_graph import WordGraph
    from zipasr.search.rescoring import AttentionDecoderLike


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
        graph: of a lexicon and of an n-gram over words, unscaled, which takes part in the search.
        large_graph: of the n-gram that scores the results again, or ``None``.
        about: lines that say which they are.
    """

    graph: WordGraph
    large_graph: WordGraph | None = None
    about: tuple[str, ...] = ()


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

    def scorer(
        self, models: frozenset[Need] = frozenset(), *, strict: bool = False
    ) -> TokenScorer | None:
        """Return what scores tokens during a search.

        Args:
            models: the language models that take part, if they are there: ``Need.LM``,
                ``Need.TOKEN_NGRAM``.
            strict: see ``ContextGraph.step``.
        """
        scorers: list[TokenScorer] = []
        if Need.LM in models and self.lm is not None:
            scorers.append(self.lm.scorer(self.lm_scale))
        if Need.TOKEN_NGRAM in models and self.low_order is not None:
            scorers.append(self.low_order.scorer(self.low_order_scale))
        if self.hot_words is not None:
            scorers.append(HotWords(self.hot_words, strict=strict))
        return sum_scorers(scorers)


@dataclass(frozen=True, slots=True)
class MethodInputs:
    """What the search of a decoding method is built of."""

    method: MethodSpec
    config: DecodingConfig
    parts: ModelParts
    resources: DecodingResources

    def ctc_head(self) -> CtcHead:
        """Return the CTC head of the model.

        Raises:
            UserError: it has none.
        """
        if self.parts.ctc_output is None:
            raise self._lacks("a CTC head", "greedy_search", "--use-ctc")
        return CtcHead(
            self.parts.ctc_output,
            blank_penalty=self.config.blank_penalty,
            temperature=self.config.temperature,
        )

    def transducer(self) -> TransducerSteps:
        """Return the steps of the transducer of the model.

        Raises:
            UserError: it has none.
        """
        decoder, joiner = self.parts.decoder, self.parts.joiner
        if decoder is None or joiner is None:
            raise self._lacks("a transducer", "ctc-greedy-search", "--use-transducer")
        # A module may go on learning; tables and files do not.
        memory: dict[Context, Tensor] | None = None if isinstance(decoder, nn.Module) else {}
        settings = self.config.blank_penalty, self.config.temperature
        return TransducerSteps(decoder, joiner, *settings, memory)

    def attention_decoder(self, instead: str) -> AttentionDecoderLike:
        """Return the attention decoder of the model.

        Args:
            instead: a method that does without.

        Raises:
            UserError: it has none.
        """
        if self.parts.attention_decoder is None:
            raise self._lacks("an attention decoder", instead, "--use-attention-decoder")
        return self.parts.attention_decoder

    def _lacks(self, part: str, instead: str, flag: str) -> UserError:
        return UserError(
            f"--decoding-method {self.config.decoding_method} needs {part}, this model has none.",
            f"use {instead}, or train with {flag} 1.",
        )


R = TypeVar("R")


def needed(resource: R | None) -> R:
    """Return a resource of a method, which is read before the search is built."""
    assert resource is not None, "what a method needs is read before it is built"
    return resource
