"""Fast beam search: best alignment within limits on states and contexts, and its lattice."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from zipasr.search.batched_state import rows_of
from zipasr.search.beam_state import BackPointers, PartialHypothesis
from zipasr.search.fast_beam_frame import (
    Arcs,
    FastBeamLimits,
    collect_arcs,
    merge_states,
    prune_states,
)
from zipasr.search.lattice import Lattice, LatticeWriter
from zipasr.search.lexicon_graph import NONE
from zipasr.search.protocol import Search, Utterance, not_finite
from zipasr.search.transducer_step import TransducerSteps, longest_first


@dataclass(frozen=True, slots=True)
class FastState:
    """Where a search stands in N streams.

    Attributes:
        scores: (N, S), of the best alignment into each state; -inf where the slot is empty.
        contexts: (N, S, C) int64, last tokens: what tells states apart.
        predictions: (N, S, J), what the decoder makes of the contexts.
        final: (N,), score of the best way to end at the last frame; -inf if there is none.
        partials: for each stream, what the S states have recognised and, behind them, the best end.
        num_frames: for each stream, how many frames it has seen.
    """

    scores: Tensor
    contexts: Tensor
    predictions: Tensor
    final: Tensor
    partials: list[list[PartialHypothesis]]
    num_frames: list[int]


@dataclass(frozen=True, slots=True)
class FastBeamSearch(Search[FastState]):
    """Follow all alignments with at most one token per frame that stay within a beam.

    A state is the last ``context_size`` tokens; alignments that meet in one compete, the better
    goes on. At each frame go: first, arcs with a token whose score is lower by more than ``beam``
    than the best score before the frame; then, states that are worse by more than ``beam`` than
    the best, and all but the ``max_states`` best; then, all but the ``max_contexts`` best contexts.

    As in the published search, it starts from blanks, and the frame of an utterance's end takes
    no token and adds no score; what could end there is one of the states of that frame. Where
    no end survives, the result is empty, or with ``allow_partial`` the best there is.

    Args:
        steps: the transducer.
        beam: in nats.
        max_states: at least 1.
        max_contexts: at least 1.
        allow_partial: see above.

    Source: Kang et al., "Fast and parallel decoding for transducer", 2022, section 4.
    """

    steps: TransducerSteps
    beam: float = 20.0
    max_states: int = 64
    max_contexts: int = 8
    allow_partial: bool = False

    @torch.no_grad()
    def start(self, num: int, device: torch.device) -> FastState:
        """State of ``num`` streams of which nothing was heard."""
        slots, context_size = min(self.max_states, self.max_contexts), self.steps.context_size
        scores = torch.full((num, slots), -math.inf, device=device)
        scores[:, 0] = 0.0
        contexts = torch.full(
            (num, slots, context_size), self.steps.blank_id, dtype=torch.int64, device=device
        )
        predictions = self.steps.predict(contexts.flatten(0, 1))
        predictions = predictions.view(num, slots, predictions.size(-1))
        partials = [[PartialHypothesis()] * (slots + 1) for _ in range(num)]
        return FastState(
            scores, contexts, predictions, torch.zeros(num, device=device), partials, [0] * num
        )

    @torch.no_grad()
    def advance(
        self,
        state: FastState,
        frames: Tensor,
        lens: Tensor,
        keep: Callable[[Arcs, Tensor], None] | None = None,
    ) -> FastState:
        """Go on with the next frames (N, T', C) of each stream, ``lens`` (N,) of them valid.

        Args:
            state: before the frames.
            frames: encoder output.
            lens: valid frames.
            keep: is given the arcs of each frame, and which states before it (M, S) are ends where
                it is the last one; utterances sorted by length.

        Raises:
            ValueError: a length is negative or longer than the frames given.
        """
        batch = longest_first(self.steps.project(frames), lens)
        state = rows_of(state, batch.order)
        slots = state.scores.size(1)
        shape = len(batch.num_alive), len(batch.lens), slots + 1
        history = BackPointers.with_room(*shape, self.steps.blank_id, frames.device)
        scores, contexts = state.scores.clone(), state.contexts.clone()
        predictions, final = state.predictions.clone(), state.final.clone()
        for frame, num in enumerate(batch.num_alive):
            log_probs = self._log_probs(batch.frames[:num, frame], predictions[:num])
            arcs = self._arcs(scores[:num], contexts[:num], log_probs)
            parents, symbols, best = arcs.best(scores[:num], self.steps.blank_id)
            ends = arcs.ends(scores[:num], parents, best, self.allow_partial)
            if keep is not None:
                keep(arcs, ends)
            closing = scores[:num].masked_fill(~ends, -math.inf).max(dim=1, keepdim=True)
            end, final[:num] = closing.indices, closing.values.squeeze(1)
            no_symbol = torch.full_like(end, self.steps.blank_id)
            history.record(frame, torch.cat((parents, end), 1), torch.cat((symbols, no_symbol), 1))
            predictions[:num] = self._predictions(
                scores[:num] > -math.inf, contexts[:num], predictions[:num], arcs
            )
            scores[:num], contexts[:num] = best, arcs.contexts
        partials = history.grown(state.partials, state.num_frames)
        seen = [before + num for before, num in zip(state.num_frames, batch.lens, strict=True)]
        done = FastState(scores, contexts, predictions, final, partials, seen)
        return rows_of(done, batch.places())

    def results(self, state: FastState) -> list[Utterance]:
        """Best alignment of each stream that ends with the last frame; else an empty result."""
        return [
            Utterance(list(partials[-1].tokens), list(partials[-1].frames), score)
            if score > -math.inf
            else Utterance([], [], score)
            for partials, score in zip(state.partials, state.final.tolist(), strict=True)
        ]

    def _log_probs(self, frames: Tensor, predictions: Tensor) -> Tensor:
        """Log-probabilities (M, S, V) of the projected frames (M, J) after each state."""
        num, slots, width = predictions.shape
        flat = predictions.reshape(num * slots, width)
        log_probs = self.steps.next_scores(frames.repeat_interleave(slots, dim=0), flat)
        return log_probs.view(num, slots, log_probs.size(-1))

    def _arcs(self, scores: Tensor, contexts: Tensor, log_probs: Tensor) -> Arcs:
        """Take the arcs of one frame that pruning keeps."""
        blank_id, limits = (
            self.steps.blank_id,
            FastBeamLimits(self.beam, self.max_states, self.max_contexts),
        )
        floor = scores.amax(dim=1, keepdim=True) - self.beam
        blank = scores + log_probs[:, :, blank_id]
        # One symbol tells of all: they come from a softmax. On a GPU the final scores tell it, as
        # the host would have to wait for each frame.
        if not blank.is_cuda and bool(blank.masked_fill(scores == -math.inf, 0.0).isnan().any()):
            raise not_finite()
        grown = scores[:, :, None] + log_probs
        grown = grown.masked_fill(grown < floor[:, :, None], -math.inf)
        grown[:, :, blank_id] = -math.inf
        end = blank.masked_fill(scores < floor, -math.inf)
        into, stay = merge_states(grown, blank, contexts, scores > -math.inf)
        kept, may_end = prune_states(into, stay, end, contexts, limits)
        return collect_arcs(
            log_probs, grown > -math.inf, scores > -math.inf, contexts, kept, may_end
        )

    def _predictions(
        self, is_there: Tensor, contexts: Tensor, predictions: Tensor, arcs: Arcs
    ) -> Tensor:
        """Predictions (M, S, J) after a frame; those of states that were there before are known."""
        same = (contexts[:, :, None] == arcs.contexts[:, None]).all(-1) & is_there[:, :, None]
        rows = torch.arange(same.size(0), device=same.device)[:, None]
        after = predictions[rows, same.int().argmax(dim=1)]
        if after.is_cuda:  # to know which are new, the host would have to wait
            every = self.steps.predict(arcs.contexts.flatten(0, 1)).view_as(after)
            return torch.where(same.any(dim=1)[:, :, None], after, every)
        new = (~same.any(dim=1) & arcs.is_there).nonzero(as_tuple=True)
        if new[0].numel():
            after[new] = self.steps.predict(arcs.contexts[new])
        return after


@dataclass(frozen=True)
class FastLattice:
    """Search as ``FastBeamSearch`` does, and keep all that it looked at and did not prune.

    The best path of the lattice is what ``FastBeamSearch`` finds.

    Attributes:
        search: which search.
    """

    search: FastBeamSearch

    @torch.no_grad()
    def __call__(self, frames: Tensor, lens: Tensor) -> Lattice:
        """Return the lattice of N utterances; the frame of an end is not in it."""
        lens, order = lens.to(frames.device).sort(descending=True, stable=True)
        kept: list[tuple[Arcs, Tensor]] = []
        self.search.advance(
            self.search.start(len(lens), frames.device),
            frames[order],
            lens,
            lambda arcs, ends: kept.append((arcs, ends)),
        )
        writer = LatticeWriter(len(lens), frames.device)
        numbers, ends = order[:, None], []
        for frame, (arcs, may_end) in enumerate(kept):
            onward = int((lens > frame + 1).sum())
            ends.append(_ends(numbers, may_end, onward))
            if onward:
                numbers = self._write(writer, numbers, arcs, order[:onward])
        if not kept:
            ends.append(torch.zeros(len(lens), dtype=torch.float64, device=frames.device))
        return writer.written(ends)

    def _write(self, writer: LatticeWriter, numbers: Tensor, arcs: Arcs, owners: Tensor) -> Tensor:
        """Write the arcs of a frame of the utterances that go on.

        Args:
            writer: of the lattice.
            numbers: (M, S) of the states before the frame; ``NONE`` where there is none.
            arcs: of the frame.
            owners: (M',) utterances that go on, in the order of the rows.

        Returns:
            (M', D) numbers of the states after the frame.
        """
        num = len(owners)
        is_there = arcs.is_there[:num]
        after = (is_there.flatten().cumsum(0) - 1).view_as(is_there)
        columns = []
        for scores, has_token in ((arcs.tokens[:num], True), (arcs.blanks[:num], False)):
            row, source, target = (scores > -math.inf).nonzero(as_tuple=True)
            last = arcs.contexts[row, target, -1]
            tokens = last if has_token else torch.full_like(last, NONE)
            columns.append(
                (numbers[row, source], after[row, target], tokens, scores[row, source, target])
            )
        sources, targets, tokens, scores = (
            torch.cat(parts) for parts in zip(*columns, strict=True)
        )
        rows, _ = is_there.nonzero(as_tuple=True)
        writer.frame(sources, targets, (tokens, None), (scores, None), owners[rows])
        return after.masked_fill(~is_there, NONE)


def _ends(numbers: Tensor, may_end: Tensor, onward: int) -> Tensor:
    """Score of an end in each state before a frame: 0 where an utterance may, else -inf.

    Args:
        numbers: (M, S) of the states; ``NONE`` where there is none.
        may_end: (M', S) which may be the last, of the utterances that have this frame.
        onward: how many utterances go on after it.
    """
    is_end = torch.ones_like(numbers, dtype=torch.bool)
    is_end[: len(may_end)] = may_end[:, : numbers.size(1)]
    is_end[:onward] = False
    is_there = numbers != NONE
    ends = torch.zeros(int(is_there.sum()), dtype=torch.float64, device=numbers.device)
    ends[numbers[is_there]] = torch.where(is_end[is_there], 0.0, -math.inf).double()
    return ends
