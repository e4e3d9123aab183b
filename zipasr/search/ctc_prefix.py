"""CTC prefix beam search: all alignments of a token sequence count together."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from zipasr.search.beam_state import (
    BackPointers,
    BeamSearchState,
    extend_fingerprints,
    ranked,
    search_frames,
)
from zipasr.search.ctc_greedy import CtcHead
from zipasr.search.protocol import Search, Utterance
from zipasr.search.scorers import (
    ScorerState,
    TokenScorer,
    scored,
    scored_where,
    step_where,
    view_as_beams,
)
from zipasr.search.transducer_step import longest_first


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Token sequences of N utterances, in B slots each.

    Attributes:
        blank: (N, B), log-probability of the alignments that end in blank; -inf if there is none.
        label: (N, B), of those that end in the last token.
        bonus: (N, B), what the scorer gave.
        fingerprints: (N, B) int64, equal where the tokens are equal.
        last: (N, B) int64, last token; -1 before the first.
        scorer: state of the scorer, each tensor (N, B, ...).
    """

    blank: Tensor
    label: Tensor
    bonus: Tensor
    fingerprints: Tensor
    last: Tensor
    scorer: ScorerState = ()

    def total(self) -> Tensor:
        """(N, B), log-probability of all alignments."""
        return torch.logaddexp(self.blank, self.label)


@dataclass(frozen=True, slots=True)
class CtcPrefixBeamSearch(Search[BeamSearchState[Prefixes]]):
    """Keep the most probable token sequences, all utterances and sequences of a frame at once.

    Only the ``beam_size`` best symbols of a frame are looked at. The frame of a token is that at
    which its sequence was first taken up. A scorer takes part in the choice of each frame.

    Args:
        head: the CTC head.
        beam_size: at least 1; may be above the number of symbols.
        scorer: what helps, or ``None``.

    Source: Hannun et al., "First-pass large vocabulary continuous speech recognition using
    bi-directional recurrent DNNs", 2014, algorithm 1.
    """

    head: CtcHead
    beam_size: int = 4
    scorer: TokenScorer | None = None

    def start(self, num: int, device: torch.device) -> BeamSearchState[Prefixes]:
        """State of ``num`` streams of which nothing was heard."""
        shape = (num, self.beam_size)
        none = torch.full(shape, -math.inf, device=device)
        blank = none.clone()
        blank[:, 0] = 0.0
        zeros = torch.zeros(shape, dtype=torch.int64, device=device)
        state = () if self.scorer is None else self.scorer.start(num * self.beam_size, device)
        prefixes = Prefixes(
            blank,
            none,
            torch.zeros(shape, device=device),
            fingerprints=zeros,
            last=zeros - 1,
            scorer=view_as_beams(state, *shape),
        )
        return BeamSearchState.at_start(prefixes, num, self.beam_size)

    @torch.no_grad()
    def advance(
        self, state: BeamSearchState[Prefixes], frames: Tensor, lens: Tensor
    ) -> BeamSearchState[Prefixes]:
        """Go on with the next frames (N, T', C) of each stream, ``lens`` (N,) of them valid.

        Raises:
            ValueError: a length is negative or longer than the frames given.
        """
        batch = longest_first(self.head.log_probs(frames), lens)
        shape = len(batch.num_alive), len(batch.lens), self.beam_size
        history = BackPointers.with_room(*shape, self.head.blank_id, frames.device)
        take = partial(take_frame, blank_id=self.head.blank_id, scorer=self.scorer)
        return search_frames(state, batch, history, take)

    def hypotheses(self, state: BeamSearchState[Prefixes]) -> list[list[Utterance]]:
        """Token sequences of each stream by log-probability, bonuses included, best first."""
        totals = state.beams.total() + state.beams.bonus
        if self.scorer is not None:
            totals = scored(self.scorer, state.beams.scorer, totals)
        return ranked(state.partials, totals, totals)

    def results(self, state: BeamSearchState[Prefixes]) -> list[Utterance]:
        """Best token sequence of each stream so far."""
        return [sequences[0] for sequences in self.hypotheses(state)]

    def search(self, frames: Tensor, lens: Tensor) -> list[list[Utterance]]:
        """Search whole utterances: encoder frames (N, T', C) to the N-best of each."""
        return self.hypotheses(self.advance(self.start(len(lens), frames.device), frames, lens))


class _Growth(NamedTuple):
    """Every prefix with every symbol looked at, (M, B, K); -inf where that is no new sequence."""

    label: Tensor
    bonus: Tensor
    fingerprints: Tensor


class _Joined(NamedTuple):
    """Prefixes that stay, those that grew to the same tokens added, and what grew to others.

    Attributes:
        label: (M, B), log-probability of the alignments that end in the last token.
        by_growth: (M, B), whether the more probable part grew to the prefix.
        origin: (M, B), the place of this part in a flat (B, K).
        grown: (M, B * K), log-probabilities of sequences that were not there.
    """

    label: Tensor
    by_growth: Tensor
    origin: Tensor
    grown: Tensor


class _Choice(NamedTuple):
    """Which sequences a frame leaves, (M, B).

    Attributes:
        kept: slot of a prefix that stays; anything where the sequence is new.
        at: place in a flat (B, K) of what grew to the sequence; anything where nothing did.
        is_new: whether it was not there before.
        took: whether its more probable part took a token.
    """

    kept: Tensor
    at: Tensor
    is_new: Tensor
    took: Tensor


def take_frame(
    prefixes: Prefixes, log_probs: Tensor, blank_id: int, scorer: TokenScorer | None = None
) -> tuple[Prefixes, Tensor, Tensor]:
    """Take one frame.

    Args:
        prefixes: of M utterances.
        log_probs: (M, V), of the symbols at the frame.
        blank_id: id of blank.
        scorer: what helps, or ``None``.

    Returns:
        The new prefixes, best first; (M, B) slot that each one came from; (M, B) symbol that it
        took, blank for none.
    """
    num, beam_size = prefixes.last.shape
    best = log_probs.topk(min(beam_size, log_probs.size(-1)), dim=-1)
    total, symbols = prefixes.total(), best.indices
    is_blank, is_last = symbols == blank_id, symbols[:, None, :] == prefixes.last[:, :, None]
    blank, label = _stay(prefixes, total, best.values, is_blank, is_last)
    # The same token again is another one only after a blank.
    start = torch.where(is_last, prefixes.blank[:, :, None], total[:, :, None])
    grown = (start + best.values[:, None, :]).masked_fill(is_blank[:, None, :], -math.inf)
    growth = _grow(prefixes, grown, symbols, scorer)
    joined = _join(prefixes, total > -math.inf, blank, label, growth)
    stayed = torch.logaddexp(blank, joined.label) + prefixes.bonus
    choice = _choose(stayed, joined, growth)

    num_symbols = best.indices.size(1)
    parents = torch.where(choice.took, choice.at // num_symbols, choice.kept)
    taken = best.indices.gather(1, choice.at % num_symbols)
    # A sequence that was joined is the one that was there: its bonus and its state stay.
    source = torch.where(choice.is_new, parents, choice.kept)
    rows = torch.arange(num, device=parents.device)[:, None]
    state = tuple(part[rows, source] for part in prefixes.scorer)

    def either(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(choice.is_new, new, old.gather(1, choice.kept))

    result = Prefixes(
        blank.gather(1, choice.kept).masked_fill(choice.is_new, -math.inf),
        either(joined.grown.gather(1, choice.at), joined.label),
        either(growth.bonus.flatten(1).gather(1, choice.at), prefixes.bonus),
        either(growth.fingerprints.flatten(1).gather(1, choice.at), prefixes.fingerprints),
        either(taken, prefixes.last),
        state,
    )
    if scorer is not None:
        is_grown = choice.is_new & (result.label > -math.inf)
        result = replace(result, scorer=step_where(scorer, state, taken, is_grown)[1])
    return result, parents, torch.where(choice.took, taken, blank_id)


def _join(
    prefixes: Prefixes, is_there: Tensor, blank: Tensor, label: Tensor, growth: _Growth
) -> _Joined:
    """Let a sequence that grows to one that is there already join it."""
    flat, stayed = growth.label.flatten(1), torch.logaddexp(blank, label)
    same = growth.fingerprints.flatten(1)[:, :, None] == prefixes.fingerprints[:, None, :]
    same = same & is_there[:, None, :]
    parts = flat[:, :, None].masked_fill(~same, -math.inf)
    strongest, origin = parts.max(dim=1)
    return _Joined(
        torch.logaddexp(label, parts.logsumexp(dim=1)),
        strongest > stayed,
        origin,
        flat.masked_fill(same.any(dim=-1), -math.inf),
    )


def _choose(stayed: Tensor, joined: _Joined, growth: _Growth) -> _Choice:
    """Choose the best of the sequences that stay, scored (M, B), and of those that are new."""
    beam_size = stayed.size(1)
    ranks = torch.cat((stayed, joined.grown + growth.bonus.flatten(1)), dim=1)
    chosen = ranks.topk(beam_size, dim=-1).indices
    is_new, kept = chosen >= beam_size, chosen.clamp(max=beam_size - 1)
    # A joined sequence goes back to its more probable part, for the times of its tokens.
    by_growth = ~is_new & joined.by_growth.gather(1, kept)
    new_at = (chosen - beam_size).clamp(min=0)
    at = torch.where(by_growth, joined.origin.gather(1, kept), new_at)
    return _Choice(kept, at, is_new, is_new | by_growth)


def _stay(
    prefixes: Prefixes, total: Tensor, values: Tensor, is_blank: Tensor, is_last: Tensor
) -> tuple[Tensor, Tensor]:
    """Blank, or the last token again: log-probabilities (M, B) by the end of the alignment."""
    of_blank = values.masked_fill(~is_blank, -math.inf).amax(dim=-1, keepdim=True)
    of_last = values[:, None, :].masked_fill(~is_last, -math.inf).amax(dim=-1)
    return total + of_blank, prefixes.label + of_last


def _grow(
    prefixes: Prefixes, label: Tensor, symbols: Tensor, scorer: TokenScorer | None
) -> _Growth:
    """One token more, whose log-probabilities (M, B, K) are known."""
    spread = symbols[:, None, :].expand_as(label)
    fingerprints = extend_fingerprints(prefixes.fingerprints[:, :, None], spread)
    bonus = prefixes.bonus[:, :, None].expand_as(label)
    if scorer is not None:
        num_symbols = symbols.size(1)
        state = tuple(part.repeat_interleave(num_symbols, dim=1) for part in prefixes.scorer)
        is_grown = (label > -math.inf).flatten(1)
        bonus = bonus + scored_where(scorer, state, spread.flatten(1), is_grown).view_as(bonus)
    return _Growth(label, bonus, fingerprints)
