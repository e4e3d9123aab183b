"""Greedy transducer search: take the best symbol, a block of frames at a time.

On a CPU the books are plain numbers, and what has ended or emitted nothing costs nothing. On a GPU,
where the host would have to wait to know that, they are the tables of ``greedy_blocks``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from zipasr.nn.cuda_graph import Recent
from zipasr.nn.numerics import to_device
from zipasr.search.beam_state import PartialHypothesis
from zipasr.search.greedy_blocks import GreedyBlock, padded_shape
from zipasr.search.protocol import Search, Utterance
from zipasr.search.transducer_step import Context, TransducerSteps, check_lens

#: How many frames of all utterances together the joiner reads at once, and at most of each one.
#: More frames make the product faster for each; those behind a token are read once more.
BLOCK_FRAMES, MAX_WIDTH = 64, 8


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
        cuda_graphs: whether a GPU replays its work.

    Source: Graves, "Sequence transduction with recurrent neural networks", 2012, section 2.
    """

    steps: TransducerSteps
    max_sym_per_frame: int = 1
    cuda_graphs: bool = True
    _blocks: Recent[GreedyBlock] = field(
        default_factory=Recent, init=False, compare=False, repr=False
    )

    @torch.no_grad()
    def start(self, num: int, device: torch.device) -> GreedyState:
        """State of ``num`` streams of which nothing was heard."""
        contexts = self.steps.start_contexts(num, torch.device("cpu"))
        before = [tuple(context) for context in contexts.tolist()]
        predictions = self.steps.predict(to_device(contexts, device))
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
        """Do as ``advance`` with at most two waits for the device.

        How many steps the utterances take is known only afterwards, and most take fewer than half
        as many as they have frames. Where one is not at its end after these, as many follow as it
        may need at most.
        """
        num_frames = int(lens.max()) if lens.numel() else 0
        if num_frames == 0:
            return state
        rows = [state.last_tokens(row) for row in range(len(lens))]
        contexts = to_device(torch.tensor(rows), frames.device)
        frames = self.steps.project(frames[:, :num_frames])
        block = self._block(contexts, state.predictions, frames, to_device(lens, frames.device))
        take = block.replay if self.cuda_graphs else block.take
        take(-(-num_frames // 2))
        found = block.found()
        if left := max(num - place for num, place in zip(lens.tolist(), found[0], strict=True)):
            take(left * self.max_sym_per_frame)
            found = block.found()
        _, log_probs, tokens, times = found
        before = state.num_frames
        return GreedyState(
            block.tables.predictions[: len(lens)].clone(),
            [one + more for one, more in zip(state.log_probs, log_probs, strict=True)],
            [
                partial.plus(those, [time + first for time in their_times])
                for partial, those, their_times, first in zip(
                    state.partials, tokens, times, before, strict=True
                )
            ],
            [one + more for one, more in zip(before, lens.tolist(), strict=True)],
            state.contexts,
        )

    def _block(
        self, contexts: Tensor, predictions: Tensor, frames: Tensor, lens: Tensor
    ) -> GreedyBlock:
        """Return what stands at the first frame of a batch."""
        num, num_frames, _ = frames.shape
        shape = padded_shape(num, num_frames) if self.cuda_graphs else (num, num_frames)

        def make() -> GreedyBlock:
            return GreedyBlock(self.steps, self.max_sym_per_frame, contexts, frames, shape)

        key = (*shape, frames.dtype, frames.device)
        block = self._blocks.get(key, make) if self.cuda_graphs else make()
        block.begin(contexts, predictions, frames, lens)
        return block

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
