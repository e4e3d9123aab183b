"""What the neighbouring frames say: a gated depthwise convolution over time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zipasr.nn.balancer import Balancer
from zipasr.nn.fused import ActivationDropoutAndLinear
from zipasr.nn.schedule import ScheduledFloat
from zipasr.nn.whiten import Whiten


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
            kernel_size=kernel_size,
            groups=num_channels,
            padding=kernel_size // 2,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve with zeros beyond both ends.

        Args:
            x: (T', N, C).

        Returns:
            (T', N, C).
        """
        # Seen as one picture of height T' and width N whose channels come last in memory,
        # the time-first tensor needs no transposed copy.
        picture = x.permute(2, 0, 1).unsqueeze(0)
        kernel = self.weight.squeeze(1)[:, None, :, None]
        padding = (self.kernel_size[0] // 2, 0)
        y = F.conv2d(picture, kernel, self.bias, padding=padding, groups=self.groups)
        return y.squeeze(0).permute(1, 2, 0)


class ConvolutionModule(nn.Module):
    """Gated linear unit, depthwise convolution, SwooshR, linear layer.

    Args:
        num_channels: C.
        kernel_size: odd number of frames.
    """

    def __init__(self, num_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(num_channels, 2 * num_channels)
        self.balancer1 = Balancer(
            num_channels,
            channel_dim=-1,
            min_positive=ScheduledFloat((0.0, 0.05), (8000.0, 0.025)),
            max_positive=1.0,
            min_abs=1.5,
            max_abs=ScheduledFloat((0.0, 5.0), (8000.0, 10.0), default=1.0),
        )
        self.depthwise_conv = DepthwiseConv1d(num_channels, kernel_size)
        self.balancer2 = Balancer(
            num_channels,
            channel_dim=-1,
            min_positive=ScheduledFloat((0.0, 0.1), (8000.0, 0.05)),
            max_positive=1.0,
            min_abs=ScheduledFloat((0.0, 0.2), (20000.0, 0.5)),
            max_abs=10.0,
        )
        self.whiten = Whiten(
            num_groups=1,
            whitening_limit=ScheduledFloat((0.0, 7.5), (20000.0, 15.0), default=7.5),
            prob=(0.025, 0.25),
            grad_scale=0.01,
        )
        self.out_proj = ActivationDropoutAndLinear(
            num_channels, num_channels, activation="SwooshR", dropout_p=0.0, initial_scale=0.05
        )

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Convolve the valid frames.

        Args:
            x: (T', N, C).
            padding_mask: (N, T'), True at padding, which counts as silence (zeros).

        Returns:
            (T', N, C).
        """
        value, gate = self.in_proj(x).chunk(2, dim=-1)
        gated = value * torch.sigmoid(self.balancer1(gate))
        if padding_mask is not None:
            gated = gated.masked_fill(padding_mask.t().unsqueeze(-1), 0.0)
        convolved = self.whiten(self.balancer2(self.depthwise_conv(gated)))
        result: Tensor = self.out_proj(convolved)
        return result
