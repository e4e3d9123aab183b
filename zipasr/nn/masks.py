"""Padding masks from lengths."""

from __future__ import annotations

import torch
from torch import Tensor


def make_pad_mask(lengths: Tensor, max_len: int | None = None) -> Tensor:
    """Mark the positions beyond each length.

    Args:
        lengths: (N,) integers, number of valid frames of each utterance.
        max_len: T of the result; the longest length when omitted.

    Returns:
        (N, T) booleans, True at padding.
    """
    frames = torch.arange(max_len or int(lengths.max()), device=lengths.device)
    return frames >= lengths[:, None]
