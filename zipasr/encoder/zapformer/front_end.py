"""The convolutional front end: 10 ms feature frames to 20 ms vectors.

Pictures are (N, C, T, F), but their channels come last in memory, as in the Zipformer's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zipasr.encoder.chunk_masks import subsampled_lens
from zipasr.encoder.zapformer.attention import BIAS_SCALE
from zipasr.encoder.zipformer.front_end import SingleChannelConv2d, on_channels
from zipasr.nn.activations import SwashR
from zipasr.nn.fused import activation_dropout_linear
from zipasr.nn.layers import scaled_linear

#: Height and width of the depthwise convolution.
KERNEL_SIZE = 7

#: Factor of the result.
OUTPUT_SCALE = 0.15

#: Size of the noise in units of the rms of what it is added to.
NOISE = 0.005


class AddNoise(nn.Module):
    """Add normal noise of a small part of an utterance's size, in training."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, T, F) with noise."""
        if not self.training:
            return x
        size = (x.square().mean(dim=(1, 2, 3), keepdim=True) + 3e-8).sqrt()
        # torch draws what is contiguous six times faster than what has its channels last.
        noise = torch.randn_like(x.new_empty(x.shape))
        return torch.addcmul(x, noise, size, value=NOISE)


class ConvNeXt(nn.Module):
    """Depthwise 7x7 convolution and two pointwise ones, as a residual branch.

    Keys: ``depthwise_conv``, ``pointwise_conv1``, ``pointwise_conv2``.

    Args:
        num_channels: C of input and output.
        causal: whether the kernel sees a frame and 6 before it, instead of 3 on both sides.
    """

    def __init__(self, num_channels: int, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.depthwise_conv = SingleChannelConv2d(
            num_channels,
            num_channels,
            kernel_size=KERNEL_SIZE,
            groups=num_channels,
            padding=(0 if causal else KERNEL_SIZE // 2, KERNEL_SIZE // 2),
        )
        self.pointwise_conv1 = nn.Conv2d(num_channels, 3 * num_channels, kernel_size=1)
        self.pointwise_conv2 = nn.Conv2d(3 * num_channels, num_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the branch sees to (N, C, T1, F)."""
        seen = F.pad(x, (0, 0, KERNEL_SIZE - 1, 0)) if self.causal else x
        return x + on_channels(self._linear_layers, self.depthwise_conv(seen))

    def streaming_forward(self, x: Tensor, cached_left_pad: Tensor) -> tuple[Tensor, Tensor]:
        """Add what the branch sees of one chunk and of the frames before it.

        Args:
            x: (N, C, T1, F).
            cached_left_pad: (N, C, 6, F), the frames before ``x``.

        Returns:
            (N, C, T1, F), and the frames before the next chunk.
        """
        seen = torch.cat([cached_left_pad.to(x.dtype), x], dim=2)
        left_pad = seen[:, :, x.size(2) :].to(cached_left_pad.dtype)
        return x + on_channels(self._linear_layers, self.depthwise_conv(seen)), left_pad

    def _linear_layers(self, rows: Tensor) -> Tensor:
        first, second = self.pointwise_conv1, self.pointwise_conv2
        hidden = F.linear(rows, first.weight.flatten(1), first.bias)
        return activation_dropout_linear(
            hidden, second.weight.flatten(1), second.bias, mask=None, activation="SwashL"
        )


class FrontEnd(nn.Module):
    """Three convolutions, a ConvNeXt block and a linear layer: half the frame rate.

    The convolutions also see the frames beyond an utterance's length: its last few frames
    depend on what the batch was padded with. Keys: ``conv``, ``convnext``, ``out``.

    Args:
        in_channels: number of mel bins.
        out_channels: C of the result.
        causal: whether the ConvNeXt block sees no later frames.
        channels: of the three convolutions.
    """

    def __init__(
        self, in_channels: int, out_channels: int, causal: bool, channels: tuple[int, ...]
    ) -> None:
        super().__init__()
        first, second, third = channels
        self.channels = third
        self.conv = nn.Sequential(
            SingleChannelConv2d(1, first, kernel_size=3, padding=(0, 1)),
            AddNoise(),
            SwashR(),
            nn.Conv2d(first, second, kernel_size=3, stride=2),
            SwashR(),
            nn.Conv2d(second, third, kernel_size=3, stride=(1, 2)),
            SwashR(),
        )
        self.convnext = ConvNeXt(third, causal)
        self.width = ((in_channels - 1) // 2 - 1) // 2
        self.out = scaled_linear(self.width * third, out_channels, bias_scale=BIAS_SCALE)

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
        return self._project(self.convnext(self.conv(picture))), subsampled_lens(x_lens)

    def get_init_states(self, batch_size: int = 1, device: torch.device | str = "cpu") -> Tensor:
        """Return the zeros before the first chunk, (N, C, 6, F)."""
        return torch.zeros(batch_size, self.channels, KERNEL_SIZE - 1, self.width, device=device)

    def streaming_forward(
        self, x: Tensor, x_lens: Tensor, cached_left_pad: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Halve the frame rate of one chunk of each stream.

        Args:
            x: (N, 2 T1 + 7, in_channels); the next chunk begins 2 T1 frames later.
            x_lens: (N,) number of valid frames.
            cached_left_pad: (N, C, 6, F) from ``get_init_states`` or the chunk before.

        Returns:
            (N, T1, out_channels), (N,) their valid lengths, and the state for the next chunk.
        """
        pictures = self.conv(x.unsqueeze(-1).permute(0, 3, 1, 2))
        pictures, left_pad = self.convnext.streaming_forward(pictures, cached_left_pad)
        lens = subsampled_lens(x_lens).clamp(min=0)
        return self._project(pictures), lens, left_pad

    def _project(self, x: Tensor) -> Tensor:
        """Apply ``out`` to (N, C, T1, F), and scale; its weights are stored channel-major."""
        # To reorder and to scale the weights is cheaper than to do so with all frames.
        by_channel = self.out.weight.view(self.out.out_features, self.channels, -1)
        weight = OUTPUT_SCALE * by_channel.transpose(1, 2).flatten(1)
        return F.linear(x.permute(0, 2, 3, 1).flatten(2), weight, OUTPUT_SCALE * self.out.bias)
