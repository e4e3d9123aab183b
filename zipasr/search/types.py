"""What a search takes and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from zipasr.base.config import flag


@dataclass(frozen=True, slots=True)
class Utterance:
    """What was recognised in one utterance.

    Attributes:
        tokens: ids of the recognised tokens, without blanks.
        frames: for each token, the encoder frame (40 ms, from 0) at which it was emitted.
        log_prob: natural logarithm of the probability that the search gives to ``tokens``: of
            the one path it followed (greedy) or of all paths it kept and merged (beam).
    """

    tokens: list[int]
    frames: list[int]
    log_prob: float


Search: TypeAlias = Callable[[Tensor, Tensor], list[Utterance]]
"""Encoder frames (N, T', C) and their lengths (N,) to N utterances, in the same order."""


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
