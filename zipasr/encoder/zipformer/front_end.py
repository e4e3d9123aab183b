"""The convolutional front end: 10 ms feature frames to 20 ms vectors.

Pictures are (N, C, T, F), but their channels come last in memory: so the convolutions are
fastest, and everything that is computed for each channel reads memory in order.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zipasr.encoder.chunk_masks import subsampled_lens
from zipasr.encoder.zipformer.layer import keep_mask
from zipasr.nn.activations import SwooshR
from zipasr.nn.balancer import Balancer
from zipasr.nn.bias_norm import BiasNorm
from zipasr.nn.fused import activation_dropout_linear
from zipasr.nn.gradients import ScaleGrad
from zipasr.nn.layers import scaled_conv2d
from zipasr.nn.numerics import is_traced, no_autocast, row_blocks
from zipasr.nn.schedule import Dropout3, FloatLike, ScheduledFloat
from zipasr.nn.whiten import Whiten


class PictureBalancer(Balancer):
    """A ``Balancer`` of (N, C, T, F) pictures; its other arguments are those of ``Balancer``."""

    def __init__(self, num_channels: int, **limits: FloatLike) -> None:
        super().__init__(num_channels, channel_dim=-1, **limits)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x``, (N, C, T, F)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SingleChannelConv2d(nn.Conv2d):
    """Convolution in which every output channel sees one input channel: the first, or depthwise."""

    def forward(self, x: Tensor, padding: tuple[int, int] | None = None) -> Tensor:
        """Convolve (N, C, T, F); with another padding of (time, frequency) if that is given."""
        if padding is None:
            padding = (int(self.padding[0]), int(self.padding[1]))
        # The backward pass of channels-last pictures gives the weight's axis of size 1 a stride
        # that distributed training warns about. Put in here, the axis gets the usual one.
        weight = self.weight.squeeze(1).unsqueeze(1)
        if self.groups == 1 or x.device.type != "cpu":
            return F.conv2d(x, weight, self.bias, self.stride, padding, groups=self.groups)
        assert self.bias is not None
        # On a CPU the weight's gradient takes more than twice as long in half precision, and the
        # bias's is slow unless the bias is added by itself.
        with no_autocast(x):
            y = F.conv2d(x.to(weight.dtype), weight, None, self.stride, padding, groups=self.groups)
            return y + self.bias[:, None, None]


def on_channels(layers: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply linear layers to the channels of (N, C, T1, F).

    Args:
        layers: of rows (R, C), each for itself; in between they are three times as wide.
        x: (N, C, T1, F).
    """
    picture = x.permute(0, 2, 3, 1)
    rows = picture.reshape(-1, picture.size(3))
    if torch.is_grad_enabled() or is_traced():
        y = layers(rows)
    else:
        # Without a backward pass the layer of 3 C channels need not exist as a whole.
        y = torch.empty_like(rows)
        for block in row_blocks(rows.size(0), 12 * rows.size(1), rows.device):
            y[block] = layers(rows[block])
    return y.view(picture.shape).permute(0, 3, 1, 2)


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
        self.hidden_balancer = Balancer(
            hidden, channel_dim=-1, min_positive=0.3, max_positive=1.0, min_abs=0.75, max_abs=5.0
        )
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
        y = on_channels(self._linear_layers, self.depthwise_conv(x))
        keep = keep_mask(x.size(0), float(self.layerdrop_rate), like=y) if self.training else None
        x = x + y if keep is None else torch.addcmul(x, y, keep[:, :, None, None])
        result: Tensor = self.out_whiten(self.out_balancer(x).permute(0, 2, 3, 1))
        return result.permute(0, 3, 1, 2)

    def streaming_forward(self, x: Tensor, cached_left_pad: Tensor) -> tuple[Tensor, Tensor]:
        """Add what the branch sees of one chunk, the frames before it, and those after it.

        Args:
            x: (N, C, T1 + K // 2, F); the last K // 2 frames are only looked at.
            cached_left_pad: (N, C, K // 2, F), the frames before ``x``.

        Returns:
            (N, C, T1, F), and the frames before the next chunk.
        """
        context = cached_left_pad.size(2)
        seen = torch.cat([cached_left_pad.to(x.dtype), x], dim=2)
        num_frames = x.size(2) - context
        y = on_channels(self._linear_layers, self.depthwise_conv(seen, padding=(0, context)))
        left_pad = seen[:, :, num_frames : num_frames + context].to(cached_left_pad.dtype)
        return x[:, :, :num_frames] + y, left_pad

    def _linear_layers(self, rows: Tensor) -> Tensor:
        first, second = self.pointwise_conv1, self.pointwise_conv2
        hidden = self.hidden_balancer(F.linear(rows, first.weight.flatten(1), first.bias))
        return activation_dropout_linear(
            hidden, second.weight.flatten(1), second.bias, mask=None, activation="SwooshL"
        )


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

    def get_init_states(self, batch_size: int = 1, device: torch.device | str = "cpu") -> Tensor:
        """Return the zeros before the first chunk, (N, C, 3, F)."""
        channels = self.convnext.depthwise_conv.in_channels
        context = self.convnext.depthwise_conv.kernel_size[0] // 2
        width = self.out.in_features // channels
        return torch.zeros(batch_size, channels, context, width, device=device)

    def streaming_forward(
        self, x: Tensor, x_lens: Tensor, cached_left_pad: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Halve the frame rate of one chunk of each stream.

        Args:
            x: (N, 2 T1 + 13, in_channels); the next chunk begins 2 T1 frames later.
            x_lens: (N,) number of valid frames.
            cached_left_pad: (N, C, 3, F) from ``get_init_states`` or the chunk before.

        Returns:
            (N, T1, out_channels), (N,) their valid lengths, and the state for the next chunk.
        """
        pictures = self.conv(x.unsqueeze(-1).permute(0, 3, 1, 2))
        pictures, left_pad = self.convnext.streaming_forward(pictures, cached_left_pad)
        y = self.out_norm(self._project(pictures))
        lens = subsampled_lens(x_lens) - cached_left_pad.size(2)
        return y, lens.clamp(min=0, max=y.size(1)), left_pad

    def _project(self, x: Tensor) -> Tensor:
        """Apply ``out`` to (N, C, T1, F); its weights are stored channel-major."""
        # To reorder the weights is cheaper than to reorder all frames.
        channels = self.convnext.depthwise_conv.in_channels
        by_channel = self.out.weight.view(self.out.out_features, channels, -1)
        weight = by_channel.transpose(1, 2).flatten(1)
        return F.linear(x.permute(0, 2, 3, 1).flatten(2), weight, self.out.bias)
