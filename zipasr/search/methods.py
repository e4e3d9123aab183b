"""Table of decoding methods: what each one does, reads and needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import Literal

from zipasr.base.config import unknown_value
from zipasr.base.errors import UserError

Head = Literal["transducer", "ctc"]


class Need(Enum):
    """What a method uses beside the head that it reads."""

    LM = auto()  # language model over tokens
    TOKEN_NGRAM = auto()  # low-order n-gram over tokens, which LODR subtracts
    LEXICON = auto()  # words with their tokens, and a grammar
    LARGE_GRAMMAR = auto()  # second grammar, for rescoring
    ATTENTION = auto()  # attention decoder of the model
    REFERENCE = auto()  # what was said


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSpec:
    """One decoding method.

    Attributes:
        name: value of ``--decoding-method``.
        meaning: what it does, in one line.
        head: the head of the model that it reads.
        factory: ``module:function`` that builds the search from ``DecodingConfig``, ``ModelParts``
            and ``DecodingResources``.
        needs: what it cannot do without.
        optional: what it uses where a file of it is given.
        streams: whether it can go on from chunk to chunk.
        nbest: whether it keeps several hypotheses.
        hot_words: whether ``--context-file`` has an effect.
        lm_weight: where the weights of its language models come from: from flags, or several are
            tried and reported (tuned).
        alias_of: the method that it is another name of.
        in_all: whether ``--methods all`` tries it; names of other methods are never tried.
        file_fields: settings in the names of its result files, in order.
        key_fields: settings in its key in summaries, in order.
    """

    name: str
    meaning: str
    head: Head
    factory: str
    needs: frozenset[Need] = frozenset()
    optional: frozenset[Need] = frozenset()
    streams: bool = True
    nbest: bool = True
    hot_words: bool = False
    lm_weight: Literal["none", "flag", "tuned"] = "none"
    alias_of: str | None = None
    in_all: bool = True
    file_fields: tuple[str, ...] = ()
    key_fields: tuple[str, ...] = ()


#: The method that others are compared with, by the head that they read.
GREEDY: Mapping[Head, str] = MappingProxyType(
    {"transducer": "greedy_search", "ctc": "ctc-greedy-search"}
)

#: ``file_fields`` and ``key_fields`` of methods with a beam and no lattice.
BEAM_FIELDS = ("beam_size",)

_FAST = ("beam", "max_contexts", "max_states", "allow_partial")
_HLG = ("hlg_scale",)
_PATHS = ("nbest_scale", "num_paths")  # in keys the other way round, as in icefall

_ROWS = (
    MethodSpec(
        name="greedy_search",
        meaning="best symbol at each frame",
        head="transducer",
        factory="zipasr.search.registry:greedy",
        nbest=False,
        file_fields=("context_size", "max_sym_per_frame"),
    ),
    MethodSpec(
        name="beam_search",
        meaning="--beam-size hypotheses, any number of tokens per frame; slow",
        head="transducer",
        factory="zipasr.search.lattice_methods:beam",
        nbest=False,
        streams=False,
        in_all=False,
        file_fields=BEAM_FIELDS,
        key_fields=BEAM_FIELDS,
    ),
    MethodSpec(
        name="modified_beam_search",
        meaning="--beam-size hypotheses, at most one token per frame",
        head="transducer",
        factory="zipasr.search.registry:modified_beam",
        hot_words=True,
        file_fields=BEAM_FIELDS,
        key_fields=BEAM_FIELDS,
    ),
    MethodSpec(
        name="modified_beam_search_lm_shallow_fusion",
        meaning="modified_beam_search, scores of a language model added",
        head="transducer",
        factory="zipasr.search.registry:modified_beam",
        needs=frozenset({Need.LM}),
        hot_words=True,
        lm_weight="flag",
        file_fields=BEAM_FIELDS,
        key_fields=BEAM_FIELDS,
    ),
    MethodSpec(
        name="modified_beam_search_LODR",
        meaning="modified_beam_search, scores of a language model added and those of a token "
        "n-gram subtracted",
        head="transducer",
        factory="zipasr.search.registry:modified_beam",
        needs=frozenset({Need.LM, Need.TOKEN_NGRAM}),
        hot_words=True,
        lm_weight="flag",
        file_fields=BEAM_FIELDS,
        key_fields=BEAM_FIELDS,
    ),
    MethodSpec(
        name="modified_beam_search_ngram_rescoring",
        meaning="modified_beam_search, pruned with the scores of a token n-gram",
        head="transducer",
        factory="zipasr.search.registry:modified_beam_ranked",
        needs=frozenset({Need.TOKEN_NGRAM}),
        lm_weight="flag",
        file_fields=BEAM_FIELDS,
        key_fields=BEAM_FIELDS,
    ),
    MethodSpec(
        name="modified_beam_search_lm_rescore",
        meaning="modified_beam_search, hypotheses rescored with a language model",
        head="transducer",
        factory="zipasr.search.lattice_methods:modified_beam_rescored",
        needs=frozenset({Need.LM}),
        streams=False,
        hot_words=True,
        lm_weight="tuned",
        file_fields=BEAM_FIELDS,
        key_fields=BEAM_FIELDS,
    ),
    MethodSpec(
        name="modified_beam_search_lm_rescore_LODR",
        meaning="the same, scores of a token n-gram subtracted",
        head="transducer",
        factory="zipasr.search.lattice_methods:modified_beam_rescored",
        needs=frozenset({Need.LM, Need.TOKEN_NGRAM}),
        streams=False,
        hot_words=True,
        lm_weight="tuned",
        file_fields=BEAM_FIELDS,
        key_fields=BEAM_FIELDS,
    ),
    MethodSpec(
        name="fast_beam_search",
        meaning="best alignment within --beam, --max-states, --max-contexts",
        head="transducer",
        factory="zipasr.search.lattice_methods:fast_beam",
        nbest=False,
        file_fields=_FAST,
        key_fields=_FAST,
    ),
    MethodSpec(
        name="ctc-greedy-search",
        meaning="best alignment",
        head="ctc",
        factory="zipasr.search.registry:ctc_greedy",
        nbest=False,
    ),
    MethodSpec(
        name="ctc_greedy_search",
        meaning="another name of ctc-greedy-search",
        head="ctc",
        factory="zipasr.search.registry:ctc_greedy",
        nbest=False,
        alias_of="ctc-greedy-search",
    ),
    MethodSpec(
        name="ctc-decoding",
        meaning="best path through the CTC topology; equals ctc-greedy-search",
        head="ctc",
        factory="zipasr.search.registry:ctc_greedy",
        nbest=False,
        alias_of="ctc-greedy-search",
    ),
    MethodSpec(
        name="ctc-prefix-beam-search",
        meaning="--beam-size token sequences, summed over alignments",
        head="ctc",
        factory="zipasr.search.registry:ctc_prefix",
        hot_words=True,
        file_fields=BEAM_FIELDS,
        key_fields=BEAM_FIELDS,
    ),
    MethodSpec(
        name="ctc-prefix-beam-search-shallow-fussion",
        meaning="ctc-prefix-beam-search, scores of a language model added, those of a token "
        "n-gram subtracted if one is given",
        head="ctc",
        factory="zipasr.search.registry:ctc_prefix",
        needs=frozenset({Need.LM}),
        optional=frozenset({Need.TOKEN_NGRAM}),
        hot_words=True,
        lm_weight="flag",
        file_fields=BEAM_FIELDS,
        key_fields=BEAM_FIELDS,
    ),
    MethodSpec(
        name="attention-decoder-rescoring-no-ngram",
        meaning="ctc-prefix-beam-search, hypotheses rescored with the attention decoder",
        head="ctc",
        factory="zipasr.search.lattice_methods:ctc_prefix_attention",
        needs=frozenset({Need.ATTENTION}),
        streams=False,
        hot_words=True,
        file_fields=("context_size", "max_sym_per_frame"),
    ),
    MethodSpec(
        name="fast_beam_search_nbest",
        meaning="token sequence with the largest sum over --num-paths sampled paths of "
        "fast_beam_search",
        head="transducer",
        factory="zipasr.search.lattice_methods:fast_beam_nbest",
        streams=False,
        file_fields=(*_FAST, *_PATHS),
        key_fields=(*_FAST, *_PATHS[::-1]),
    ),
    MethodSpec(
        name="fast_beam_search_nbest_oracle",
        meaning="the sampled path of fast_beam_search nearest to the reference",
        head="transducer",
        factory="zipasr.search.lattice_methods:fast_beam_nbest",
        needs=frozenset({Need.REFERENCE}),
        streams=False,
        file_fields=(*_FAST, *_PATHS),
        key_fields=(*_FAST, *_PATHS[::-1]),
    ),
    MethodSpec(
        name="fast_beam_search_nbest_LG",
        meaning="fast_beam_search_nbest over the words of a lexicon and a word n-gram",
        head="transducer",
        factory="zipasr.search.lattice_methods:fast_beam_words",
        needs=frozenset({Need.LEXICON}),
        streams=False,
        file_fields=(*_FAST, *_PATHS, "ngram_lm_scale"),
        key_fields=(*_FAST, *_PATHS[::-1], "ngram_lm_scale"),
    ),
    MethodSpec(
        name="1best",
        meaning="best path through a lexicon and a word n-gram",
        head="ctc",
        factory="zipasr.search.lattice_methods:ctc_words_best",
        nbest=False,
        needs=frozenset({Need.LEXICON}),
        streams=False,
        file_fields=_HLG,
        key_fields=_HLG,
    ),
    MethodSpec(
        name="nbest",
        meaning="word sequence with the largest sum over --num-paths sampled paths of 1best",
        head="ctc",
        factory="zipasr.search.lattice_methods:ctc_words_nbest",
        needs=frozenset({Need.LEXICON}),
        streams=False,
        file_fields=(*_HLG, *_PATHS),
        key_fields=(*_HLG, *_PATHS[::-1]),
    ),
    MethodSpec(
        name="nbest-oracle",
        meaning="the sampled path of nbest nearest to the reference",
        head="ctc",
        factory="zipasr.search.lattice_methods:ctc_words_nbest",
        needs=frozenset({Need.LEXICON, Need.REFERENCE}),
        streams=False,
        file_fields=(*_HLG, *_PATHS),
        key_fields=(*_HLG, *_PATHS[::-1]),
    ),
    MethodSpec(
        name="nbest-rescoring",
        meaning="nbest, rescored with a larger word n-gram",
        head="ctc",
        factory="zipasr.search.lattice_methods:ctc_words_rescored",
        needs=frozenset({Need.LEXICON, Need.LARGE_GRAMMAR}),
        streams=False,
        file_fields=(*_HLG, *_PATHS),
        key_fields=(*_HLG, *_PATHS[::-1]),
    ),
    MethodSpec(
        name="whole-lattice-rescoring",
        meaning="1best, the lattice rescored with a larger word n-gram",
        head="ctc",
        factory="zipasr.search.lattice_methods:ctc_words_whole_lattice",
        needs=frozenset({Need.LEXICON, Need.LARGE_GRAMMAR}),
        streams=False,
        file_fields=_HLG,
        key_fields=_HLG,
    ),
    MethodSpec(
        name="attention-decoder-rescoring-with-ngram",
        meaning="nbest, rescored with a larger word n-gram and the attention decoder",
        head="ctc",
        factory="zipasr.search.lattice_methods:ctc_words_attention",
        needs=frozenset({Need.LEXICON, Need.LARGE_GRAMMAR, Need.ATTENTION}),
        streams=False,
        file_fields=(*_HLG, *_PATHS),
        key_fields=(*_HLG, *_PATHS[::-1]),
    ),
)
METHODS: Mapping[str, MethodSpec] = MappingProxyType({row.name: row for row in _ROWS})


#: Values of ``--decoding-method`` and what each means, with the head that it reads.
MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        row.name: f"{'CTC' if row.head == 'ctc' else 'transducer'}: {row.meaning}"
        for row in METHODS.values()
    }
)


#: Command that prints them.
EXPLAINED_BY = "./decode.py --decoding-method help"


def method_of(name: str) -> MethodSpec:
    """Return the row of a ``--decoding-method``.

    Raises:
        UserError: there is none; says which names there are.
    """
    if name not in METHODS:
        raise unknown_value("--decoding-method", name, METHODS, EXPLAINED_BY)
    return METHODS[name]


def check_takes_hot_words(method: MethodSpec) -> None:
    """Refuse hot-words for a method that cannot use them.

    Raises:
        UserError: says which methods can.
    """
    if not method.hot_words:
        raise UserError(
            f"--decoding-method {method.name} cannot use the hot-words of --context-file.",
            f"choose one of: {', '.join(one.name for one in _ROWS if one.hot_words)}.",
        )


def check_streams(method: MethodSpec) -> None:
    """Refuse a method that needs whole utterances.

    Raises:
        UserError: says which methods do not.
    """
    if not method.streams:
        raise UserError(
            f"--decoding-method {method.name} needs whole utterances.",
            f"choose one of: {', '.join(one.name for one in _ROWS if one.streams)}.",
        )
