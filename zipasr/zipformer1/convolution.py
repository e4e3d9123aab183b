"""What the neighbouring frames say: a gated depthwise convolution over time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zipasr.nn.cache import Cache
from zipasr.nn.convolution import convolve_time
from zipasr.nn.linear import scaled_conv1d
from zipasr.zipformer1.activation import DoubleSwish
from zipasr.zipformer1.balancer import ActivationBalancer


class ConvolutionModule(nn.Module):
    """Gated linear unit, depthwise convolution, DoubleSwish, linear layer.

    The linear layers are convolutions of one frame in published checkpoints, hence the names.

    Args:
        num_channels: C.
        kernel_size: K, odd number of frames.
        causal: whether frames to come are out of sight.
    """

    def __init__(self, num_channels: int, kernel_size: int, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal
        self.pointwise_conv1 = nn.Conv1d(num_channels, 2 * num_channels, kernel_size=1)
        self.deriv_balancer1 = ActivationBalancer(
            channel_dim=-1, max_abs=10.0, min_positive=0.05, max_positive=1.0
        )
        self.depthwise_conv = nn.Conv1d(
            num_channels, num_channels, kernel_size, groups=num_channels
        )
        self.deriv_balancer2 = ActivationBalancer(
            channel_dim=-1, max_abs=20.0, min_positive=0.05, max_positive=1.0
        )
        self.activation = DoubleSwish()
        self.pointwise_conv2 = scaled_conv1d(
            num_channels, num_channels, kernel_size=1, initial_scale=0.05
        )

    def forward(
        self, x: Tensor, padding_mask: Tensor | None = None, memory: Cache | None = None
    ) -> Tensor:
        """Convolve the valid frames.

        Args:
            x: (T, N, C).
            padding_mask: (N, T), True at padding, which counts as silence (zeros).
            memory: of a causal module: the K - 1 gated frames before ``x``.

        Returns:
            (T, N, C).
        """
        value, gate = self.deriv_balancer1(_pointwise(self.pointwise_conv1, x)).chunk(2, dim=-1)
        gated = value * torch.sigmoid(gate)
        if padding_mask is not None:
            gated = gated.masked_fill(padding_mask.t().unsqueeze(-1), 0.0)
        convolved = self.deriv_balancer2(self._convolved(gated, memory))
        return _pointwise(self.pointwise_conv2, self.activation(convolved))

    def _convolved(self, x: Tensor, memory: Cache | None) -> Tensor:
        conv, padding = self.depthwise_conv, 0
        past = conv.kernel_size[0] - 1
        if memory is not None:
            x = memory.extend(x)
        elif self.causal:
            x = F.pad(x, (0, 0, 0, 0, past, 0))
        else:
            padding = past // 2
        return convolve_time(x.unsqueeze(0), conv.weight, conv.bias, padding).squeeze(0)


def _pointwise(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """Apply a convolution of one frame to (T, N, C)."""
    return F.linear(x, conv.weight.squeeze(-1), conv.bias)
