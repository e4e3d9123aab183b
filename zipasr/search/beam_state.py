"""State of beam searches: hypotheses and their merging, and the loop over frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from zipasr.nn.numerics import OnItsWay
from zipasr.search.batched_state import rows_of, stack
from zipasr.search.protocol import Utterance, not_finite
from zipasr.search.scorers import ScorerState
from zipasr.search.transducer_step import LongestFirst

# An odd 64-bit constant with irregular bits (the golden ratio times 2^64, as a signed number).
MULTIPLIER = 0x9E3779B97F4A7C15 - (1 << 64)


def extend_fingerprints(fingerprints: Tensor, tokens: Tensor) -> Tensor:
    """Fingerprints of token sequences that grew by one token.

    Equal sequences have equal fingerprints. Two different ones among the few of a beam share
    one with a chance of about 2^-64 per comparison, so comparing fingerprints replaces
    comparing sequences. One step is a bijection for each token.

    Args:
        fingerprints: int64, of the sequences before; the empty sequence has 0.
        tokens: int64 of the same shape.
    """
    mixed = (fingerprints ^ (tokens + 1)) * MULTIPLIER
    return mixed ^ (mixed >> 29)


def fingerprint_of(fingerprint: int, token: int) -> int:
    """Return what ``extend_fingerprints`` makes of one number."""
    mixed = _signed((fingerprint ^ (token + 1)) * MULTIPLIER)
    return mixed ^ (mixed >> 29)


def _signed(number: int) -> int:
    """Keep the lowest 64 bits of a number, the highest of them as its sign."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def fingerprints_of(*parts: Tensor) -> Tensor:
    """Fingerprints (M,) of rows: equal where all ``parts`` (M,) int64 are."""
    marks = torch.zeros_like(parts[0])
    for part in parts:
        marks = extend_fingerprints(marks, part)
    return marks


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
        log_probs: (N, B), of the model, -inf where the slot is empty.
        bonuses: (N, B), sum of what the scorer that helps the search gave.
        fingerprints: (N, B) int64, equal where the tokens are equal.
        num_tokens: (N, B) int64.
        contexts: (N, B, C) int64, last tokens.
        predictions: (N, B, J), what the decoder makes of the contexts.
        scorer: state of the scorer, each tensor (N, B, ...).
    """

    log_probs: Tensor
    bonuses: Tensor
    fingerprints: Tensor
    num_tokens: Tensor
    contexts: Tensor
    predictions: Tensor
    scorer: ScorerState = ()

    def books(self) -> tuple[Tensor, ...]:
        """All but predictions and the state of the scorer."""
        return (
            self.log_probs,
            self.bonuses,
            self.fingerprints,
            self.num_tokens,
            self.contexts,
        )

    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors."""
        return (*self.books(), self.predictions, *self.scorer)

    def map(self, function: Callable[[Tensor], Tensor]) -> Beams:
        """Return the same with another tensor for each of its tensors."""
        first, second, third, fourth, fifth, sixth, *rest = map(function, self.tensors())
        return Beams(first, second, third, fourth, fifth, sixth, tuple(rest))


@dataclass(frozen=True, slots=True)
class PartialHypothesis:
    """What a hypothesis has recognised so far: tokens and the frame of each."""

    tokens: tuple[int, ...] = ()
    frames: tuple[int, ...] = ()

    def plus(self, tokens: Iterable[int], frames: Iterable[int]) -> PartialHypothesis:
        """Return the same with more tokens, and the frame of each."""
        return PartialHypothesis((*self.tokens, *tokens), (*self.frames, *frames))


class BackPointers:
    """Where each slot of a beam came from, frame by frame.

    Tokens are not copied along while the search runs; they are read backwards at the end.
    """

    def __init__(self, parents: Tensor, symbols: Tensor, blank_id: int) -> None:
        """Take records (T, N, B) that are there already; see ``record``."""
        self._parents, self._symbols, self._blank_id = parents, symbols, blank_id

    @classmethod
    def with_room(
        cls,
        num_frames: int,
        num_rows: int,
        num_slots: int,
        blank_id: int,
        device: torch.device | None = None,
    ) -> BackPointers:
        """Make room for the frames of a batch; at first, nothing happens in any of them."""
        shape = (num_frames, num_rows, num_slots)
        parents = torch.arange(num_slots, device=device).expand(shape).contiguous()
        return cls(parents, torch.full(shape, blank_id, dtype=torch.int64, device=device), blank_id)

    def record(self, frame: int, parents: Tensor, symbols: Tensor) -> None:
        """Note what the first M utterances did at ``frame``.

        Args:
            frame: index of the frame.
            parents: (M, B), slot before the frame from which each slot came.
            symbols: (M, B), symbol it took, blank included.
        """
        self._parents[frame, : parents.size(0)] = parents
        self._symbols[frame, : symbols.size(0)] = symbols

    def grown(
        self, before: list[list[PartialHypothesis]], first_frames: list[int]
    ) -> list[list[PartialHypothesis]]:
        """Return what every slot has recognised at the end.

        Args:
            before: for each utterance and slot, what it had recognised before the first frame.
            first_frames: for each utterance, the index of the first frame.
        """
        num_frames, num_rows, num_slots = self._parents.shape
        # Small steps, for which launches would take longer; one wait for a device brings both.
        on_way = OnItsWay(self._parents), OnItsWay(self._symbols)
        all_parents, all_symbols = (records.arrived() for records in on_way)
        slots = torch.arange(num_slots).expand(num_rows, num_slots)
        taken = torch.empty_like(all_symbols)
        for frame in reversed(range(num_frames)):
            taken[frame] = all_symbols[frame].gather(1, slots)
            slots = all_parents[frame].gather(1, slots)
        by_slot = taken.permute(1, 2, 0)
        where = (by_slot != self._blank_id).nonzero()
        symbols = by_slot[tuple(where.T)].tolist()
        found: list[list[tuple[list[int], list[int]]]] = [
            [([], []) for _ in range(num_slots)] for _ in range(num_rows)
        ]
        for (row, slot, frame), symbol in zip(where.tolist(), symbols, strict=True):
            tokens, frames = found[row][slot]
            tokens.append(symbol)
            frames.append(first_frames[row] + frame)
        return [
            [
                before[row][origin].plus(tokens, frames)
                for origin, (tokens, frames) in zip(origins, found[row], strict=True)
            ]
            for row, origins in enumerate(slots.tolist())
        ]


def ranked(
    partials: list[list[PartialHypothesis]], log_probs: Tensor, norms: Tensor
) -> list[list[Utterance]]:
    """List the hypotheses of each utterance, best first; empty slots are left out.

    Args:
        partials: for each utterance and slot, what it has recognised.
        log_probs: (N, B), -inf where a slot is empty.
        norms: (N, B), what decides about the order.

    Raises:
        NumericError: a log-probability is no number.
    """
    on_way = OnItsWay(log_probs), OnItsWay(norms)
    log_probs, norms = (values.arrived() for values in on_way)
    if bool(log_probs.isnan().any()):
        raise not_finite()
    # A NaN would compare as anything: an empty slot has no norm.
    order = norms.masked_fill(log_probs == -math.inf, -math.inf).argsort(
        dim=-1, descending=True, stable=True
    )
    return [
        [
            Utterance(list(row[slot].tokens), list(row[slot].frames), values[slot])
            for slot in slots
            if values[slot] > -math.inf
        ]
        for row, slots, values in zip(partials, order.tolist(), log_probs.tolist(), strict=True)
    ]


B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class BeamSearchState(Generic[B]):
    """Where a beam search stands in N streams.

    Attributes:
        beams: the hypotheses of each stream, a state as ``batched_state`` defines it.
        partials: for each stream and slot, what it has recognised.
        num_frames: for each stream, how many frames it has seen.
    """

    beams: B
    partials: list[list[PartialHypothesis]]
    num_frames: list[int]

    @classmethod
    def at_start(cls, beams: B, num: int, slots: int) -> BeamSearchState[B]:
        """Stand before the first frame of ``num`` streams, with ``slots`` hypotheses each."""
        return cls(beams, [[PartialHypothesis()] * slots for _ in range(num)], [0] * num)


def search_frames(
    standing: BeamSearchState[B],
    batch: LongestFirst,
    history: BackPointers,
    take: Callable[[B, Tensor], tuple[B, Tensor, Tensor]],
) -> BeamSearchState[B]:
    """Go on with the frames of a batch; utterances that have ended keep their beams.

    Args:
        standing: before the first frame, in the original order of the batch.
        batch: frames, longest utterances first.
        history: with room for them.
        take: beams of M utterances and the frame (M, ...) of each, to the new beams, (M, B) slots
            that they came from and (M, B) symbols that they took.

    Returns:
        Where the search stands after them, in the original order.
    """
    standing = rows_of(standing, batch.order)
    beams, ended, num = standing.beams, [], len(batch.lens)
    for frame, num_alive in enumerate(batch.num_alive):
        if num_alive < num:
            ended.append(rows_of(beams, range(num_alive, num)))
            beams, num = rows_of(beams, range(num_alive)), num_alive
        beams, parents, symbols = take(beams, batch.frames[:num_alive, frame])
        history.record(frame, parents, symbols)
    partials = history.grown(standing.partials, standing.num_frames)
    seen = [before + more for before, more in zip(standing.num_frames, batch.lens, strict=True)]
    return rows_of(
        BeamSearchState(stack([beams, *reversed(ended)]), partials, seen), batch.places()
    )
