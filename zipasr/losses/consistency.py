"""The consistency loss: two views of an utterance should get the same CTC distributions."""

from __future__ import annotations

import torch
from torch import Tensor

from zipasr.base.masks import make_pad_mask
from zipasr.losses.arcs import loss_dtype


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
    padding = make_pad_mask(lens, own.size(1))
    with torch.autocast(own.device.type, enabled=False):
        by_token = torch.nn.functional.kl_div(own, other, reduction="none", log_target=True)
        return by_token.masked_fill(padding[:, :, None], 0.0).sum()
