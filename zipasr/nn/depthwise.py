"""Depthwise convolution over time for tensors whose channels come last."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def convolve_time(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    """Convolve each channel over time on its own.

    Args:
        x: (B, T, N, C); B pieces that do not see each other.
        weight: (C, 1, K).
        bias: (C,) or ``None``.
        padding: zeros before the first and after the last frame.

    Returns:
        (B, T + 2 padding + 1 - K, N, C).
    """
    # Seen as pictures of height T and width N whose channels come last in memory, the pieces need
    # no transposed copy.
    kernel = weight.squeeze(1)[:, None, :, None]
    pictures = x.permute(0, 3, 1, 2)
    y = F.conv2d(pictures, kernel, bias, padding=(padding, 0), groups=weight.size(0))
    return y.permute(0, 2, 3, 1)


class DepthwiseConv1d(nn.Conv1d):
    """Convolution over time of each channel on its own, for time-first tensors.

    Args:
        num_channels: C.
        kernel_size: odd number of frames.
    """

    def __init__(self, num_channels: int, kernel_size: int) -> None:
        super().__init__(
            num_channels,
            num_channels,
            kernel_size,
            padding=kernel_size // 2,
            groups=num_channels,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (T, N, C) with zeros beyond both ends; the length stays."""
        padding = self.kernel_size[0] // 2
        return convolve_time(x.unsqueeze(0), self.weight, self.bias, padding).squeeze(0)
