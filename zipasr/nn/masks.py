"""Padding masks from lengths."""

from __future__ import annotations

import torch
from torch import Tensor

from zipasr.nn.numerics import to_device


def make_pad_mask(
    lengths: Tensor, max_len: int | None = None, device: torch.device | None = None
) -> Tensor:
    """Mark the positions beyond each length.

    Args:
        lengths: (N,) integers, number of valid frames of each utterance.
        max_len: T of the result; the longest length when omitted.
        device: of the result; that of the lengths when omitted.

    Returns:
        (N, T) booleans, True at padding.
    """
    if device is not None:
        lengths = to_device(lengths, device)
    frames = torch.arange(max_len or int(lengths.max()), device=lengths.device)
    return frames >= lengths[:, None]
