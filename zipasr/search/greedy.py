"""Greedy transducer search: take the best symbol, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zipasr.search.hypotheses import Partial
from zipasr.search.steps import TransducerSteps, longest_first
from zipasr.search.streams import rows_of
from zipasr.search.types import Utterance


@dataclass(frozen=True, slots=True)
class GreedyState:
    """Where a search stands in N streams.

    Attributes:
        contexts: (N, C) int64, last tokens.
        predictions: (N, J), what the decoder makes of the contexts.
        log_probs: (N,), of the symbols taken.
        partials: for each stream, what it has recognised.
        num_frames: for each stream, how many frames it has seen.
    """

    contexts: Tensor
    predictions: Tensor
    log_probs: Tensor
    partials: list[Partial]
    num_frames: list[int]


@dataclass(frozen=True, slots=True)
class GreedySearch:
    """Follow the most probable symbol of each frame, all utterances at once.

    A blank moves on to the next frame; so does the ``max_sym_per_frame``-th token of a frame,
    without a blank. The result does not depend on what else is in the batch. The decoder
    runs only for utterances that have just emitted a token.

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
        return GreedyState(
            contexts,
            self.steps.predict(contexts),
            torch.zeros(num, device=device),
            [Partial()] * num,
            [0] * num,
        )

    @torch.no_grad()
    def advance(self, state: GreedyState, frames: Tensor, lens: Tensor) -> GreedyState:
        """Go on with the next frames (N, T', C) of each stream, ``lens`` (N,) of them valid.

        Raises:
            ValueError: a length is negative or longer than the frames given.
        """
        steps, batch = self.steps, longest_first(self.steps.project(frames), lens)
        # A copy of the rows: the state that was given stays as it is.
        state = rows_of(state, batch.order)
        contexts, predictions, log_probs = state.contexts, state.predictions, state.log_probs
        emitted: list[list[tuple[int, int]]] = [[] for _ in batch.lens]
        everyone = torch.arange(len(batch.lens), device=frames.device)
        for frame, num_alive in enumerate(batch.num_alive):
            rows = everyone[:num_alive]
            # At first without indices, which would copy all frames and predictions.
            heard, predicted = batch.frames[:num_alive, frame], predictions[:num_alive]
            for turn in range(self.max_sym_per_frame):
                if turn:
                    heard, predicted = batch.frames[rows, frame], predictions[rows]
                best = steps.next_scores(heard, predicted).max(dim=-1)
                log_probs[rows] += best.values
                is_token = best.indices != steps.blank_id
                rows, tokens = rows[is_token], best.indices[is_token]
                if rows.numel() == 0:
                    break
                contexts[rows] = torch.cat((contexts[rows, 1:], tokens[:, None]), dim=1)
                predictions[rows] = steps.predict(contexts[rows])
                for row, token in zip(rows.tolist(), tokens.tolist(), strict=True):
                    emitted[row].append((token, state.num_frames[row] + frame))
        partials = [
            before.plus((token for token, _ in pairs), (frame for _, frame in pairs))
            for before, pairs in zip(state.partials, emitted, strict=True)
        ]
        seen = [before + num for before, num in zip(state.num_frames, batch.lens, strict=True)]
        done = GreedyState(contexts, predictions, log_probs, partials, seen)
        return rows_of(done, batch.places())

    def results(self, state: GreedyState) -> list[Utterance]:
        """What each stream has recognised; ``log_prob`` counts all symbols, blanks included."""
        return [
            Utterance(list(partial.tokens), list(partial.frames), log_prob)
            for partial, log_prob in zip(state.partials, state.log_probs.tolist(), strict=True)
        ]


def greedy_search(
    frames: Tensor, lens: Tensor, *, steps: TransducerSteps, max_sym_per_frame: int = 1
) -> list[Utterance]:
    """Search whole utterances; see ``GreedySearch``.

    Args:
        frames: (N, T', C), encoder output.
        lens: (N,) integers, valid frames of each utterance; 0 gives an empty result.
        steps: the transducer.
        max_sym_per_frame: at least 1.

    Returns:
        N utterances; ``log_prob`` is the sum over all symbols taken, blanks included.

    Raises:
        ValueError: a length is negative or longer than the frames given.
    """
    search = GreedySearch(steps, max_sym_per_frame)
    return search.results(search.advance(search.start(len(lens), frames.device), frames, lens))
