"""Interface of a decoding method: what it is given, what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Utterance:
    """What was recognised in one utterance.

    Attributes:
        tokens: ids of the recognised tokens, without blanks.
        frames: for each token, the encoder frame (40 ms, from 0) at which it was emitted.
        log_prob: natural logarithm of the probability that the search gives to ``tokens``: of
            the one path it followed (greedy) or of all paths it kept and merged (beam).
        words: what the tokens spell, where the search looked for words; else ``None``.
    """

    tokens: list[int]
    frames: list[int]
    log_prob: float
    words: tuple[str, ...] | None = None


Search: TypeAlias = Callable[[Tensor, Tensor], list[Utterance]]
"""Encoder frames (N, T', C) and their lengths (N,) to N utterances, in the same order."""

S = TypeVar("S")


class StreamingSearch(Protocol[S]):
    """A search that can stop after a chunk and go on with the next; a state holds N streams.

    What it finds does not depend on where the chunks end. ``batched_state`` stacks and selects
    states.
    """

    def start(self, num: int, device: torch.device) -> S:
        """State of ``num`` streams of which nothing was heard."""

    def advance(self, state: S, frames: Tensor, lens: Tensor) -> S:
        """Go on with the next frames (N, T', C), ``lens`` (N,) of them valid."""

    def results(self, state: S) -> list[Utterance]:
        """What each stream has recognised so far."""


def as_batch_search(resumable: StreamingSearch[S]) -> Search:
    """Search utterances that are there as a whole."""

    def search(frames: Tensor, lens: Tensor) -> list[Utterance]:
        state = resumable.start(len(lens), frames.device)
        return resumable.results(resumable.advance(state, frames, lens))

    return search
