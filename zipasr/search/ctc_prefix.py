"""CTC prefix beam search: all alignments of a token sequence count together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from zipasr.search.ctc import CtcHead
from zipasr.search.fusion import ScorerState, TokenScorer, in_slots
from zipasr.search.hypotheses import History, Partial, extend_fingerprints, ranked
from zipasr.search.steps import longest_first
from zipasr.search.streams import rows_of, stack
from zipasr.search.types import Utterance


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

    def rows(self, rows: slice) -> Prefixes:
        """Keep some of the utterances."""
        return Prefixes(
            self.blank[rows],
            self.label[rows],
            self.bonus[rows],
            self.fingerprints[rows],
            self.last[rows],
            tuple(part[rows] for part in self.scorer),
        )


@dataclass(frozen=True, slots=True)
class PrefixState:
    """Where a search stands in N streams: prefixes, what they have recognised, frames seen."""

    prefixes: Prefixes
    partials: list[list[Partial]]
    num_frames: list[int]


@dataclass(frozen=True, slots=True)
class CtcPrefixBeamSearch:
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

    def start(self, num: int, device: torch.device) -> PrefixState:
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
            scorer=in_slots(state, *shape),
        )
        return PrefixState(prefixes, [[Partial()] * self.beam_size for _ in range(num)], [0] * num)

    @torch.no_grad()
    def advance(self, state: PrefixState, frames: Tensor, lens: Tensor) -> PrefixState:
        """Go on with the next frames (N, T', C) of each stream, ``lens`` (N,) of them valid.

        Raises:
            ValueError: a length is negative or longer than the frames given.
        """
        batch = longest_first(self.head.log_probs(frames), lens)
        state = rows_of(state, batch.order)
        prefixes, blank_id = state.prefixes, self.head.blank_id
        history = History(len(batch.num_alive), len(batch.lens), self.beam_size, blank_id).to(
            frames.device
        )
        ended: list[Prefixes] = []
        for frame, num_alive in enumerate(batch.num_alive):
            if num_alive < prefixes.last.size(0):
                ended.insert(0, prefixes.rows(slice(num_alive, None)))
                prefixes = prefixes.rows(slice(num_alive))
            prefixes, parents, symbols = take_frame(
                prefixes, batch.frames[:num_alive, frame], blank_id, self.scorer
            )
            history.record(frame, parents, symbols)
        partials = history.grown(state.partials, state.num_frames)
        seen = [before + num for before, num in zip(state.num_frames, batch.lens, strict=True)]
        return rows_of(PrefixState(stack([prefixes, *ended]), partials, seen), batch.places())

    def nbest(self, state: PrefixState) -> list[list[Utterance]]:
        """Token sequences of each stream by log-probability, bonuses included, best first."""
        totals = state.prefixes.total() + state.prefixes.bonus
        if self.scorer is not None and totals.numel():
            flat = tuple(part.flatten(0, 1) for part in state.prefixes.scorer)
            totals = totals + self.scorer.finish(flat).view_as(totals)
        return ranked(state.partials, totals, totals)

    def results(self, state: PrefixState) -> list[Utterance]:
        """Best token sequence of each stream so far."""
        return [sequences[0] for sequences in self.nbest(state)]

    def search(self, frames: Tensor, lens: Tensor) -> list[list[Utterance]]:
        """Search whole utterances: encoder frames (N, T', C) to the N-best of each."""
        return self.nbest(self.advance(self.start(len(lens), frames.device), frames, lens))


def ctc_prefix_beam_search(
    frames: Tensor,
    lens: Tensor,
    *,
    head: CtcHead,
    beam_size: int = 4,
    scorer: TokenScorer | None = None,
) -> list[Utterance]:
    """Search whole utterances; see ``CtcPrefixBeamSearch``.

    Args:
        frames: (N, T', C), encoder output.
        lens: (N,) integers, valid frames of each utterance; 0 gives an empty result.
        head: the CTC head.
        beam_size: at least 1.
        scorer: what helps, or ``None``.

    Returns:
        N utterances; ``log_prob`` is that of all alignments kept.

    Raises:
        ValueError: a length is negative or longer than the frames given.
    """
    found = CtcPrefixBeamSearch(head, beam_size, scorer).search(frames, lens)
    return [sequences[0] for sequences in found]


class _Growth(NamedTuple):
    """Every prefix with every symbol looked at, (M, B, K); -inf where that is no new sequence."""

    label: Tensor
    bonus: Tensor
    fingerprints: Tensor


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
    blank, label = _stay(prefixes, best.values, best.indices, blank_id)
    growth = _grow(prefixes, best.values, best.indices, blank_id, scorer)
    stayed = torch.logaddexp(blank, label)
    # A sequence that grows to one that is there already joins it.
    same = growth.fingerprints.flatten(1)[:, :, None] == prefixes.fingerprints[:, None, :]
    same = same & (prefixes.total() > -math.inf)[:, None, :]
    joined = growth.label.flatten(1)[:, :, None].masked_fill(~same, -math.inf)
    from_growth, origin = joined.max(dim=1)
    label = torch.logaddexp(label, joined.logsumexp(dim=1))
    grown = growth.label.flatten(1).masked_fill(same.any(dim=-1), -math.inf)

    ranks = torch.cat((torch.logaddexp(blank, label) + prefixes.bonus,
                       grown + growth.bonus.flatten(1)), dim=1)  # fmt: skip
    chosen = ranks.topk(beam_size, dim=-1).indices
    is_new = chosen >= beam_size
    # A joined sequence goes back to its more probable part, for the times of its tokens.
    by_growth = ~is_new & (from_growth > stayed).gather(1, chosen.clamp(max=beam_size - 1))
    at = torch.where(
        by_growth,
        origin.gather(1, chosen.clamp(max=beam_size - 1)),
        (chosen - beam_size).clamp(min=0),
    )
    took = is_new | by_growth
    parents = torch.where(took, at // best.indices.size(1), chosen)
    taken = best.indices.gather(1, at % best.indices.size(1))
    symbols = torch.where(took, taken, blank_id)

    kept = chosen.clamp(max=beam_size - 1)
    rows = torch.arange(num, device=chosen.device)[:, None]
    # A sequence that was joined is the one that was there: its bonus and its state stay.
    source = torch.where(is_new, parents, chosen)
    state = tuple(part[rows, source] for part in prefixes.scorer)
    result = Prefixes(
        blank.gather(1, kept).masked_fill(is_new, -math.inf),
        torch.where(is_new, grown.gather(1, at), label.gather(1, kept)),
        torch.where(is_new, growth.bonus.flatten(1).gather(1, at), prefixes.bonus.gather(1, kept)),
        torch.where(
            is_new,
            growth.fingerprints.flatten(1).gather(1, at),
            prefixes.fingerprints.gather(1, kept),
        ),
        torch.where(is_new, taken, prefixes.last.gather(1, kept)),
        state,
    )
    if scorer is not None:
        where = (is_new & (result.label > -math.inf)).nonzero(as_tuple=True)
        if where[0].numel():
            news = scorer.extend(tuple(part[where] for part in state), taken[where])
            for part, new in zip(state, news, strict=True):
                part[where] = new
    return result, parents, symbols


def _stay(
    prefixes: Prefixes, values: Tensor, symbols: Tensor, blank_id: int
) -> tuple[Tensor, Tensor]:
    """Blank, or the last token again: log-probabilities (M, B) by the end of the alignment."""
    is_blank, is_last = symbols == blank_id, symbols[:, None, :] == prefixes.last[:, :, None]
    of_blank = values.masked_fill(~is_blank, -math.inf).amax(dim=-1, keepdim=True)
    of_last = values[:, None, :].masked_fill(~is_last, -math.inf).amax(dim=-1)
    return prefixes.total() + of_blank, prefixes.label + of_last


def _grow(
    prefixes: Prefixes, values: Tensor, symbols: Tensor, blank_id: int, scorer: TokenScorer | None
) -> _Growth:
    """One token more; the same token again only after a blank."""
    is_last = symbols[:, None, :] == prefixes.last[:, :, None]
    start = torch.where(is_last, prefixes.blank[:, :, None], prefixes.total()[:, :, None])
    label = (start + values[:, None, :]).masked_fill((symbols == blank_id)[:, None, :], -math.inf)
    spread = symbols[:, None, :].expand_as(label)
    fingerprints = extend_fingerprints(prefixes.fingerprints[:, :, None], spread)
    bonus = prefixes.bonus[:, :, None].expand_as(label)
    if scorer is not None:
        row, slot, place = (label > -math.inf).nonzero(as_tuple=True)
        bonus = bonus.clone()
        if row.numel():
            state = tuple(part[row, slot] for part in prefixes.scorer)
            bonus[row, slot, place] += scorer.score(state, symbols[row, place])
    return _Growth(label, bonus, fingerprints)
