"""Modified beam search of one utterance on a CPU, with its books in plain numbers.

It takes the steps of ``beam_search.advance`` without its gathers: on the few rows of one beam these
take longer than the joiner. What the decoder makes of a context is remembered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from zipasr.search.beam_state import Beams, BeamSearchState, PartialHypothesis, fingerprint_of
from zipasr.search.transducer_step import Context, TransducerSteps


@dataclass(slots=True)
class _Path:
    """Tokens of a hypothesis, the last one first.

    Attributes:
        token: the last one.
        frame: at which it was emitted.
        before: those before it; ``None``, or a number: the slot that the hypothesis began in.
    """

    token: int
    frame: int
    before: _Path | int


@dataclass(slots=True)
class _Slot:
    """A hypothesis."""

    fingerprint: int
    num_tokens: int
    context: Context
    path: _Path | int

    def grown(self, token: int, frame: int) -> _Slot:
        """Return it with one more token."""
        return _Slot(
            fingerprint_of(self.fingerprint, token),
            self.num_tokens + 1,
            (*self.context[1:], token),
            _Path(token, frame, self.path),
        )


def advance_one(
    state: BeamSearchState[Beams], frames: Tensor, steps: TransducerSteps
) -> BeamSearchState[Beams]:
    """Go on with the projected frames (T', J) of one utterance; no scorer takes part.

    Args:
        state: of one stream.
        frames: all valid.
        steps: the transducer.
    """
    beams, (first,) = state.beams, state.num_frames
    slots = _slots_of(beams)
    blank = steps.blank_id
    log_probs, predictions = beams.log_probs[0], beams.predictions[0]
    for place in range(len(frames)):
        frame, time = frames[place : place + 1], first + place
        candidates = steps.next_scores(frame, predictions).add_(log_probs[:, None])
        num_symbols = candidates.size(1)
        log_probs, chosen = candidates.view(-1).topk(len(slots))
        places = chosen.tolist()
        parents = [place // num_symbols for place in places]
        tokens = [place % num_symbols for place in places]
        slots = [
            slots[parent] if token == blank else slots[parent].grown(token, time)
            for parent, token in zip(parents, tokens, strict=True)
        ]
        if len({slot.fingerprint for slot in slots}) < len(slots):
            log_probs = _merged(slots, log_probs)
        if tokens.count(blank) < len(tokens):
            predictions = steps.remembered([slot.context for slot in slots])
        elif parents != list(range(len(slots))):
            predictions = predictions[parents]
    return BeamSearchState(
        _beams_of(slots, log_probs, predictions),
        [[_partial(slot.path, state.partials[0]) for slot in slots]],
        [first + len(frames)],
    )


def _slots_of(beams: Beams) -> list[_Slot]:
    columns = (beams.fingerprints[0], beams.num_tokens[0], beams.contexts[0])
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [_Slot(mark, num, tuple(context), n) for n, (mark, num, context) in enumerate(rows)]


def _beams_of(slots: list[_Slot], log_probs: Tensor, predictions: Tensor) -> Beams:
    return Beams(
        log_probs[None],
        torch.zeros_like(log_probs[None]),
        torch.tensor([[slot.fingerprint for slot in slots]]),
        torch.tensor([[slot.num_tokens for slot in slots]]),
        torch.tensor([[slot.context for slot in slots]]),
        predictions[None],
    )


def _merged(slots: list[_Slot], log_probs: Tensor) -> Tensor:
    """Join hypotheses with the same tokens; see ``beam_state.merge_equal``."""
    totals: dict[int, float] = {}
    for slot, log_prob in zip(slots, log_probs.tolist(), strict=True):
        known = totals.get(slot.fingerprint, -math.inf)
        high, low = max(known, log_prob), min(known, log_prob)
        is_alone = low == -math.inf
        totals[slot.fingerprint] = high if is_alone else high + math.log1p(math.exp(low - high))
    # The first of equals has the sum, the others nothing.
    return torch.tensor([totals.pop(slot.fingerprint, -math.inf) for slot in slots])


def _partial(path: _Path | int, before: list[PartialHypothesis]) -> PartialHypothesis:
    tokens: list[int] = []
    frames: list[int] = []
    while isinstance(path, _Path):
        tokens.append(path.token)
        frames.append(path.frame)
        path = path.before
    return before[path].plus(reversed(tokens), reversed(frames))
