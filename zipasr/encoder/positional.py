"""Relative positions, exact nearby and coarse far away."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from zipasr.nn.blocks import is_traced
from zipasr.nn.schedule import Dropout2


def compact_positions(num_frames: int, num_channels: int) -> Tensor:
    """Encode every distance that occurs between two of ``num_frames`` frames.

    A distance k is first squeezed by a logarithm, then by an arc tangent, so that the
    resolution is high around 0 and the table works for any length; the result is
    expanded into a Fourier series. The last sine gives way to a constant.

    Args:
        num_frames: T'.
        num_channels: even number of channels.

    Returns:
        (2 T' - 1, num_channels) float32 on the CPU; row n belongs to the distance
        n - (T' - 1), source frame minus target frame.

    Source: Yao et al., "Zipformer: a faster and better encoder for automatic speech
    recognition", 2024, and its public recipe.
    """
    return _encode(
        torch.arange(1 - num_frames, num_frames, dtype=torch.float64, device="cpu"), num_channels
    )


def _encode(distance: Tensor, num_channels: int) -> Tensor:
    """Encode (K,) distances: (K, num_channels) float32, computed in the type of ``distance``."""
    scale = math.sqrt(num_channels)
    squeezed = distance.sign() * scale * ((distance.abs() + scale).log() - math.log(scale))
    angle = (squeezed * (2.0 * math.pi / num_channels)).atan()
    harmonics = torch.arange(1, num_channels // 2 + 1, dtype=distance.dtype, device=distance.device)
    phases = angle[:, None] * harmonics
    constant = torch.ones_like(angle)[:, None]
    table = torch.stack([phases.cos(), phases.sin()], dim=2).flatten(1)
    return torch.cat([table[:, :-1], constant], dim=1).to(torch.float32)


class CompactRelPositionalEncoding(nn.Module):
    """The table of ``compact_positions`` for the length of the input, with dropout.

    The table of the longest input so far is kept, but is no buffer: it is not part of
    the state dict.

    Args:
        num_channels: even number of channels.
        dropout: rate in training.
    """

    def __init__(self, num_channels: int, dropout: float = 0.15) -> None:
        super().__init__()
        self.num_channels = num_channels
        self.dropout = Dropout2(dropout)
        self._table: Tensor | None = None

    def forward(self, x: Tensor, left_context: int = 0) -> Tensor:
        """Return the encoding of all distances within ``x``, and to frames before it.

        Args:
            x: (T', N, C); only its length, device and dtype count.
            left_context: L, number of frames before ``x``.

        Returns:
            (1, 2 T' - 1 + L, num_channels).
        """
        num_frames = x.size(0)
        first = 1 - num_frames - left_context
        if is_traced():
            # Exported models keep no tables, and runtimes know no trigonometry in float64.
            distance = torch.arange(first, num_frames, dtype=torch.float32, device=x.device)
            positions = _encode(distance, self.num_channels)
        else:
            table = self._long_enough_table(num_frames + left_context, x.device)
            centre = table.size(0) // 2
            positions = table[centre + first : centre + num_frames]
        encoded: Tensor = self.dropout(positions.to(x.dtype).unsqueeze(0))
        return encoded

    def _long_enough_table(self, num_frames: int, device: torch.device) -> Tensor:
        table = self._table
        if table is None or table.device != device or table.size(0) < 2 * num_frames - 1:
            # A table made under inference mode could not be used in training later on.
            with torch.inference_mode(False):
                table = compact_positions(num_frames, self.num_channels).to(device)
            self._table = table
        return table
