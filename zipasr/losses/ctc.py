"""CTC loss, and the consistency loss between two augmented views of an utterance."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from zipasr.losses.recursion import loss_dtype
from zipasr.nn.masks import make_pad_mask
from zipasr.nn.numerics import to_device


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
    joined = torch.tensor([t for tokens in targets for t in tokens], dtype=torch.int64)
    losses = torch.nn.functional.ctc_loss(
        log_probs.to(loss_dtype(log_probs)).transpose(0, 1),
        to_device(joined, log_probs.device),
        # Wherever the labels are, their numbers are read on the host.
        lens.to("cpu", torch.int64),
        torch.tensor([len(tokens) for tokens in targets]),
        reduction="none",
        zero_infinity=True,
    )
    needed = torch.tensor([_least_frames(tokens) for tokens in targets])
    too_short = to_device(needed > lens.cpu(), log_probs.device)
    return losses.masked_fill(too_short, float("inf")).sum()


def _least_frames(tokens: list[int]) -> int:
    """One frame per token, and a blank between equal neighbours."""
    return len(tokens) + sum(a == b for a, b in pairwise(tokens))


def consistency_loss(log_probs: Tensor, lens: Tensor) -> Tensor:
    """Divergence between the CTC distributions of two views, in both directions, summed.

    Each view is drawn towards the other: sum over frames and V of ``q (log q - log p)``, with p
    the distribution of this view and q that of the other one, which gets no gradient from it.

    Args:
        log_probs: (2N, T', V) log-probabilities; rows n and N + n are views of one utterance.
            Computed in float32 (or float64).
        lens: (2N,) integers, number of valid frames; frames beyond count nothing.

    Returns:
        A scalar in nats, at least 0.

    Raises:
        ValueError: the number of rows is odd.

    Source: Yao et al., "CR-CTC: consistency regularization on CTC for improved speech
    recognition", 2024.
    """
    if log_probs.size(0) % 2:
        raise ValueError(f"views come in pairs, got {log_probs.size(0)} rows")
    own = log_probs.to(loss_dtype(log_probs))
    other = own.detach().roll(own.size(0) // 2, dims=0)
    padding = make_pad_mask(lens, own.size(1), own.device)
    with torch.autocast(own.device.type, enabled=False):
        by_token = torch.nn.functional.kl_div(own, other, reduction="none", log_target=True)
        return by_token.masked_fill(padding[:, :, None], 0.0).sum()
