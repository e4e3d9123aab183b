"""From encoder frames to token sequences.

``methods`` is the table of ``--decoding-method``, ``registry`` builds the search of a row (with
``lattice_methods``: those with a lattice or a second score), ``components`` are what it is built
of, ``protocol`` what it takes and returns, ``config`` its flags. Transducer: ``transducer_step``,
``greedy`` (on a GPU: ``greedy_blocks``), ``modified_beam_search`` (with ``beam_state``,
``batched_state`` and ``single_utterance_beam``), ``beam_search`` (any number of tokens a frame),
``fast_beam_search`` (with ``fast_beam_frame``); their steps on a GPU: ``triton_steps``. CTC:
``ctc_greedy``, ``ctc_prefix``. Beside the model: ``scorers`` (what they are, and sums),
``hot_words`` and ``language_models``. Lattices: ``lattice``, ``lexicon_graph``, ``graph_search``
(with ``partial_lattice``), ``lattice_intersect``, ``rescoring``. ``forced_alignment``: times of a
given transcript, probabilities of recognised tokens.

For decoders and joiners of one's own: ``transducer_search`` and ``ctc_search``, defined in
``registry`` too; see docs/parts.md.
"""

from typing import TYPE_CHECKING

from zipasr.base.lazy import lazy_names

__all__ = [
    "ContextGraph",
    "CtcGreedySearch",
    "CtcHead",
    "CtcPrefixBeamSearch",
    "DecoderLike",
    "DecodingConfig",
    "DecodingResources",
    "FastBeamSearch",
    "GreedySearch",
    "HotWords",
    "JoinerLike",
    "ModelParts",
    "ModifiedBeamSearch",
    "Search",
    "TransducerSteps",
    "Utterance",
    "build_search",
    "ctc_alignment",
    "ctc_search",
    "transducer_alignment",
    "transducer_search",
]

if TYPE_CHECKING:
    from zipasr.search.components import DecodingResources, ModelParts
    from zipasr.search.config import DecodingConfig
    from zipasr.search.ctc_greedy import CtcGreedySearch, CtcHead
    from zipasr.search.ctc_prefix import CtcPrefixBeamSearch
    from zipasr.search.fast_beam_search import FastBeamSearch
    from zipasr.search.forced_alignment import ctc_alignment, transducer_alignment
    from zipasr.search.greedy import GreedySearch
    from zipasr.search.hot_words import ContextGraph, HotWords
    from zipasr.search.modified_beam_search import ModifiedBeamSearch
    from zipasr.search.protocol import Search, Utterance
    from zipasr.search.registry import build_search, ctc_search, transducer_search
    from zipasr.search.transducer_step import DecoderLike, JoinerLike, TransducerSteps
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "forced_alignment": ["ctc_alignment", "transducer_alignment"],
            "components": ["DecodingResources", "ModelParts"],
            "config": ["DecodingConfig"],
            "ctc_greedy": ["CtcGreedySearch", "CtcHead"],
            "ctc_prefix": ["CtcPrefixBeamSearch"],
            "fast_beam_search": ["FastBeamSearch"],
            "greedy": ["GreedySearch"],
            "hot_words": ["ContextGraph", "HotWords"],
            "modified_beam_search": ["ModifiedBeamSearch"],
            "protocol": ["Search", "Utterance"],
            "registry": ["build_search", "ctc_search", "transducer_search"],
            "transducer_step": ["DecoderLike", "JoinerLike", "TransducerSteps"],
        },
    )
