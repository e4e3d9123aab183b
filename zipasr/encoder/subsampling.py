"""The convolutional front end: 10 ms feature frames to 20 ms vectors.

Pictures are (N, C, T, F), but their channels come last in memory: so the convolutions are
fastest, and everything that is computed for each channel reads memory in order.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zipasr.encoder.bypass import keep_mask
from zipasr.encoder.lengths import subsampled_lens
from zipasr.nn.activations import SwooshL, SwooshR
from zipasr.nn.balancer import Balancer
from zipasr.nn.dropout import Dropout3
from zipasr.nn.gradients import ScaleGrad
from zipasr.nn.linear import scaled_conv2d
from zipasr.nn.norm import BiasNorm
from zipasr.nn.schedule import FloatLike, ScheduledFloat
from zipasr.nn.whiten import Whiten


class PictureBalancer(Balancer):
    """A ``Balancer`` of (N, C, T, F) pictures; its other arguments are those of ``Balancer``."""

    def __init__(self, num_channels: int, **limits: FloatLike) -> None:
        super().__init__(num_channels, channel_dim=-1, **limits)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x``, (N, C, T, F)."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class SingleChannelConv2d(nn.Conv2d):
    """Convolution in which every output channel sees one input channel: the first, or depthwise."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C, T, F)."""
        # The backward pass of channels-last pictures gives the weight's axis of size 1 a stride
        # that distributed training warns about. Put in here, the axis gets the usual one.
        weight = self.weight.squeeze(1).unsqueeze(1)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, groups=self.groups)


class ConvNeXt(nn.Module):
    """Depthwise 7x7 convolution and two pointwise ones, as a residual branch.

    Args:
        num_channels: C of input and output.
        kernel_size: height and width of the depthwise convolution, odd.
    """

    def __init__(self, num_channels: int, kernel_size: int = 7) -> None:
        super().__init__()
        hidden = 3 * num_channels
        self.layerdrop_rate = ScheduledFloat((0.0, 0.2), (20000.0, 0.015))
        self.depthwise_conv = SingleChannelConv2d(
            num_channels,
            num_channels,
            kernel_size=kernel_size,
            groups=num_channels,
            padding=kernel_size // 2,
        )
        self.pointwise_conv1 = nn.Conv2d(num_channels, hidden, kernel_size=1)
        self.hidden_balancer = PictureBalancer(
            hidden, min_positive=0.3, max_positive=1.0, min_abs=0.75, max_abs=5.0
        )
        self.activation = SwooshL()
        self.pointwise_conv2 = scaled_conv2d(
            hidden, num_channels, kernel_size=1, initial_scale=0.01
        )
        self.out_balancer = PictureBalancer(
            num_channels, min_positive=0.4, max_positive=0.6, min_abs=1.0, max_abs=6.0
        )
        self.out_whiten = Whiten(
            num_groups=1, whitening_limit=5.0, prob=(0.025, 0.25), grad_scale=0.01
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add what the branch sees; in training some utterances go without it.

        Args:
            x: (N, C, T1, F).

        Returns:
            (N, C, T1, F).
        """
        y = self.pointwise_conv1(self.depthwise_conv(x))
        y = self.pointwise_conv2(self.activation(self.hidden_balancer(y)))
        keep = keep_mask(x.size(0), float(self.layerdrop_rate), like=y) if self.training else None
        x = x + y if keep is None else torch.addcmul(x, y, keep[:, :, None, None])
        result: Tensor = self.out_whiten(self.out_balancer(x).movedim(1, -1))
        return result.movedim(-1, 1)


class Conv2dSubsampling(nn.Module):
    """Three convolutions, a ConvNeXt block and a linear layer: half the frame rate.

    The convolutions also see the frames beyond an utterance's length: its last few frames
    depend on what the batch was padded with.

    Args:
        in_channels: number of mel bins, at least 7.
        out_channels: C of the result.
        layer1_channels: channels of the first convolution.
        layer2_channels: channels of the second convolution.
        layer3_channels: channels of the third convolution and of the ConvNeXt block.
        dropout: rate in training, with one mask for all frames of an utterance.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        layer1_channels: int = 8,
        layer2_channels: int = 32,
        layer3_channels: int = 128,
        dropout: FloatLike = 0.1,
    ) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            SingleChannelConv2d(1, layer1_channels, kernel_size=3, padding=(0, 1)),
            ScaleGrad(0.2),
            PictureBalancer(layer1_channels, max_abs=1.0),
            SwooshR(),
            nn.Conv2d(layer1_channels, layer2_channels, kernel_size=3, stride=2),
            PictureBalancer(layer2_channels, max_abs=4.0),
            SwooshR(),
            nn.Conv2d(layer2_channels, layer3_channels, kernel_size=3, stride=(1, 2)),
            PictureBalancer(layer3_channels, max_abs=4.0),
            SwooshR(),
        )
        self.convnext = ConvNeXt(layer3_channels)
        out_width = ((in_channels - 1) // 2 - 1) // 2
        self.out = nn.Linear(out_width * layer3_channels, out_channels)
        self.out_whiten = Whiten(
            num_groups=1,
            whitening_limit=ScheduledFloat((0.0, 4.0), (20000.0, 8.0), default=4.0),
            prob=(0.025, 0.25),
            grad_scale=0.02,
        )
        self.out_norm = BiasNorm(out_channels)
        self.dropout = Dropout3(dropout, shared_dim=1)

    def forward(self, x: Tensor, x_lens: Tensor) -> tuple[Tensor, Tensor]:
        """Halve the frame rate.

        Args:
            x: (N, T, in_channels).
            x_lens: (N,) number of valid frames.

        Returns:
            (N, T1, out_channels) with T1 = (T - 7) // 2, and (N,) their valid lengths.
        """
        # The axis for the single channel is put last first, to be recognised as channels-last.
        picture = x.unsqueeze(-1).permute(0, 3, 1, 2)
        x = self._project(self.convnext(self.conv(picture)))
        x = self.dropout(self.out_norm(self.out_whiten(x)))
        return x, subsampled_lens(x_lens)

    def _project(self, x: Tensor) -> Tensor:
        """Apply ``out`` to (N, C, T1, F); its weights are stored channel-major."""
        # To reorder the weights is cheaper than to reorder all frames.
        by_channel = self.out.weight.view(self.out.out_features, x.size(1), x.size(3))
        weight = by_channel.transpose(1, 2).flatten(1)
        return F.linear(x.permute(0, 2, 3, 1).flatten(2), weight, self.out.bias)
