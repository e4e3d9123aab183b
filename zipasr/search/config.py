"""Settings of decoding: method, beams, lattices, hot-words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zipasr.base.config import check_numbers, flag
from zipasr.search.methods import MEANINGS


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodingConfig:
    """Decoding."""

    decoding_method: str = flag("greedy_search", "search algorithm", meanings=MEANINGS)
    beam_size: int = flag(4, "hypotheses per utterance in a beam search")
    max_sym_per_frame: int = flag(1, "most tokens per frame in greedy_search")
    skip_scoring: bool = flag(False, "write transcripts only, no error rates")
    blank_penalty: float = flag(
        0.0,
        "value subtracted from the logit of blank; above 0: fewer deletions",
    )
    use_bf16: bool = flag(False, "run the encoder in bfloat16, unless the device is slow at it")
    temperature: float = flag(1.0, "divisor of the logits; above 1: a flatter distribution")
    pad_look_ahead: bool = flag(
        False,
        "append 13 frames of silence to each whole utterance, so that results depend neither on "
        "the batch nor, with a causal model, on the chunks",
    )

    def __post_init__(self) -> None:
        """Check the numbers; ``methods.method_of`` checks the name of the method."""
        check_numbers(self, "must be at least 1", "beam_size max_sym_per_frame")
        check_numbers(self, "must be above 0", "temperature")


@dataclass(frozen=True, slots=True, kw_only=True)
class LatticeConfig:
    """Lattice search."""

    beam: float = flag(20.0, "fast_beam_search: score beam", unit="nats")
    max_contexts: int = flag(8, "fast_beam_search: contexts per frame")
    max_states: int = flag(64, "fast_beam_search: states per frame")
    allow_partial: bool = flag(
        False,
        "fast_beam_search: return the best partial path if no final state is reached; 0: an "
        "empty result",
    )
    num_paths: int = flag(200, "n-best methods: number of paths that are sampled")
    nbest_scale: float = flag(
        0.5,
        "n-best methods: factor on the scores when paths are sampled; smaller: more diverse paths",
    )
    hlg_scale: float = flag(
        0.6,
        "weight of the word n-gram in the word-based CTC methods (1best, nbest, ...)",
    )
    search_beam: float = flag(
        20.0,
        "word-based CTC methods: score beam during the search",
        unit="nats",
    )
    output_beam: float = flag(
        8.0,
        "word-based CTC methods: score beam of the final lattice",
        unit="nats",
    )
    max_active_states: int = flag(10000, "word-based CTC methods: states per frame")

    def __post_init__(self) -> None:
        check_numbers(self, "must be above 0", "beam nbest_scale search_beam output_beam")
        counts = "max_contexts max_states num_paths max_active_states"
        check_numbers(self, "must be at least 1", counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class HotWordsConfig:
    """Hot-words."""

    context_file: str = flag("", "text file of hot-words, one phrase per line; empty: none")
    context_score: float = flag(2.0, "bonus for each token of a hot-word")

    @property
    def path(self) -> Path | None:
        """The file, if there is one."""
        return Path(self.context_file) if self.context_file else None
