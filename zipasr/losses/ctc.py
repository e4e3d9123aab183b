"""The CTC loss, a thin cover over PyTorch's."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from zipasr.losses.arcs import loss_dtype


def ctc_loss(log_probs: Tensor, lens: Tensor, targets: list[list[int]]) -> Tensor:
    """CTC loss, summed over the batch.

    Args:
        log_probs: (N, T', V) log-probabilities, blank at 0; computed in float32 (or float64).
        lens: (N,) integers, number of valid frames.
        targets: token ids of each utterance, without blanks.

    Returns:
        A scalar in nats. An utterance with too few frames for its tokens makes it +inf and
        contributes a gradient of 0, as in the transducer losses.

    Source: Graves et al., "Connectionist temporal classification", ICML 2006.
    """
    device = log_probs.device
    joined = torch.tensor([t for tokens in targets for t in tokens], device=device)
    losses = torch.nn.functional.ctc_loss(
        log_probs.to(loss_dtype(log_probs)).transpose(0, 1),
        joined.long(),
        lens.to(device=device, dtype=torch.int64),
        torch.tensor([len(tokens) for tokens in targets], device=device),
        reduction="none",
        zero_infinity=True,
    )
    needed = torch.tensor([_least_frames(tokens) for tokens in targets], device=device)
    return losses.masked_fill(needed > lens.to(device), float("inf")).sum()


def _least_frames(tokens: list[int]) -> int:
    """One frame per token, and a blank between equal neighbours."""
    return len(tokens) + sum(a == b for a, b in pairwise(tokens))
