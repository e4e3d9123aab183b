"""Stacks of different widths behind one another: channels fitted, and gathered at the end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def fit_channels(x: Tensor, num_channels: int) -> Tensor:
    """Cut channels off, or append zeros, so that ``x`` has ``num_channels`` of them."""
    if x.size(-1) >= num_channels:
        return x[..., :num_channels]
    return nn.functional.pad(x, (0, num_channels - x.size(-1)))


def widest_output(outputs: Sequence[Tensor]) -> Tensor:
    """Take each channel from the latest stack that has it.

    Args:
        outputs: (T1, N, C of the stack) for each stack.

    Returns:
        (T1, N, largest C).
    """
    parts = [outputs[-1]]
    width = outputs[-1].size(-1)
    for output in reversed(outputs[:-1]):
        if output.size(-1) > width:
            parts.append(output[..., width:])
            width = output.size(-1)
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
