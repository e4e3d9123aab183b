"""Relative positions: a smooth function of the distance for each frequency, and learned weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zipasr.nn.numerics import no_autocast, to_device

#: Frequencies between 0 and half of the frame rate, close together at 0.
NUM_FREQUENCIES = 64

#: Where the logarithmic scale of the frequencies becomes linear, as a share of the highest one.
_KNEE = 0.001


def frequencies() -> np.ndarray:
    """Return angular frequencies per frame, 0 to pi, (64,) float32."""
    logs = torch.linspace(math.log(_KNEE), math.log(1.0 + _KNEE), NUM_FREQUENCIES, device="cpu")
    # Rounded from float64, for exponentials in float32 differ by machine in the last bit.
    found: np.ndarray = (math.pi * (logs.double().exp().float() - _KNEE)).numpy()
    found[0] = 0.0
    return found


def basis(distance: Any, sine: Callable[[Any], Any] = np.sin) -> Any:
    """Return cosines and sines of bands of frequencies: the inverse transforms of triangles.

    A band falls off with the distance the faster, the wider it is: so that low frequencies see far,
    and high ones near. As in the published model, the widths on both sides of a frequency are
    exchanged.

    Args:
        distance: (K, 1) source minus target frame, float64, an array or a tensor.
        sine: of such a thing; the only function needed, for runtimes have no cosine in float64.

    Returns:
        (K, 64) even and (K, 64) odd functions, float64; not at the distance 0, where they are 1
        and 0.
    """
    middle, left, right = _bands(distance)

    def fall(phase: float) -> Any:
        at_middle = sine(middle * distance + phase)
        below = (at_middle - sine((middle - right) * distance + phase)) / right
        above = (at_middle - sine((middle + left) * distance + phase)) / left
        return (below + above) / (0.5 * (left + right) * distance * distance)

    return fall(math.pi / 2.0), fall(0.0)


def _bands(distance: Any) -> tuple[Any, Any, Any]:
    """Return frequencies and the widths on both sides, (64,), as what ``distance`` is."""
    single = frequencies()
    steps = (single[1:] - single[:-1]).astype(np.float64)
    left, right = np.append(steps[:1], steps), np.append(steps, steps[-1:])
    found = single.astype(np.float64), left, right
    if isinstance(distance, Tensor):
        return tuple(torch.from_numpy(one).to(distance.device) for one in found)  # type: ignore[return-value]
    return found


def position_table(first: int, last: int) -> Tensor:
    """Return the basis of the distances ``first`` to ``last``, (K, 128) float32 on the CPU.

    Computed by numpy, and so a constant of recorded programs.
    """
    distance = np.arange(first, last + 1, dtype=np.float64)[:, None]
    at_zero = distance == 0.0
    even, odd = basis(np.where(at_zero, 1.0, distance))
    table = np.concatenate([np.where(at_zero, 1.0, even), np.where(at_zero, 0.0, odd)], axis=1)
    return torch.from_numpy(table.astype(np.float32))


def recorded_table(num_frames: int, device: torch.device) -> Tensor:
    """Return the table of all distances between ``num_frames`` frames as operations to record.

    Runtimes then compute it for the length they are given.

    Returns:
        (2 T - 1, 128) float32.
    """
    distance = torch.arange(1 - num_frames, num_frames, device=device).to(torch.float64)[:, None]
    at_zero = distance == 0.0
    even, odd = basis(torch.where(at_zero, torch.ones_like(distance), distance), torch.sin)
    even, odd = even.to(torch.float32), odd.to(torch.float32)
    return torch.cat([even.masked_fill(at_zero, 1.0), odd.masked_fill(at_zero, 0.0)], dim=1)


class PositionTable:
    """The table for the longest input so far; no module, for it has nothing to learn or to save."""

    def __init__(self) -> None:
        self._table = position_table(0, 0)

    def cut(self, num_frames: int, left_context: int, device: torch.device) -> Tensor:
        """Return the rows for distances within frames, and to frames before them.

        Args:
            num_frames: T.
            left_context: L, number of frames before them.
            device: of the result.

        Returns:
            (2 T - 1 + L, 128); row n is the distance n - (T - 1) - L.
        """
        longest = num_frames + left_context
        # A table made under inference mode could not be used in training later on.
        with torch.inference_mode(False):
            if self._table.size(0) < 2 * longest - 1:
                self._table = position_table(1 - longest, longest - 1)
            if self._table.device != device:
                self._table = to_device(self._table, device)
        centre = self._table.size(0) // 2
        return self._table[centre + 1 - longest : centre + num_frames]


class RelativePositions(nn.Module):
    """For each head and channel of a position query: a function of the distance.

    Key: ``weight`` (H, P, 128), initially random functions that are smooth over frequencies.

    Args:
        num_heads: H.
        pos_head_dim: P.
    """

    def __init__(self, num_heads: int, pos_head_dim: int) -> None:
        super().__init__()
        weight = 0.04 * torch.randn(num_heads, pos_head_dim, 2 * NUM_FREQUENCIES)
        for _ in range(10):
            weight = (weight + weight.roll(1, dims=-1)) / math.sqrt(2.0)
        self.weight = nn.Parameter(weight)

    def forward(self, table: Tensor) -> Tensor:
        """Return the functions at the distances of a table (K, 128): (H, K, P), in float32."""
        with no_autocast(table):
            return torch.matmul(table.to(self.weight.dtype), self.weight.transpose(1, 2))
