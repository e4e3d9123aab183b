"""One frame of the fast beam search: which states meet, which survive, and the arcs between."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class FastBeamLimits(NamedTuple):
    """How much of a frame is kept: a beam in nats, a number of states, a number of contexts."""

    beam: float
    max_states: int
    max_contexts: int


@dataclass(frozen=True, slots=True)
class Arcs:
    """What pruning kept of M utterances at one frame: states after it, and all arcs into them.

    Attributes:
        contexts: (M, D, C), last tokens of each state after the frame.
        is_there: (M, D), False where the slot is empty.
        tokens: (M, S, D), log-probability of the arc with the last token of state d, from state
            s before the frame; -inf where there is none.
        blanks: (M, S, D), log-probability of the arc with blank; -inf where there is none.
        may_end: (M, S), whether the utterance may end here, in the state before the frame.
    """

    contexts: Tensor
    is_there: Tensor
    tokens: Tensor
    blanks: Tensor
    may_end: Tensor

    def best(self, scores: Tensor, blank_id: int) -> tuple[Tensor, Tensor, Tensor]:
        """Follow the best arc into each state.

        Args:
            scores: (M, S), of the states before the frame.
            blank_id: id of blank.

        Returns:
            (M, D) state that it comes from, (M, D) its symbol, (M, D) score after it.
        """
        by_token = (scores[:, :, None] + self.tokens).max(dim=1)
        by_blank = (scores[:, :, None] + self.blanks).max(dim=1)
        took = by_token.values > by_blank.values
        parents = torch.where(took, by_token.indices, by_blank.indices)
        symbols = torch.where(took, self.contexts[:, :, -1], blank_id)
        return parents, symbols, torch.maximum(by_token.values, by_blank.values)

    def ends(self, scores: Tensor, parents: Tensor, best: Tensor, allow_partial: bool) -> Tensor:
        """Choose where the utterance may end.

        Args:
            scores: (M, S), of the states before the frame.
            parents: (M, D), from ``best``.
            best: (M, D), from ``best``.
            allow_partial: where none may, take those that go on.

        Returns:
            (M, S), whether each state before the frame is an end.
        """
        if not allow_partial:
            return self.may_end
        goes_on = torch.zeros_like(self.may_end, dtype=torch.int32).scatter_reduce(
            1, parents, (best > -math.inf).int(), "amax"
        )
        goes_on = goes_on.bool() & (scores > -math.inf)
        return torch.where(self.may_end.any(dim=1, keepdim=True), self.may_end, goes_on)


class Kept(NamedTuple):
    """States after a frame: contexts (M, D, C), and whether there is one in the slot (M, D)."""

    contexts: Tensor
    is_there: Tensor


def merge_states(
    grown: Tensor, blank: Tensor, contexts: Tensor, is_there: Tensor
) -> tuple[Tensor, Tensor]:
    """Let alignments that lead to the same state compete.

    Args:
        grown: (M, S, V), score of each state with one token more; -inf for blank.
        blank: (M, S), score of each state with blank.
        contexts: (M, S, C), last tokens of each state; no two that are there are equal.
        is_there: (M, S).

    Returns:
        (M, S, V) scores of new states: in the first slot whose tokens lead there, -inf in all
        others; (M, S) scores of the states that were there, by blank or by a token.
    """
    both = is_there[:, :, None] & is_there[:, None, :]
    # Where all tokens but the oldest agree, the same token leads to the same state.
    agree = (contexts[:, :, None, 1:] == contexts[:, None, :, 1:]).all(-1) & both
    first = agree.int().argmax(dim=-1)
    into = torch.full_like(grown, -math.inf).scatter_reduce(
        1, first[:, :, None].expand_as(grown), grown, "amax"
    )
    # A token may lead to a state that was there before.
    leads = (contexts[:, :, None, :-1] == contexts[:, None, :, 1:]).all(-1) & both
    leads = leads & (first == torch.arange(first.size(1), device=first.device))[:, None, :]
    has_rival = leads.any(dim=-1)
    place = leads.int().argmax(dim=-1) * grown.size(-1) + contexts[:, :, -1].clamp(min=0)
    flat = into.flatten(1)
    rival = flat.gather(1, place).masked_fill(~has_rival, -math.inf)
    taken = torch.zeros_like(flat, dtype=torch.int32).scatter_reduce(
        1, place, has_rival.int(), "amax"
    )
    into = flat.masked_fill(taken.bool(), -math.inf).view_as(into)
    return into, torch.maximum(blank, rival)


def prune_states(
    into: Tensor, stay: Tensor, end: Tensor, contexts: Tensor, limits: FastBeamLimits
) -> tuple[Kept, Tensor]:
    """Prune states, and then contexts.

    Args:
        into: (M, S, V), scores of new states.
        stay: (M, S), scores of the states that were there.
        end: (M, S), scores of ending in each state; an end counts as a state, too.
        contexts: (M, S, C), last tokens of the states that were there.
        limits: how much is kept.

    Returns:
        The states kept, best first, as many slots as before; (M, S) whether each end was kept.
    """
    num, slots, vocab_size = into.shape
    every = torch.cat((into.flatten(1), stay, end), dim=1)
    best = every.topk(min(limits.max_states, every.size(1)), dim=1)
    in_beam = best.values >= best.values[:, :1] - limits.beam
    kept = torch.full_like(every, -math.inf).scatter(
        1, best.indices, best.values.masked_fill(~in_beam, -math.inf)
    )
    states, ends = kept[:, :-slots], kept[:, -slots:]
    chosen = states.topk(slots, dim=1)
    is_stay = chosen.indices >= slots * vocab_size
    slot = torch.where(is_stay, chosen.indices - slots * vocab_size, chosen.indices // vocab_size)
    rows = torch.arange(num, device=slot.device)[:, None]
    before = contexts[rows, slot]
    token = (chosen.indices % vocab_size)[:, :, None]
    after = torch.where(is_stay[:, :, None], before, torch.cat((before[:, :, 1:], token), dim=-1))
    is_there = chosen.values > -math.inf
    # Slots are as many as contexts may be, so only an end can be of a context that was dropped.
    same = (contexts[:, :, None] == after[:, None]).all(-1) & is_there[:, None, :]
    return Kept(after, is_there), (ends > -math.inf) & same.any(dim=-1)


def collect_arcs(
    log_probs: Tensor,
    may_grow: Tensor,
    is_there: Tensor,
    contexts: Tensor,
    kept: Kept,
    may_end: Tensor,
) -> Arcs:
    """List all arcs from the states before a frame to those after it.

    Args:
        log_probs: (M, S, V), of the symbols after each state.
        may_grow: (M, S, V), which arcs with a token were kept.
        is_there: (M, S), which states were there before.
        contexts: (M, S, C), their last tokens.
        kept: states after the frame.
        may_end: (M, S), see ``Arcs``.
    """
    both = is_there[:, :, None] & kept.is_there[:, None, :]
    last = kept.contexts[:, None, :, -1].expand(both.shape).clamp(min=0)
    fits = (contexts[:, :, None, 1:] == kept.contexts[:, None, :, :-1]).all(-1) & both
    tokens = log_probs.gather(2, last).masked_fill(~(fits & may_grow.gather(2, last)), -math.inf)
    same = (contexts[:, :, None] == kept.contexts[:, None]).all(-1) & both
    blanks = log_probs[:, :, :1].expand(both.shape).masked_fill(~same, -math.inf)
    return Arcs(kept.contexts, kept.is_there, tokens, blanks, may_end)
