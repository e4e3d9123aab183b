"""The CTC head, and greedy search: best symbol of each frame, repeats joined, blanks dropped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from zipasr.nn.numerics import OnItsWay
from zipasr.search.beam_state import PartialHypothesis
from zipasr.search.protocol import Search, Utterance
from zipasr.search.transducer_step import adjusted_log_probs, check_lens

CtcOutput: TypeAlias = Callable[[Tensor], Tensor]
"""Encoder frames (N, T', C) to logits or log-probabilities (N, T', V)."""


@dataclass(frozen=True, slots=True)
class CtcHead:
    """A CTC head, with what sharpens or flattens its scores.

    Attributes:
        output: the head.
        blank_id: id of blank.
        blank_penalty: subtracted from the logit of blank.
        temperature: divides the logits.
    """

    output: CtcOutput
    blank_id: int = 0
    blank_penalty: float = 0.0
    temperature: float = 1.0

    def log_probs(self, frames: Tensor) -> Tensor:
        """Encoder frames (N, T', C) to log-probabilities (N, T', V), float32."""
        logits = self.output(frames)
        return adjusted_log_probs(logits, self.blank_id, self.blank_penalty, self.temperature)


@dataclass(frozen=True, slots=True)
class CtcGreedyState:
    """Where a search stands in N streams.

    Attributes:
        last: (N,) int64, symbol of the last frame; -1 before the first.
        log_probs: (N,), of the path.
        partials: for each stream, what it has recognised.
        num_frames: for each stream, how many frames it has seen.
        last_frames: for each stream, the last of them that is not blank; -1 if all are.
    """

    last: Tensor
    log_probs: Tensor
    partials: list[PartialHypothesis]
    num_frames: list[int]
    last_frames: list[int]


@dataclass(frozen=True, slots=True)
class CtcGreedySearch(Search[CtcGreedyState]):
    """Read the CTC head along its best path.

    Without a language model or a lexicon this is the best path through the lattice of the CTC
    topology, too.

    Args:
        head: the CTC head.

    Source: Graves et al., "Connectionist temporal classification", 2006, section 3.2.
    """

    head: CtcHead

    def start(self, num: int, device: torch.device) -> CtcGreedyState:  # noqa: ARG002
        """State of ``num`` streams of which nothing was heard; it is kept on the host."""
        last = torch.full((num,), -1, dtype=torch.int64)
        partials = [PartialHypothesis()] * num
        return CtcGreedyState(last, torch.zeros(num), partials, [0] * num, [-1] * num)

    @torch.no_grad()
    def advance(self, state: CtcGreedyState, frames: Tensor, lens: Tensor) -> CtcGreedyState:
        """Go on with the next frames (N, T', C) of each stream, ``lens`` (N,) of them valid.

        Raises:
            ValueError: a length is negative or longer than the frames given.
        """
        check_lens(lens, frames.size(1))
        best = self.head.log_probs(frames).max(dim=-1)
        on_way = OnItsWay(best.values), OnItsWay(best.indices)
        values, symbols = (numbers.arrived() for numbers in on_way)
        path = torch.cat((state.last[:, None], symbols), dim=1)
        is_token = (path[:, 1:] != path[:, :-1]) & (path[:, 1:] != self.head.blank_id)
        partials, log_probs = [], state.log_probs.clone()
        last_frames = list(state.last_frames)
        for row, num in enumerate(lens.tolist()):
            before, times = state.partials[row], is_token[row, :num].nonzero().squeeze(1)
            tokens = symbols[row, times].tolist()
            shifted = (times + state.num_frames[row]).tolist()
            partials.append(before.plus(tokens, shifted))
            log_probs[row] += values[row, :num].sum()
            spoken = (symbols[row, :num] != self.head.blank_id).nonzero()
            if len(spoken):
                last_frames[row] = state.num_frames[row] + int(spoken[-1])
        last = path.gather(1, lens.cpu()[:, None]).squeeze(1)
        seen = [before + num for before, num in zip(state.num_frames, lens.tolist(), strict=True)]
        return CtcGreedyState(last, log_probs, partials, seen, last_frames)

    def results(self, state: CtcGreedyState) -> list[Utterance]:
        """What each stream has recognised; a token's frame is the first of its run."""
        return [
            Utterance(list(partial.tokens), list(partial.frames), log_prob, last_frame=last)
            for partial, log_prob, last in zip(
                state.partials, state.log_probs.tolist(), state.last_frames, strict=True
            )
        ]
