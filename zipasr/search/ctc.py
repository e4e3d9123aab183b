"""CTC greedy search: best symbol of each frame, repeats joined, blanks dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from zipasr.search.steps import adjusted_log_probs, check_lens
from zipasr.search.types import Utterance

CtcOutput: TypeAlias = Callable[[Tensor], Tensor]
"""Encoder frames (N, T', C) to logits or log-probabilities (N, T', V)."""


@torch.no_grad()
def ctc_greedy_search(
    frames: Tensor,
    lens: Tensor,
    *,
    ctc_output: CtcOutput,
    blank_id: int = 0,
    blank_penalty: float = 0.0,
    temperature: float = 1.0,
) -> list[Utterance]:
    """Read the CTC head along its best path.

    Args:
        frames: (N, T', C), encoder output.
        lens: (N,) integers, valid frames of each utterance.
        ctc_output: the CTC head.
        blank_id: id of blank.
        blank_penalty: subtracted from the logit of blank.
        temperature: divides the logits.

    Returns:
        N utterances; a token's frame is the first of its run, ``log_prob`` that of the path.

    Raises:
        ValueError: a length is negative or longer than the frames given.

    Source: Graves et al., "Connectionist temporal classification", 2006, section 3.2.
    """
    check_lens(lens, frames.size(1))
    log_probs = adjusted_log_probs(ctc_output(frames), blank_id, blank_penalty, temperature)
    best = log_probs.max(dim=-1)
    is_new = torch.ones_like(best.indices, dtype=torch.bool)
    is_new[:, 1:] = best.indices[:, 1:] != best.indices[:, :-1]
    is_token = is_new & (best.indices != blank_id)
    utterances = []
    for row, num_frames in enumerate(lens.tolist()):
        times = is_token[row, :num_frames].nonzero().squeeze(1)
        tokens = best.indices[row, times].tolist()
        log_prob = float(best.values[row, :num_frames].sum())
        utterances.append(Utterance(tokens, times.tolist(), log_prob))
    return utterances
