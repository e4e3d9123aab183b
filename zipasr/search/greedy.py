"""Greedy transducer search: take the best symbol, a block of frames at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from zipasr.nn.masks import make_pad_mask
from zipasr.nn.numerics import OnItsWay, to_device
from zipasr.search.beam_state import PartialHypothesis
from zipasr.search.protocol import Search, Utterance
from zipasr.search.transducer_step import Context, TransducerSteps, check_lens

#: How many frames of all utterances together the joiner reads at once, and at most of each one.
#: More frames make the product faster for each; those behind a token are read once more.
BLOCK_FRAMES, MAX_WIDTH = 64, 8

#: In the place of a symbol, where a stream has no frame or has left it.
_NOT_READ = -1


@dataclass(frozen=True, slots=True)
class GreedyState:
    """Where a search stands in N streams.

    Attributes:
        predictions: (N, J), what the decoder makes of the last tokens.
        log_probs: for each stream, of the symbols taken.
        partials: for each stream, what it has recognised.
        num_frames: for each stream, how many frames it has seen.
        contexts: for each stream, what the decoder saw before its first token.
    """

    predictions: Tensor
    log_probs: list[float]
    partials: list[PartialHypothesis]
    num_frames: list[int]
    contexts: list[Context]

    def last_tokens(self, row: int) -> list[int]:
        """What the decoder sees of a stream now."""
        before = self.contexts[row]
        return [*before, *self.partials[row].tokens][-len(before) :]


@dataclass(frozen=True, slots=True)
class GreedySearch(Search[GreedyState]):
    """Follow the most probable symbol of each frame, all utterances at once.

    A blank moves on to the next frame; so does the ``max_sym_per_frame``-th token of a frame,
    without a blank. The result does not depend on what else is in the batch.

    What the decoder predicts changes only with a token, and most frames have none: so the joiner
    reads the next few frames of every utterance with its present prediction. Each utterance goes
    on to its first token among them, or over all of them. The decoder runs only for utterances
    that have just emitted a token.

    Args:
        steps: the transducer.
        max_sym_per_frame: at least 1.

    Source: Graves, "Sequence transduction with recurrent neural networks", 2012, section 2.
    """

    steps: TransducerSteps
    max_sym_per_frame: int = 1

    @torch.no_grad()
    def start(self, num: int, device: torch.device) -> GreedyState:
        """State of ``num`` streams of which nothing was heard."""
        contexts = self.steps.start_contexts(num, device)
        before = [tuple(context) for context in contexts.tolist()]
        predictions = self.steps.predict(contexts)
        return GreedyState(predictions, [0.0] * num, [PartialHypothesis()] * num, [0] * num, before)

    def restart(self, state: GreedyState, device: torch.device) -> GreedyState:  # noqa: ARG002
        """State after the end of an utterance; the decoder goes on from the last tokens."""
        num = len(state.partials)
        contexts = [tuple(state.last_tokens(row)) for row in range(num)]
        partials = [PartialHypothesis()] * num
        return GreedyState(state.predictions, [0.0] * num, partials, [0] * num, contexts)

    @torch.no_grad()
    def advance(self, state: GreedyState, frames: Tensor, lens: Tensor) -> GreedyState:
        """Go on with the next frames (N, T', C) of each stream, ``lens`` (N,) of them valid.

        Raises:
            ValueError: a length is negative or longer than the frames given.
        """
        check_lens(lens, frames.size(1))
        if len(lens) == 1 and frames.device.type == "cpu":
            return self._advance_one(state, frames[0, : int(lens)])
        if frames.is_cuda:
            return self._advance_on_device(state, frames, lens)
        times = torch.arange(frames.size(1), device=frames.device)
        projected = self.steps.project(frames[times < lens.to(frames.device)[:, None]])
        # A copy: the state that was given stays as it is.
        predictions = state.predictions.clone()
        walkers = self._walkers(state, lens.tolist())
        ahead = walkers
        while ahead := [walker for walker in ahead if walker.place < walker.end]:
            self._step(ahead, projected, predictions)
        return _state_after(state, walkers, predictions)

    def _advance_one(self, state: GreedyState, frames: Tensor) -> GreedyState:
        """Do the same with the frames (T', C) of one utterance, without gathers."""
        steps = self.steps
        projected, predictions = steps.project(frames), state.predictions
        (walker,) = self._walkers(state, [len(frames)])
        while walker.place < walker.end:
            ahead = projected[walker.place : walker.place + MAX_WIDTH]
            log_probs, symbols = steps.next_scores(ahead, predictions).max(dim=-1)
            read = zip(symbols.tolist(), log_probs.tolist(), strict=True)
            if walker.take(read, steps.blank_id, self.max_sym_per_frame):
                predictions = steps.remembered([tuple(walker.context)])
        return _state_after(state, [walker], predictions)

    def _advance_on_device(self, state: GreedyState, frames: Tensor, lens: Tensor) -> GreedyState:
        """Do as ``advance``, frame by frame, with one wait for the device, at the end."""
        device, predictions = frames.device, state.predictions
        projected, padding = self.steps.project(frames), make_pad_mask(lens, frames.size(1), device)
        rows = [state.last_tokens(row) for row in range(len(lens))]
        contexts, read, scores = to_device(torch.tensor(rows), device), [], []
        for time in range(int(lens.max()) if len(lens) else 0):
            is_here = ~padding[:, time]
            for _ in range(self.max_sym_per_frame):
                best = self.steps.next_scores(projected[:, time], predictions).max(dim=-1)
                read.append(best.indices.masked_fill(~is_here, _NOT_READ))
                scores.append(best.values)
                is_here = is_here & (best.indices != self.steps.blank_id)
                grown = torch.cat((contexts[:, 1:], best.indices[:, None]), dim=1)
                contexts = torch.where(is_here[:, None], grown, contexts)
                news = self.steps.predict(contexts)
                predictions = torch.where(is_here[:, None], news, predictions)
        if not read:
            return state
        on_way = OnItsWay(torch.stack(read, dim=1)), OnItsWay(torch.stack(scores, dim=1))
        symbols, values = (numbers.arrived().tolist() for numbers in on_way)
        return self._grown(state, predictions, symbols, values, lens.tolist())

    def _grown(
        self,
        state: GreedyState,
        predictions: Tensor,
        symbols: list[list[int]],
        values: list[list[float]],
        lens: list[int],
    ) -> GreedyState:
        """Return the state after the symbols that each stream read, ``max_sym_per_frame`` each."""
        partials, log_probs = [], list(state.log_probs)
        for row, (those, their_values) in enumerate(zip(symbols, values, strict=True)):
            tokens, times = [], []
            for place, (symbol, value) in enumerate(zip(those, their_values, strict=True)):
                if symbol == _NOT_READ:
                    continue
                log_probs[row] += value
                if symbol != self.steps.blank_id:
                    tokens.append(symbol)
                    times.append(state.num_frames[row] + place // self.max_sym_per_frame)
            partials.append(state.partials[row].plus(tokens, times))
        seen = [before + num for before, num in zip(state.num_frames, lens, strict=True)]
        return replace(
            state, predictions=predictions, log_probs=log_probs, partials=partials, num_frames=seen
        )

    def results(self, state: GreedyState) -> list[Utterance]:
        """What each stream has recognised; ``log_prob`` counts all symbols, blanks included."""
        return [
            Utterance(list(partial.tokens), list(partial.frames), log_prob)
            for partial, log_prob in zip(state.partials, state.log_probs, strict=True)
        ]

    def _walkers(self, state: GreedyState, lens: list[int]) -> list[_GreedyHypothesis]:
        walkers, place = [], 0
        for row, num in enumerate(lens):
            context = state.last_tokens(row)
            first = place - state.num_frames[row]
            log_prob = state.log_probs[row]
            walkers.append(_GreedyHypothesis(row, first, place, place + num, context, log_prob))
            place += num
        return walkers

    def _step(self, walkers: list[_GreedyHypothesis], frames: Tensor, predictions: Tensor) -> None:
        """Go on to the next token of each utterance, or over a block of blanks.

        Args:
            walkers: utterances that are not at their end.
            frames: (F, J), projected, those of all utterances one after another.
            predictions: (N, J); those that follow a new token are replaced.
        """
        width = min(max(BLOCK_FRAMES // len(walkers), 1), MAX_WIDTH)
        places = _ids([walker.place for walker in walkers], frames)[:, None]
        # Beyond its end an utterance reads into the next one, and takes nothing from there.
        places = (places + torch.arange(width, device=frames.device)).clamp(max=len(frames) - 1)
        rows = _ids([walker.row for walker in walkers], frames)
        best = self.steps.next_scores(
            frames.index_select(0, places.flatten()).view(*places.shape, -1),
            predictions.index_select(0, rows).unsqueeze(1),
        ).max(dim=-1)
        emitted = [
            walker
            for walker, symbols, log_probs in zip(
                walkers, best.indices.tolist(), best.values.tolist(), strict=True
            )
            if walker.take(
                zip(symbols, log_probs, strict=True), self.steps.blank_id, self.max_sym_per_frame
            )
        ]
        if emitted:
            rows = _ids([walker.row for walker in emitted], frames)
            contexts = _ids([walker.context for walker in emitted], frames)
            predictions.index_copy_(0, rows, self.steps.predict(contexts))


def _state_after(
    state: GreedyState, walkers: list[_GreedyHypothesis], predictions: Tensor
) -> GreedyState:
    return replace(
        state,
        predictions=predictions,
        log_probs=[walker.log_prob for walker in walkers],
        partials=[
            partial.plus(walker.tokens, walker.times)
            for partial, walker in zip(state.partials, walkers, strict=True)
        ],
        num_frames=[walker.end - walker.first for walker in walkers],
    )


@dataclass(slots=True)
class _GreedyHypothesis:
    """An utterance on its way through its frames, which stand among those of all utterances.

    Attributes:
        row: its place in the batch.
        first: where its frame 0 would be, before this batch.
        place: the frame it is at.
        end: where its frames end.
        context: its last tokens, as many as the decoder looks back.
        log_prob: of the symbols it has taken.
        tokens, times: what it has emitted, and the frame of each, counted from ``first``.
        num_here: how many of them at its frame.
    """

    row: int
    first: int
    place: int
    end: int
    context: list[int]
    log_prob: float
    tokens: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    num_here: int = 0

    def take(self, read: Iterable[tuple[int, float]], blank_id: int, max_here: int) -> bool:
        """Go on to the first token of those read, and say whether there is one.

        Args:
            read: best symbol and its log-probability for each of the next frames; what lies
                beyond the end is left out.
            blank_id: the symbol that emits nothing.
            max_here: tokens after which the frame is left.
        """
        for symbol, log_prob in read:
            if self.place == self.end:
                break
            self.log_prob += log_prob
            if symbol != blank_id:
                self._emit(symbol, max_here)
                return True
            self._leave_frame()
        return False

    def _emit(self, token: int, max_here: int) -> None:
        self.tokens.append(token)
        self.times.append(self.place - self.first)
        self.context = [*self.context[1:], token]
        self.num_here += 1
        if self.num_here == max_here:
            self._leave_frame()

    def _leave_frame(self) -> None:
        self.place, self.num_here = self.place + 1, 0


def _ids(numbers: list[Any], like: Tensor) -> Tensor:
    return torch.tensor(numbers, device=like.device)
