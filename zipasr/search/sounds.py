"""What a CTC head and a transducer say to a search through a graph."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zipasr.search.graph_search import Places
from zipasr.search.steps import TransducerSteps

_BITS = 62  # of a whole number that is not negative, to spare


@dataclass(frozen=True)
class CtcSound:
    """A CTC head: it remembers the last token, or that a blank came after it.

    Attributes:
        all_log_probs: (N, T', V), of all frames.
        lens: (N,) valid frames.
        blank_id: id of blank.
    """

    all_log_probs: Tensor
    lens: Tensor
    blank_id: int = 0

    def starts(self, num: int) -> Tensor:
        """Nothing, which is as good as a blank."""
        return torch.full((num,), self.blank_id, device=self.lens.device)

    def log_probs(self, frame: int, places: Places) -> tuple[Tensor, Tensor]:
        """One row for each utterance."""
        return self.all_log_probs[:, frame], places.owners

    def waits(self, memories: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Blank, or the last token once more."""
        everyone = torch.arange(len(memories), device=memories.device)
        blank = torch.full_like(memories, self.blank_id)
        again = (memories != self.blank_id).nonzero().squeeze(1)
        return [(everyone, blank, blank), (again, memories[again], memories[again])]

    def grown(self, memories: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Any token but the last one; that one only after a blank."""
        return memories != tokens, tokens


class TransducerSound:
    """A transducer with at most one token a frame: it remembers the last tokens of its context.

    As in ``FastBeamSearch``, it starts from blanks, and the frame of an utterance's end counts
    nothing.

    Args:
        steps: the transducer.
        frames: (N, T', C), encoder output.
        lens: (N,) valid frames.
    """

    def __init__(self, steps: TransducerSteps, frames: Tensor, lens: Tensor) -> None:
        self._steps, self._frames = steps, steps.project(frames)
        self.lens = (lens - 1).clamp(min=0).to(frames.device)
        # A context as one number: as many bits for each of its tokens.
        self._bits = _BITS // steps.context_size

    def starts(self, num: int) -> Tensor:
        """A context of blanks."""
        blanks = torch.full((num, self._steps.context_size), self._steps.blank_id)
        return self._numbers(blanks.to(self.lens.device))

    def log_probs(self, frame: int, places: Places) -> tuple[Tensor, Tensor]:
        """One row for each context of an utterance."""
        pairs = torch.stack((places.owners, places.memories), dim=1)
        found, rows = torch.unique(pairs, dim=0, return_inverse=True)
        shifts = self._bits * torch.arange(self._steps.context_size - 1, -1, -1)
        contexts = (found[:, 1:] >> shifts.to(found.device)) & ((1 << self._bits) - 1)
        predictions = self._steps.predict(contexts)
        return self._steps.next_scores(self._frames[found[:, 0], frame], predictions), rows

    def waits(self, memories: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Blank, which changes nothing."""
        everyone = torch.arange(len(memories), device=memories.device)
        return [(everyone, torch.full_like(memories, self._steps.blank_id), memories)]

    def grown(self, memories: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Any token, which drives out the oldest."""
        mask = (1 << (self._bits * self._steps.context_size)) - 1
        return torch.ones_like(tokens, dtype=torch.bool), ((memories << self._bits) | tokens) & mask

    def _numbers(self, contexts: Tensor) -> Tensor:
        numbers = torch.zeros_like(contexts[:, 0])
        for token in contexts.T:
            numbers = (numbers << self._bits) | token
        return numbers
