"""Settings of decoding: method, beams, lattices, hot-words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zipasr.base.config import flag


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodingConfig:
    """How to turn encoder frames into words."""

    decoding_method: str = flag("greedy_search", "search to use; an unknown name lists them all")
    beam_size: int = flag(4, "hypotheses that a beam search keeps per utterance")
    max_sym_per_frame: int = flag(1, "most tokens that greedy_search emits at one frame")
    skip_scoring: bool = flag(False, "only write the transcripts, compute no error rates")
    blank_penalty: float = flag(0.0, "subtracted from the logit of blank; above 0 fewer deletions")
    use_bf16: bool = flag(False, "encode in bfloat16; ignored where the device is slow at it")
    temperature: float = flag(1.0, "divides the logits; above 1 the alternatives come closer")
    pad_look_ahead: bool = flag(
        False,
        "whole utterances: let the front end see 13 frames of silence behind each, not counted, "
        "so that the result depends on neither the batch nor, with a causal model, the chunks",
    )

    def __post_init__(self) -> None:
        """Check the numbers; ``search_for`` checks the name of the method."""
        if self.beam_size < 1:
            raise ValueError(f"--beam-size must be at least 1, not {self.beam_size}")
        if self.max_sym_per_frame < 1:
            raise ValueError(
                f"--max-sym-per-frame must be at least 1, not {self.max_sym_per_frame}"
            )
        if not self.temperature > 0:
            raise ValueError(f"--temperature must be above 0, not {self.temperature}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LatticeConfig:
    """How much a search that keeps a lattice keeps of it, and what is taken from it."""

    beam: float = flag(20.0, "fast_beam_search keeps what is at most so much worse, in nats")
    max_contexts: int = flag(8, "different contexts that fast_beam_search keeps at a frame")
    max_states: int = flag(64, "states that fast_beam_search keeps at a frame")
    allow_partial: bool = flag(
        False,
        "fast_beam_search, alone and with nbest: where no final state survives, take the best path "
        "that there is; else the result is empty",
    )
    num_paths: int = flag(200, "paths that the nbest methods draw")
    nbest_scale: float = flag(
        0.5, "of the scores when the nbest methods draw paths: the smaller, the more they differ"
    )
    hlg_scale: float = flag(0.6, "weight of the grammar in 1best and the other searches over words")
    search_beam: float = flag(20.0, "these keep what is at most so much worse, in nats")
    output_beam: float = flag(8.0, "and, when they are through, paths that are so much worse")
    max_active_states: int = flag(10000, "states of an utterance that they keep at a frame")

    def __post_init__(self) -> None:
        for name in ("beam", "nbest_scale", "search_beam", "output_beam"):
            if not getattr(self, name) > 0:
                flags = "--" + name.replace("_", "-")
                raise ValueError(f"{flags} must be above 0, not {getattr(self, name)}")
        for name in ("max_contexts", "max_states", "num_paths", "max_active_states"):
            if getattr(self, name) < 1:
                flags = "--" + name.replace("_", "-")
                raise ValueError(f"{flags} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HotWordsConfig:
    """Phrases that the search prefers."""

    context_file: str = flag("", "text file of hot-words, a phrase per line; empty: none")
    context_score: float = flag(2.0, "bonus for each token of a hot-word")

    @property
    def path(self) -> Path | None:
        """The file, if there is one."""
        return Path(self.context_file) if self.context_file else None
