"""Tokens and frames: forced alignment of a transcript, probabilities of recognised tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zipasr.search.transducer_step import TransducerSteps

#: Scores of the joiner that are in memory at once.
MAX_SCORES = 2**24

# In place of log-probabilities of minus infinity: sums stay comparable with unreachable states.
_IMPOSSIBLE = np.float32(-1e30)


class Span(NamedTuple):
    """Encoder frames of a token: from ``start`` up to, but not with, ``end``."""

    start: int
    end: int


class AlignedSpan(NamedTuple):
    """Encoder frames of a token, as of ``Span``, and its mean log-probability over them."""

    start: int
    end: int
    log_prob: float


def ctc_spans(log_probs: Tensor, tokens: Sequence[int]) -> list[Span] | None:
    """Align tokens with the frames on the best CTC path; see ``ctc_alignment``."""
    aligned = ctc_alignment(log_probs, tokens)
    return None if aligned is None else [Span(one.start, one.end) for one in aligned]


def ctc_alignment(
    log_probs: Tensor, tokens: Sequence[int], blank: int = 0
) -> list[AlignedSpan] | None:
    """Align tokens with the frames on the best CTC path (Viterbi).

    The path goes through the tokens with a blank before, between and after them. A blank may be
    passed over, unless it stands between two equal tokens. Of equally probable paths, traced back
    from the end, the one that stays longest in its token or blank is taken.

    Args:
        log_probs: (T', V) of the CTC head.
        tokens: ids without blanks.
        blank: id.

    Returns:
        A span for each token; ``None`` if there are too few frames for the tokens.
    """
    repeats = sum(left == right for left, right in pairwise(tokens))
    if len(tokens) + repeats > log_probs.size(0):
        return None
    if not tokens:
        return []
    labels = np.full(2 * len(tokens) + 1, blank)
    labels[1::2] = tokens
    scores = _finite(log_probs[:, torch.from_numpy(labels).to(log_probs.device)])
    may_skip = np.zeros(len(labels), dtype=bool)
    may_skip[3::2] = labels[3::2] != labels[1:-2:2]
    path = _best_path(scores, may_skip)
    return [
        AlignedSpan(int(at[0]), int(at[-1]) + 1, float(scores[at, state].mean()))
        for state in range(1, len(labels), 2)
        for at in [np.flatnonzero(path == state)]
    ]


def _best_path(scores: NDArray[np.float32], may_skip: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the state at each frame on the best path through (T', S) scores.

    It begins in state 0 or 1, ends in one of the last two, and moves on by at most one state a
    frame, or by two into a state that ``may_skip`` the one before.
    """
    num_frames, num_states = scores.shape
    best = np.full(num_states + 2, -np.inf, dtype=np.float32)  # two more before the first state
    best[2:4] = scores[0, :2]
    moves = np.zeros((num_frames, num_states), dtype=np.int8)
    for t in range(1, num_frames):
        stay, step = best[2:], best[1:-1]
        skip = np.where(may_skip, best[:-2], np.float32(-np.inf))
        # A longer move only if it is better than all shorter ones.
        moves[t] = np.where(skip > np.maximum(stay, step), 2, step > stay)
        best[2:] = np.maximum(np.maximum(stay, step), skip) + scores[t]
    state = num_states - 1 if best[-1] > best[-2] else num_states - 2
    path = np.empty(num_frames, dtype=np.int64)
    for t in reversed(range(num_frames)):
        path[t] = state
        state -= int(moves[t, state])
    return path


@torch.no_grad()
def transducer_alignment(
    frames: Tensor, tokens: Sequence[int], steps: TransducerSteps
) -> list[AlignedSpan] | None:
    """Align tokens with the frames at which a transducer emits them (Viterbi).

    The path emits a blank or a token at each frame, as ``greedy_search`` and
    ``modified_beam_search`` do. Time and memory grow with frames times tokens.

    Args:
        frames: (T', C) encoder output.
        tokens: ids without blanks.
        steps: the transducer.

    Returns:
        A span of one frame for each token; ``None`` if there are too few frames for the tokens.
    """
    if len(tokens) > len(frames):
        return None
    if not tokens:
        return []
    blanks, emissions = _lattice(frames, tokens, steps)
    # Of the paths that have emitted as many tokens as the index says.
    best = np.full(len(tokens) + 1, -np.inf, dtype=np.float32)
    best[0] = 0.0
    emits = np.zeros(blanks.shape, dtype=bool)
    for t in range(len(frames)):
        best[1:], emitted = best[1:] + blanks[t, 1:], best[:-1] + emissions[t]
        best[0] += blanks[t, 0]
        emits[t, 1:] = emitted > best[1:]
        best[1:] = np.maximum(best[1:], emitted)
    spans: list[AlignedSpan] = []
    num = len(tokens)
    for t in reversed(range(len(frames))):
        if emits[t, num]:
            num -= 1
            spans.append(AlignedSpan(t, t + 1, float(emissions[t, num])))
    return spans[::-1]


def _lattice(
    frames: Tensor, tokens: Sequence[int], steps: TransducerSteps
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return log-probabilities of blank (T', U + 1) and of the next token (T', U)."""
    history = [*steps.start_contexts(1, frames.device)[0].tolist(), *tokens]
    size, num = steps.context_size, len(tokens)
    contexts = torch.tensor([history[u : u + size] for u in range(num + 1)], device=frames.device)
    predictions = steps.predict(contexts)
    after = torch.tensor([*tokens, steps.blank_id], device=frames.device)
    blanks, emissions = [], []
    # The first frame says how many scores one has.
    width = steps.next_scores(steps.project(frames[:1]), predictions[:1]).size(-1)
    block = max(1, MAX_SCORES // (width * (num + 1)))
    for begin in range(0, len(frames), block):
        part = steps.project(frames[begin : begin + block])
        scores = steps.next_scores(part[:, None], predictions[None])
        blanks.append(scores[..., steps.blank_id])
        emissions.append(scores.gather(-1, after.expand(len(part), -1)[..., None])[:, :-1, 0])
    return _finite(torch.cat(blanks)), _finite(torch.cat(emissions))


def _finite(log_probs: Tensor) -> NDArray[np.float32]:
    finite: NDArray[np.float32] = np.maximum(log_probs.float().cpu().numpy(), _IMPOSSIBLE)
    return finite


@torch.no_grad()
def transducer_token_log_probs(
    frames: Tensor, tokens: Sequence[int], positions: Sequence[int], steps: TransducerSteps
) -> list[float]:
    """Return what a transducer gives to each token at its frame, after the tokens before it.

    Args:
        frames: (T', C) encoder output.
        tokens: ids without blanks.
        positions: for each token, its frame.
        steps: the transducer.

    Returns:
        For each token, the natural logarithm of its probability among all symbols.
    """
    if not tokens:
        return []
    size = steps.context_size
    history = [*steps.start_contexts(1, frames.device)[0].tolist(), *tokens]
    contexts = [history[u : u + size] for u in range(len(tokens))]
    predictions = steps.predict(torch.tensor(contexts, device=frames.device))
    at = torch.tensor(positions, device=frames.device)
    scores = steps.next_scores(steps.project(frames[at]), predictions)
    return _chosen(scores, tokens)


def ctc_token_log_probs(
    log_probs: Tensor, tokens: Sequence[int], positions: Sequence[int]
) -> list[float]:
    """Return what the CTC head gives to each token at its frame.

    Args:
        log_probs: (T', V).
        tokens: ids without blanks.
        positions: for each token, its frame.
    """
    if not tokens:
        return []
    return _chosen(log_probs[torch.tensor(positions, device=log_probs.device)], tokens)


def _chosen(scores: Tensor, tokens: Sequence[int]) -> list[float]:
    ids = torch.tensor(tokens, device=scores.device)
    chosen: list[float] = scores.float().gather(-1, ids[:, None])[:, 0].tolist()
    return chosen
