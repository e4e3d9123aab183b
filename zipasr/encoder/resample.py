"""Lower the frame rate by averaging, raise it by repeating."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zipasr.nn.blocks import is_traced


def frame_groups(x: Tensor, factor: int) -> Tensor:
    """Cut (T, N, C) into (ceil(T / factor), factor, N, C), filled up with the last frame."""
    missing = -x.size(0) % factor
    if is_traced():
        # How many are missing is not known when an exported model is made.
        longest = torch.cat([x, x[-1:].expand(factor - 1, -1, -1)])
        x = longest[: x.size(0) + missing]
    elif missing:
        x = torch.cat([x, x[-1:].expand(missing, -1, -1)])
    return x.reshape(-1, factor, x.size(1), x.size(2))


class SimpleDownsample(nn.Module):
    """Replace each group of frames by their weighted mean, with learned weights.

    The weights are the same for all channels, and equal at the start.

    Args:
        factor: number of frames in a group.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.bias = nn.Parameter(torch.zeros(factor))

    def forward(self, x: Tensor) -> Tensor:
        """Average groups of frames; the last frame is repeated to fill the last group.

        Args:
            x: (T, N, C).

        Returns:
            (ceil(T / factor), N, C).
        """
        groups = frame_groups(x, self.factor)
        weights = self.bias.softmax(dim=0).to(x.dtype)
        return (groups * weights[:, None, None]).sum(dim=1)


class SimpleUpsample(nn.Module):
    """Repeat every frame; no parameters.

    Args:
        factor: how often each frame appears.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Repeat frames and cut.

        Args:
            x: (T, N, C).
            num_frames: length of the result, at most ``T * factor``.

        Returns:
            (num_frames, N, C).
        """
        repeated = x.unsqueeze(1).expand(-1, self.factor, -1, -1)
        return repeated.flatten(0, 1)[:num_frames]
