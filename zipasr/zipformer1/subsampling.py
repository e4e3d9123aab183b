"""The convolutional front end: 10 ms feature frames to 20 ms vectors."""

from __future__ import annotations

from torch import Tensor, nn

from zipasr.nn.linear import scaled_linear
from zipasr.zipformer1.activation import DoubleSwish
from zipasr.zipformer1.balancer import ActivationBalancer

#: Output channels of the three convolutions.
CHANNELS = (8, 32, 128)


class Conv2dSubsampling(nn.Module):
    """Three convolutions over time and frequency, and a linear layer.

    Args:
        in_channels: mel bins, at least 7.
        out_channels: C of the result.
        dropout: rate in training.
    """

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        first, second, third = CHANNELS
        self.conv = nn.Sequential(
            nn.Conv2d(1, first, kernel_size=3, padding=(0, 1)),
            ActivationBalancer(channel_dim=1),
            DoubleSwish(),
            nn.Conv2d(first, second, kernel_size=3, stride=2),
            ActivationBalancer(channel_dim=1),
            DoubleSwish(),
            nn.Conv2d(second, third, kernel_size=3, stride=(1, 2)),
            ActivationBalancer(channel_dim=1),
            DoubleSwish(),
        )
        bins = ((in_channels - 1) // 2 - 1) // 2
        self.out = scaled_linear(third * bins, out_channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, (T - 7) // 2, C) for features (N, T, F); T is at least 9."""
        pictures = self.conv(x.unsqueeze(1))
        result: Tensor = self.dropout(self.out(pictures.transpose(1, 2).flatten(2)))
        return result
