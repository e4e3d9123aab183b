"""Sums over batches and what they are per frame."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Metrics:
    """Named sums with a count of frames; ``per_frame`` divides.

    Frames are feature frames divided by the subsampling factor 4, as in icefall's logs.
    """

    def __init__(self, frames: float = 0.0, **sums: float) -> None:
        self.frames = frames
        self.sums = dict(sums)

    def add(self, other: Metrics, decay: float = 1.0) -> None:
        """Multiply by ``decay``, then add ``other``; its sums that are not finite are left out."""
        self.frames = self.frames * decay + other.frames
        for name in self.sums.keys() | other.sums.keys():
            new = other.sums.get(name, 0.0)
            self.sums[name] = self.sums.get(name, 0.0) * decay + (new if math.isfinite(new) else 0)

    def per_frame(self) -> dict[str, float]:
        """Return each sum divided by the frames; empty before the first frame."""
        if self.frames == 0:
            return {}
        return {name: value / self.frames for name, value in sorted(self.sums.items())}

    def as_tensor(self, names: list[str], device: torch.device) -> Tensor:
        """Return (1 + len(names),) float64: the frames, then the sums in the order of ``names``."""
        values = [self.frames, *(self.sums.get(name, 0.0) for name in names)]
        return torch.tensor(values, dtype=torch.float64, device=device)

    @classmethod
    def from_tensor(cls, values: Tensor, names: list[str]) -> Metrics:
        """Undo ``as_tensor``."""
        frames, *sums = values.tolist()
        return cls(frames, **dict(zip(names, sums, strict=True)))

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:.4g}" for name, value in self.per_frame().items())
