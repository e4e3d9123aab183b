"""Feed-forward and convolution blocks of a layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zipasr.nn.balancer import Balancer
from zipasr.nn.fused import ActivationDropoutAndLinear
from zipasr.nn.layers import Cache, ChunkCausalDepthwiseConv1d, DepthwiseConv1d
from zipasr.nn.schedule import FloatLike, ScheduledFloat
from zipasr.nn.whiten import Whiten


class FeedforwardModule(nn.Module):
    """Linear layer, SwooshL, dropout shared over time, linear layer.

    Args:
        num_channels: C of input and output.
        hidden_channels: channels in between.
        dropout: rate in training.
    """

    def __init__(self, num_channels: int, hidden_channels: int, dropout: FloatLike) -> None:
        super().__init__()
        self.in_proj = nn.Linear(num_channels, hidden_channels)
        self.hidden_balancer = Balancer(
            hidden_channels,
            channel_dim=-1,
            min_positive=0.3,
            max_positive=1.0,
            min_abs=0.75,
            max_abs=5.0,
        )
        self.out_proj = ActivationDropoutAndLinear(
            hidden_channels,
            num_channels,
            activation="SwooshL",
            dropout_p=dropout,
            dropout_shared_dim=0,
            initial_scale=0.1,
        )
        self.out_whiten = Whiten(
            num_groups=1,
            whitening_limit=ScheduledFloat((0.0, 7.5), (20000.0, 15.0), default=7.5),
            prob=(0.025, 0.25),
            grad_scale=0.01,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Transform each frame on its own.

        Args:
            x: (T', N, C).

        Returns:
            (T', N, C).
        """
        result: Tensor = self.out_whiten(self.out_proj(self.hidden_balancer(self.in_proj(x))))
        return result


class ConvolutionModule(nn.Module):
    """Gated linear unit, depthwise convolution, SwooshR, linear layer.

    Args:
        num_channels: C.
        kernel_size: odd number of frames.
        causal: whether frames of later chunks are out of sight.
    """

    def __init__(self, num_channels: int, kernel_size: int, causal: bool = False) -> None:
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
        self.depthwise_conv: DepthwiseConv1d | ChunkCausalDepthwiseConv1d = (
            ChunkCausalDepthwiseConv1d(num_channels, kernel_size)
            if causal
            else DepthwiseConv1d(num_channels, kernel_size)
        )
        self.balancer2 = Balancer(
            num_channels,
            channel_dim=1,
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

    def forward(
        self,
        x: Tensor,
        padding_mask: Tensor | None = None,
        chunk_size: int = -1,
        memory: Cache | None = None,
    ) -> Tensor:
        """Convolve the valid frames.

        Args:
            x: (T', N, C).
            padding_mask: (N, T'), True at padding, which counts as silence (zeros).
            chunk_size: of a causal module: frames in a chunk, -1 for everything.
            memory: of a causal module: the gated frames before ``x``, which is one chunk.

        Returns:
            (T', N, C).
        """
        value, gate = self.in_proj(x).chunk(2, dim=-1)
        gated = value * torch.sigmoid(self.balancer1(gate))
        if padding_mask is not None:
            silence = padding_mask.t().unsqueeze(-1)
            # Nobody else needs the product: where launches count, it is not copied.
            fill = gated.masked_fill_ if gated.is_cuda else gated.masked_fill
            gated = fill(silence, 0.0)
        if isinstance(self.depthwise_conv, ChunkCausalDepthwiseConv1d):
            convolved = self.depthwise_conv(gated, chunk_size, memory)
        else:
            convolved = self.depthwise_conv(gated)
        convolved = self.balancer2(convolved.permute(1, 2, 0)).permute(2, 0, 1)
        result: Tensor = self.out_proj(self.whiten(convolved))
        return result
