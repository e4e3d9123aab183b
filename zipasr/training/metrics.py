"""Sums over batches and what they are per frame."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from zipasr.nn.numerics import OnItsWay


class Metrics:
    """Named sums with a count of frames; ``per_frame`` divides.

    Frames are feature frames divided by the subsampling factor 4, as in icefall's logs.
    """

    def __init__(self, frames: float = 0.0, **sums: float) -> None:
        self.frames = frames
        self._sums = dict(sums)
        self._coming: OnItsWay | None = None

    @classmethod
    def of_losses(cls, frames: float, losses: Mapping[str, Tensor]) -> Metrics:
        """Return metrics of scalars that may be on a device: who looks at the sums waits for it."""
        metrics = cls(frames, **dict.fromkeys(losses, math.nan))
        metrics._coming = OnItsWay(torch.stack([loss.detach() for loss in losses.values()]))
        return metrics

    @property
    def sums(self) -> dict[str, float]:
        """Value of each sum by name."""
        if self._coming is not None:
            values = self._coming.arrived().tolist()
            self._sums, self._coming = dict(zip(self._sums, values, strict=True)), None
        return self._sums

    @sums.setter
    def sums(self, values: dict[str, float]) -> None:
        self._sums, self._coming = values, None

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
