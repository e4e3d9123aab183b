"""Greedy transducer search: take the best symbol, a block of frames at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zipasr.search.hypotheses import Partial
from zipasr.search.steps import TransducerSteps, check_lens
from zipasr.search.types import Utterance

#: How many frames of all utterances together the joiner reads at once, and at most of each one.
#: More frames make the product faster for each; those behind a token are read once more.
BLOCK_FRAMES, MAX_WIDTH = 64, 8


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
        walk = _Walk.begin(self.steps, state, frames, lens)
        while walk.rows.numel():
            walk.step(self.steps, self.max_sym_per_frame)
        return walk.end(state, lens)

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


@dataclass(slots=True)
class _Walk:
    """Utterances on their way through their frames, which lie one after another.

    Attributes:
        frames: (F, J), projected, those of all utterances without padding.
        places: (N,), where each utterance is among the frames.
        ends: (N,), where its frames end.
        num_here: (N,), tokens that it has emitted at its frame.
        rows: (M,), utterances that are not at their end.
        contexts, predictions, log_probs: as in ``GreedyState``.
        emitted: rows, tokens and places of what was emitted at each step.
    """

    frames: Tensor
    places: Tensor
    ends: Tensor
    num_here: Tensor
    rows: Tensor
    contexts: Tensor
    predictions: Tensor
    log_probs: Tensor
    emitted: list[Tensor]

    @classmethod
    def begin(
        cls, steps: TransducerSteps, state: GreedyState, frames: Tensor, lens: Tensor
    ) -> _Walk:
        """Stand before the first frame of each utterance."""
        check_lens(lens, frames.size(1))
        lens = lens.to(frames.device)
        is_frame = torch.arange(frames.size(1), device=frames.device) < lens[:, None]
        ends = lens.cumsum(0)
        return cls(
            steps.project(frames[is_frame]),
            places=ends - lens,
            ends=ends,
            num_here=torch.zeros_like(ends),
            rows=lens.nonzero()[:, 0],
            # Copies: the state that was given stays as it is.
            contexts=state.contexts.clone(),
            predictions=state.predictions.clone(),
            log_probs=state.log_probs.clone(),
            emitted=[],
        )

    def step(self, steps: TransducerSteps, max_sym_per_frame: int) -> None:
        """Go on to the next token of each utterance, or over a block of blanks."""
        rows, places = self.rows, self.places[self.rows]
        width = min(max(BLOCK_FRAMES // rows.numel(), 1), MAX_WIDTH)
        at = places[:, None] + torch.arange(width, device=rows.device)
        is_inside = at < self.ends[rows, None]
        heard = self.frames[at.clamp(max=self.frames.size(0) - 1).flatten()]
        predicted = self.predictions[rows.repeat_interleave(width)]
        best = steps.next_scores(heard, predicted).max(dim=-1)
        values, symbols = best.values.view_as(at), best.indices.view_as(at)
        is_token = (symbols != steps.blank_id) & is_inside
        num_tokens = is_token.cumsum(dim=1)
        # Up to the first token, and that one.
        is_taken = is_inside & (num_tokens == is_token)
        self.log_probs[rows] += values.masked_fill(~is_taken, 0.0).sum(dim=1)

        num_blank = (num_tokens == 0).sum(dim=1)
        has_token = num_tokens[:, -1] > 0
        num_here = self.num_here[rows].masked_fill(num_blank > 0, 0) + 1
        stays = has_token & (num_here < max_sym_per_frame)
        self.num_here[rows] = num_here * stays
        places = places + num_blank
        self.places[rows] = places + (has_token & ~stays).long()

        hit = has_token.nonzero()[:, 0]
        if hit.numel():
            self._emit(steps, rows[hit], symbols[hit, num_blank[hit]], places[hit])
        self.rows = rows[self.places[rows] < self.ends[rows]]

    def _emit(self, steps: TransducerSteps, rows: Tensor, tokens: Tensor, places: Tensor) -> None:
        contexts = torch.cat((self.contexts[rows, 1:], tokens[:, None]), dim=1)
        self.contexts[rows] = contexts
        self.predictions[rows] = steps.predict(contexts)
        self.emitted.append(torch.stack((rows, tokens, places)))

    def end(self, state: GreedyState, lens: Tensor) -> GreedyState:
        """What ``state`` has become."""
        pairs: list[list[tuple[int, int]]] = [[] for _ in state.partials]
        starts = (self.ends - lens.to(self.ends.device)).tolist()
        for row, token, place in torch.cat(self.emitted, dim=1).T.tolist() if self.emitted else ():
            pairs[row].append((token, place - starts[row] + state.num_frames[row]))
        partials = [
            before.plus((token for token, _ in new), (frame for _, frame in new))
            for before, new in zip(state.partials, pairs, strict=True)
        ]
        seen = [before + num for before, num in zip(state.num_frames, lens.tolist(), strict=True)]
        return GreedyState(self.contexts, self.predictions, self.log_probs, partials, seen)
