"""Residual connections that can be scaled, or left out for single utterances."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zipasr.nn.gradients import limit_param_value
from zipasr.nn.schedule import FloatLike, ScheduledFloat


def keep_mask(num_utterances: int, rate: float, like: Tensor) -> Tensor | None:
    """Draw which utterances keep a branch.

    Args:
        num_utterances: N.
        rate: probability of leaving the branch out; 0 draws nothing.
        like: gives the device and the dtype.

    Returns:
        (N, 1) ones and zeros, or ``None`` when every utterance keeps the branch (which only a CPU
        can tell without waiting). Kept
        branches are not scaled up: leaving out is a regulariser, not dropout.
    """
    if rate == 0.0:
        return None
    keep = torch.rand(num_utterances, 1, device=like.device) > rate
    if keep.device.type == "cpu" and bool(keep.all()):
        return None
    return keep.to(like.dtype)


def add_branch(x: Tensor, branch: Tensor, keep: Tensor | None) -> Tensor:
    """Add a branch to the stream for the utterances that keep it.

    Args:
        x: (T', N, C), the stream.
        branch: (T', N, C), what a block made of it.
        keep: (N, 1) from ``keep_mask``.

    Returns:
        (T', N, C).
    """
    return x + branch if keep is None else torch.addcmul(x, branch, keep)


class BypassModule(nn.Module):
    """Mix the input and the output of a group of blocks, with one weight for each channel.

    In training the weight is pushed into a range that narrows the more the longer
    training lasts, and whole groups are left out for some utterances.

    Args:
        num_channels: C.
        skip_rate: probability that an utterance keeps the input unchanged.
    """

    def __init__(self, num_channels: int, skip_rate: FloatLike = 0.0) -> None:
        super().__init__()
        self.bypass_scale = nn.Parameter(torch.full((num_channels,), 0.5))
        self.skip_rate = skip_rate
        self.scale_min = ScheduledFloat((0.0, 0.9), (20000.0, 0.2))
        self.scale_max = 1.0

    def forward(self, original: Tensor, new: Tensor) -> Tensor:
        """Return ``original + (new - original) * scale``.

        Args:
            original: (T', N, C), the input of the group.
            new: (T', N, C), its output.

        Returns:
            (T', N, C).
        """
        return torch.addcmul(original, new - original, self._scale(original.size(1)))

    def _scale(self, num_utterances: int) -> Tensor:
        if not self.training:
            return self.bypass_scale
        scale = limit_param_value(
            self.bypass_scale, min=float(self.scale_min), max=self.scale_max, training=True
        )
        keep = keep_mask(num_utterances, float(self.skip_rate), like=scale)
        return scale if keep is None else scale * keep
