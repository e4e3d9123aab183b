"""Linear and convolution layers: scaled initial weights, and frames kept between chunks."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zipasr.nn.numerics import is_traced


class Cache:
    """The last few frames of one stream of vectors, always in the type they were given in.

    Args:
        frames: (L, N, C), the oldest first.
    """

    def __init__(self, frames: Tensor) -> None:
        self.frames = frames

    def extend(self, new: Tensor) -> Tensor:
        """Return the remembered frames and then ``new``, and remember the last L of both.

        Args:
            new: (T, N, C).

        Returns:
            (L + T, N, C), in the type of ``new``.
        """
        both = torch.cat([self.frames.to(new.dtype), new])
        self.frames = both[new.size(0) :].to(self.frames.dtype)
        return both


_Layer = TypeVar("_Layer", nn.Linear, nn.Conv1d, nn.Conv2d)


def _scale_initial(layer: _Layer, scale: float, bias_scale: float = 0.1) -> _Layer:
    """Multiply the weight by ``scale`` and draw the bias anew, within ``bias_scale * scale``."""
    with torch.no_grad():
        layer.weight.mul_(scale)
        if layer.bias is not None:
            layer.bias.uniform_(-bias_scale * scale, bias_scale * scale)
    return layer


def scaled_linear(
    in_channels: int,
    out_channels: int,
    bias: bool = True,
    initial_scale: float = 1.0,
    bias_scale: float = 0.1,
) -> nn.Linear:
    """Return a linear layer with weights of torch's default times ``initial_scale``.

    A small scale makes a branch nearly silent at first. The bias is uniform in plus or
    minus ``bias_scale`` times ``initial_scale``.
    """
    layer = nn.Linear(in_channels, out_channels, bias=bias)
    return _scale_initial(layer, initial_scale, bias_scale)


def scaled_conv1d(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    bias: bool = True,
    initial_scale: float = 1.0,
) -> nn.Conv1d:
    """Return a 1-d convolution with weights and bias scaled as in ``scaled_linear``."""
    layer = nn.Conv1d(
        in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=bias
    )
    return _scale_initial(layer, initial_scale)


def scaled_conv2d(
    in_channels: int,
    out_channels: int,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    groups: int = 1,
    bias: bool = True,
    initial_scale: float = 1.0,
) -> nn.Conv2d:
    """Return a 2-d convolution with weights and bias scaled as in ``scaled_linear``."""
    layer = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=bias
    )
    return _scale_initial(layer, initial_scale)


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


class ChunkCausalDepthwiseConv1d(nn.Module):
    """The sum of a causal convolution and of one that stays inside each chunk.

    Near the edges of a chunk the second sees zeros in place of frames; a learned scale for
    each distance from an edge makes up for that. Keys: ``causal_conv``, ``chunkwise_conv``
    (weight and bias each) and ``chunkwise_conv_scale`` (2, C, K): left edge, right edge.

    Args:
        num_channels: C.
        kernel_size: K, odd; the causal part sees (K + 1) / 2 frames.

    Source: Yao et al., "Zipformer", ICLR 2024, and its public recipe.
    """

    def __init__(self, num_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.causal_conv = scaled_conv1d(
            num_channels, num_channels, (kernel_size + 1) // 2, groups=num_channels
        )
        self.chunkwise_conv = nn.Conv1d(
            num_channels, num_channels, kernel_size, groups=num_channels
        )
        self.chunkwise_conv_scale = nn.Parameter(torch.zeros(2, num_channels, kernel_size))

    def forward(self, x: Tensor, chunk_size: int = -1, memory: Cache | None = None) -> Tensor:
        """Convolve.

        Args:
            x: (T, N, C).
            chunk_size: frames in a chunk; -1, or more than T, makes one chunk of everything.
            memory: the K // 2 frames before ``x``, which is then one chunk; by default zeros.

        Returns:
            (T, N, C).
        """
        half = self.kernel_size // 2
        past = F.pad(x, (0, 0, 0, 0, half, 0)) if memory is None else memory.extend(x)
        causal = self.causal_conv
        y = convolve_time(past.unsqueeze(0), causal.weight, causal.bias, padding=0).squeeze(0)
        return y + self.inside_chunks(x, chunk_size if memory is None else -1)

    def inside_chunks(self, x: Tensor, chunk_size: int) -> Tensor:
        """Return the part of ``forward`` that does not see beyond a chunk."""
        num_frames = x.size(0)
        if chunk_size < 0 or chunk_size >= num_frames:
            return self._inside_one_chunk(x.unsqueeze(0)).squeeze(0)
        padded = F.pad(x, (0, 0, 0, 0, 0, -num_frames % chunk_size))
        chunks = padded.view(-1, chunk_size, *x.shape[1:])
        return self._inside_one_chunk(chunks).flatten(0, 1)[:num_frames]

    def _inside_one_chunk(self, x: Tensor) -> Tensor:
        """Convolve (B, T, N, C), B chunks of T frames."""
        conv = self.chunkwise_conv
        y = convolve_time(x, conv.weight, conv.bias, padding=self.kernel_size // 2)
        return y * self.edge_scale(x.size(1)).t().unsqueeze(1)

    def edge_scale(self, chunk_size: int) -> Tensor:
        """Return (C, chunk_size), how much the inner convolution counts at each frame."""
        left, right = self.chunkwise_conv_scale
        if is_traced():
            # Which frames lie near an edge is looked up: an exported model knows no sizes.
            frame = torch.arange(chunk_size, device=left.device)
            from_left = frame.clamp(max=self.kernel_size)
            from_right = (frame - (chunk_size - self.kernel_size) + 1).clamp(min=0)
            near_left = F.pad(left, (0, 1)).index_select(1, from_left)
            return 1.0 + near_left + F.pad(right, (1, 0)).index_select(1, from_right)
        missing = chunk_size - self.kernel_size
        if missing < 0:
            left, right = left[:, :chunk_size], right[:, -missing:]
            missing = 0
        scale: Tensor = 1.0 + F.pad(left, (0, missing)) + F.pad(right, (missing, 0))
        return scale
