"""Beam search over any number of tokens per frame: slow, and here to compare with."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from zipasr.search.protocol import Utterance
from zipasr.search.transducer_step import TransducerSteps, check_lens

# A context that predicts itself with certainty would go on for ever. So many hypotheses are taken
# up at a frame at most; speech needs a few for each slot of the beam.
MAX_TAKEN_PER_FRAME = 400

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Hypothesis:
    """Tokens, the frame of each, and the log-probability of all ways to them that were seen."""

    tokens: Tokens
    frames: tuple[int, ...]
    log_prob: float

    def joined(self, other: _Hypothesis) -> _Hypothesis:
        """Add another way to the same tokens; the times are those of this one."""
        high, low = max(self.log_prob, other.log_prob), min(self.log_prob, other.log_prob)
        total = high + math.log1p(math.exp(low - high))
        return _Hypothesis(self.tokens, self.frames, total)


class _Bag:
    """Hypotheses by their tokens; one that is there already is joined."""

    def __init__(self) -> None:
        self.by_tokens: dict[Tokens, _Hypothesis] = {}

    def add(self, one: _Hypothesis) -> None:
        """Put a hypothesis in."""
        known = self.by_tokens.get(one.tokens)
        self.by_tokens[one.tokens] = one if known is None else known.joined(one)

    def take_best(self) -> _Hypothesis:
        """Take the most probable hypothesis out."""
        best = max(self.by_tokens.values(), key=lambda one: one.log_prob)
        del self.by_tokens[best.tokens]
        return best

    def best_log_prob(self) -> float:
        """Log-probability of the most probable one; -inf if there is none."""
        return max((one.log_prob for one in self.by_tokens.values()), default=-math.inf)


class _Scores:
    """Log-probabilities of the next symbol at one frame; each context is predicted once."""

    def __init__(self, steps: TransducerSteps, device: torch.device) -> None:
        self._steps, self._device = steps, device
        self._predictions: dict[Tokens, Tensor] = {}
        self._at_frame: dict[Tokens, Tensor] = {}
        self._frame = torch.empty(0)

    def go_to(self, frame: Tensor) -> None:
        """Answer for the projected frame (J,) from now on."""
        self._frame = frame[None]
        self._at_frame = {}

    def of(self, tokens: Tokens) -> Tensor:
        """(V,) log-probabilities after ``tokens``."""
        start = self._steps.start_contexts(1, self._device)[0].tolist()
        context = (*start, *tokens)[-len(start) :]
        if context not in self._at_frame:
            if context not in self._predictions:
                ids = torch.tensor([context], device=self._device)
                self._predictions[context] = self._steps.predict(ids)
            self._at_frame[context] = self._steps.next_scores(
                self._frame, self._predictions[context]
            )[0]
        return self._at_frame[context]


def beam_search(
    frames: Tensor, lens: Tensor, *, steps: TransducerSteps, beam_size: int = 4
) -> list[Utterance]:
    """Search with several hypotheses that may take any number of tokens at a frame.

    It is slow, and it is here to compare with: ``ModifiedBeamSearch`` is at least as good for
    models trained with pruned losses. A frame ends when ``beam_size`` hypotheses that took blank
    are more probable than all others, or after ``MAX_TAKEN_PER_FRAME`` hypotheses.

    Args:
        frames: (N, T', C), encoder output.
        lens: (N,) integers, valid frames of each utterance; 0 gives an empty result.
        steps: the transducer.
        beam_size: at least 1.

    Returns:
        N utterances, by log-probability per symbol, start symbols counted; ``log_prob`` is not
        normalised.

    Raises:
        ValueError: a length is negative or longer than the frames given.

    Source: Graves, "Sequence transduction with recurrent neural networks", 2012, section 2.6,
    without its prefix probabilities.
    """
    return [found[0] for found in beam_search_nbest(frames, lens, steps, beam_size)]


@torch.no_grad()
def beam_search_nbest(
    frames: Tensor, lens: Tensor, steps: TransducerSteps, beam_size: int
) -> list[list[Utterance]]:
    """The final hypotheses of ``beam_search``, best first."""
    check_lens(lens, frames.size(1))
    projected = steps.project(frames)
    return [
        _search(projected[row, :num], steps, beam_size) for row, num in enumerate(lens.tolist())
    ]


def _search(frames: Tensor, steps: TransducerSteps, beam_size: int) -> list[Utterance]:
    scores = _Scores(steps, frames.device)
    kept = [_Hypothesis((), (), 0.0)]
    for time, frame in enumerate(frames):
        scores.go_to(frame)
        kept = _take_frame(kept, scores, time, steps.blank_id, beam_size)
    kept.sort(key=lambda one: -one.log_prob / (len(one.tokens) + steps.context_size))
    return [Utterance(list(one.tokens), list(one.frames), one.log_prob) for one in kept]


def _take_frame(
    before: list[_Hypothesis], scores: _Scores, time: int, blank_id: int, beam_size: int
) -> list[_Hypothesis]:
    going, done = _Bag(), _Bag()
    for one in before:
        going.add(one)
    for _ in range(MAX_TAKEN_PER_FRAME):
        one = going.take_best()
        log_probs = scores.of(one.tokens)
        blank = one.log_prob + float(log_probs[blank_id])
        done.add(_Hypothesis(one.tokens, one.frames, blank))
        best = log_probs.topk(min(beam_size + 1, log_probs.numel()))
        for value, symbol in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            if symbol != blank_id:
                grown = (*one.tokens, symbol), (*one.frames, time)
                going.add(_Hypothesis(*grown, one.log_prob + value))
        bar = going.best_log_prob()
        ahead = [other for other in done.by_tokens.values() if other.log_prob > bar]
        if len(ahead) >= beam_size:
            break
    else:
        ahead = list(done.by_tokens.values())
    return sorted(ahead, key=lambda other: -other.log_prob)[:beam_size]
