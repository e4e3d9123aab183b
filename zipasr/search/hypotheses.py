"""Hypotheses of a beam: which are equal, and how they came about."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from zipasr.search.types import Utterance

# An odd 64-bit constant with irregular bits (the golden ratio times 2^64, as a signed number).
_MULTIPLIER = 0x9E3779B97F4A7C15 - (1 << 64)


def extend_fingerprints(fingerprints: Tensor, tokens: Tensor) -> Tensor:
    """Fingerprints of token sequences that grew by one token.

    Equal sequences have equal fingerprints. Two different ones among the few of a beam share
    one with a chance of about 2^-64 per comparison, so comparing fingerprints replaces
    comparing sequences. One step is a bijection for each token.

    Args:
        fingerprints: int64, of the sequences before; the empty sequence has 0.
        tokens: int64 of the same shape.
    """
    mixed = (fingerprints ^ (tokens + 1)) * _MULTIPLIER
    return mixed ^ (mixed >> 29)


def merge_equal(log_probs: Tensor, fingerprints: Tensor) -> Tensor:
    """Join hypotheses with the same tokens: the first one gets the sum of the probabilities.

    Args:
        log_probs: (N, B), -inf where a slot is empty; best first.
        fingerprints: (N, B), of the token sequences.

    Returns:
        (N, B) log-probabilities; -inf in the slots that were merged into an earlier one.
    """
    same = fingerprints[:, :, None] == fingerprints[:, None, :]
    totals = torch.where(same, log_probs[:, None, :], -math.inf).logsumexp(dim=-1)
    is_repeat = same.tril(diagonal=-1).any(dim=-1)
    return totals.masked_fill(is_repeat, -math.inf)


@dataclass(frozen=True, slots=True)
class Beams:
    """The hypotheses of N utterances, in B slots each.

    Attributes:
        log_probs: (N, B), -inf where the slot is empty.
        fingerprints: (N, B) int64, equal where the tokens are equal.
        num_tokens: (N, B) int64.
        contexts: (N, B, C) int64, last tokens.
        predictions: (N, B, J), what the decoder makes of the contexts.
    """

    log_probs: Tensor
    fingerprints: Tensor
    num_tokens: Tensor
    contexts: Tensor
    predictions: Tensor

    def first(self, num: int) -> Beams:
        """Keep the first ``num`` utterances."""
        if num == self.log_probs.size(0):
            return self
        return Beams(
            self.log_probs[:num],
            self.fingerprints[:num],
            self.num_tokens[:num],
            self.contexts[:num],
            self.predictions[:num],
        )


class History:
    """Where each hypothesis came from, frame by frame, and where its utterance stands now.

    Tokens are not copied along while the search runs; the winner is read backwards at the end.
    """

    def __init__(self, num_frames: int, beams: Beams, blank_id: int) -> None:
        """Start at ``beams``, with room for ``num_frames`` frames."""
        shape = (num_frames, *beams.log_probs.shape)
        self._parents = beams.num_tokens.new_zeros(shape)
        self._tokens = beams.num_tokens.new_zeros(shape)
        self._log_probs = beams.log_probs.clone()
        self._num_tokens = beams.num_tokens.clone()
        self._blank_id = blank_id

    def record(self, frame: int, beams: Beams, parents: Tensor, tokens: Tensor) -> None:
        """Note the state after ``frame`` of the first M utterances.

        Args:
            frame: index of the frame.
            beams: of M utterances, after the frame.
            parents: (M, B), slot before the frame from which each slot came.
            tokens: (M, B), symbol it took, blank included.
        """
        num_alive = parents.size(0)
        self._parents[frame, :num_alive] = parents
        self._tokens[frame, :num_alive] = tokens
        self._log_probs[:num_alive] = beams.log_probs
        self._num_tokens[:num_alive] = beams.num_tokens

    def winners(self, lens: list[int], context_size: int) -> list[Utterance]:
        """Choose the best hypothesis of each utterance by log-probability per symbol.

        The ``context_size`` start symbols count as symbols, as in the published searches.
        """
        norms = self._log_probs / (self._num_tokens + context_size)
        slots = norms.argmax(dim=-1, keepdim=True)
        log_probs = self._log_probs.gather(1, slots).squeeze(1).tolist()
        parents, symbols = self._parents.tolist(), self._tokens.tolist()
        utterances = []
        for row, (slot, num_frames) in enumerate(zip(slots.squeeze(1).tolist(), lens, strict=True)):
            tokens, frames = [], []
            for frame in reversed(range(num_frames)):
                symbol = symbols[frame][row][slot]
                if symbol != self._blank_id:
                    tokens.append(symbol)
                    frames.append(frame)
                slot = parents[frame][row][slot]
            utterances.append(Utterance(tokens[::-1], frames[::-1], log_probs[row]))
        return utterances
