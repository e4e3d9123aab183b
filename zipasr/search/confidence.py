"""Probabilities of recognised tokens at the frames at which they were emitted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zipasr.search.transducer_step import TransducerSteps


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
