"""The mean over time, added to every frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zipasr.nn.linear import scaled_linear


class MeanMemory:
    """The running mean of one stream of vectors.

    Args:
        count: (N,) integers, frames averaged so far.
        mean: (N, C) of them.
    """

    def __init__(self, count: Tensor, mean: Tensor) -> None:
        self.count, self.mean = count, mean

    def extend(self, x: Tensor) -> Tensor:
        """Return the mean up to each frame of ``x`` (T, N, C), and remember the last one."""
        before = (self.mean * self.count[:, None]).to(x.dtype)
        counts = self.count + torch.arange(1, x.size(0) + 1, device=x.device)[:, None]
        means = (before + x.cumsum(dim=0)) / counts.unsqueeze(-1)
        self.count, self.mean = counts[-1], means[-1].to(self.mean.dtype)
        return means


class PoolingModule(nn.Module):
    """Mean over the valid frames, or over those so far, and a linear layer.

    Args:
        num_channels: C.
        causal: whether frames to come are out of sight.
    """

    def __init__(self, num_channels: int, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal
        self.proj = scaled_linear(num_channels, num_channels, bias=False, initial_scale=0.1)

    def forward(
        self, x: Tensor, padding_mask: Tensor | None = None, memory: MeanMemory | None = None
    ) -> Tensor:
        """Average and project.

        Args:
            x: (T, N, C).
            padding_mask: (N, T), True at padding.
            memory: of a causal module: what came before, if ``x`` is one chunk of many.

        Returns:
            (1, N, C); of a causal module (T, N, C).
        """
        if memory is not None:
            return self._projected(memory.extend(x))
        valid = _valid(x, padding_mask)
        if self.causal:
            share = valid / valid.cumsum(dim=0).clamp(min=1)
            return self._projected((x * valid).cumsum(dim=0) * share.to(x.dtype))
        share = valid / valid.sum(dim=0).clamp(min=1)
        return self._projected((x * share.to(x.dtype)).sum(dim=0, keepdim=True))

    def _projected(self, x: Tensor) -> Tensor:
        result: Tensor = self.proj(x)
        return result


def _valid(x: Tensor, padding_mask: Tensor | None) -> Tensor:
    """Return (T, N or 1, 1), 1.0 at valid frames and 0.0 at padding."""
    if padding_mask is None:
        return x.new_ones(x.size(0), 1, 1)
    return padding_mask.logical_not().t().unsqueeze(-1).to(x.dtype)
