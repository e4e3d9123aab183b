"""Lower the frame rate by attention, raise it by repeating, and mix two signals."""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zipasr.encoder.resample import frame_groups
from zipasr.nn.gradients import penalize_abs_values_gt
from zipasr.nn.schedule import FloatLike

SCORE_LIMIT, SCORE_PENALTY = 10.0, 1.0e-4


class AttentionDownsample(nn.Module):
    """Replace each group of frames by a mean whose weights a learned query gives.

    Args:
        in_channels: C.
        out_channels: at least C; the others come from a linear layer on the whole group.
        factor: number of frames in a group.
    """

    def __init__(self, in_channels: int, out_channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.query = nn.Parameter(torch.randn(in_channels) * in_channels**-0.5)
        self.extra_proj: nn.Linear | None = None
        if out_channels > in_channels:
            self.extra_proj = nn.Linear(
                in_channels * factor, out_channels - in_channels, bias=False
            )

    def forward(self, x: Tensor) -> Tensor:
        """Average groups of frames; the last frame is repeated to fill the last group.

        Args:
            x: (T, N, C).

        Returns:
            (ceil(T / factor), N, out_channels).
        """
        groups = frame_groups(x, self.factor)
        scores = (groups * self.query).sum(dim=-1, keepdim=True)
        scores = penalize_abs_values_gt(scores, SCORE_LIMIT, SCORE_PENALTY)
        mean = (groups * scores.softmax(dim=1)).sum(dim=1)
        if self.extra_proj is None:
            return mean
        extra = self.extra_proj(groups.transpose(1, 2).flatten(2))
        return torch.cat([mean, extra], dim=-1)


class BiasedUpsample(nn.Module):
    """Repeat every frame, and add a learned vector to each repetition.

    Args:
        num_channels: C.
        factor: how often each frame appears.
    """

    def __init__(self, num_channels: int, factor: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(0.01 * torch.randn(factor, num_channels))

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Return (num_frames, N, C) for (T, N, C), cut at the end."""
        repeated = x.unsqueeze(1) + self.bias.unsqueeze(1)
        return repeated.flatten(0, 1)[:num_frames]


class SimpleCombiner(nn.Module):
    """``w a + (1 - w) b`` with one learned number; ``a`` may have fewer channels.

    Args:
        skip_prob: probability that a training call returns ``b`` alone.
    """

    def __init__(self, skip_prob: FloatLike = 0.0) -> None:
        super().__init__()
        self.skip_prob = skip_prob
        self.weight1 = nn.Parameter(torch.tensor(0.0))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Combine (T, N, C of a) and (T, N, C), where C is not smaller."""
        weight: Tensor = self.weight1
        if self.training:
            if random.random() < float(self.skip_prob):
                return b
            if random.random() < 0.25:
                weight = weight.clamp(0.0, 0.75)
        padded = F.pad(a, (0, b.size(-1) - a.size(-1)))
        return padded * weight + b * (1.0 - weight)
