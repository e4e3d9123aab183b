"""Sines and cosines of the distance between two frames."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from zipasr.nn.blocks import is_traced


def sinusoids(num_frames: int, num_channels: int) -> Tensor:
    """Encode every distance that occurs between two of ``num_frames`` frames.

    Args:
        num_frames: T.
        num_channels: C, even.

    Returns:
        (2 T - 1, C) float32 on the CPU; row r belongs to the offset T - 1 - r, target frame minus
        source frame.

    Source: Dai et al., "Transformer-XL", 2019, appendix B.
    """
    offset = torch.arange(num_frames - 1, -num_frames, -1, dtype=torch.float32, device="cpu")
    return _encode(offset, num_channels)


def _encode(offset: Tensor, num_channels: int) -> Tensor:
    """Encode (K,) offsets: (K, num_channels) in their type."""
    exponent = torch.arange(0, num_channels, 2, dtype=offset.dtype, device=offset.device)
    phase = offset[:, None] * torch.exp(exponent * -(math.log(10000.0) / num_channels))
    return torch.stack([phase.sin(), phase.cos()], dim=2).flatten(1)


class RelPositionalEncoding(nn.Module):
    """The table of ``sinusoids`` for the length of the input, with dropout.

    The table of the longest input so far is kept, but is no buffer.

    Args:
        num_channels: C, even.
        dropout: rate in training.
    """

    def __init__(self, num_channels: int, dropout: float) -> None:
        super().__init__()
        self.num_channels = num_channels
        self.dropout = nn.Dropout(dropout)
        self._table: Tensor | None = None

    def forward(self, x: Tensor, left_context: int = 0) -> Tensor:
        """Return the encoding of all offsets within ``x``, and to frames before it.

        Args:
            x: (T, N, C); only its length, device and type count.
            left_context: L, number of frames before ``x``.

        Returns:
            (2 T - 1 + L, C), from the offset T + L - 1 down to 1 - T.
        """
        num_frames = x.size(0)
        first = num_frames + left_context - 1
        if is_traced():
            # Exported models keep no tables.
            rows = _encode(
                torch.arange(first, -num_frames, -1, dtype=torch.float32, device=x.device),
                self.num_channels,
            )
        else:
            table = self._long_enough_table(num_frames + left_context, x.device)
            centre = table.size(0) // 2
            rows = table[centre - first : centre + num_frames]
        encoded: Tensor = self.dropout(rows.to(x.dtype))
        return encoded

    def _long_enough_table(self, num_frames: int, device: torch.device) -> Tensor:
        table = self._table
        if table is None or table.device != device or table.size(0) < 2 * num_frames - 1:
            # A table made under inference mode could not be used in training later on.
            with torch.inference_mode(False):
                table = sinusoids(num_frames, self.num_channels).to(device)
            self._table = table
        return table
