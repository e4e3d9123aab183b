"""Values that change with the batch count: piecewise linear, written from outside."""

from __future__ import annotations

from itertools import pairwise
from typing import TypeAlias

from torch import nn


class PiecewiseLinear:
    """Piecewise linear function of one number, constant before the first and after the last point.

    Args:
        points: (x, y) pairs in strictly increasing order of x, at least one.

    Raises:
        ValueError: there is no point, or the points are out of order.
    """

    def __init__(self, *points: tuple[float, float]) -> None:
        if not points:
            raise ValueError("a schedule needs at least one (x, y) point")
        self.points = tuple((float(x), float(y)) for x, y in points)
        if any(left[0] >= right[0] for left, right in pairwise(self.points)):
            raise ValueError(f"the points of a schedule must increase in x, got {self.points}")

    def __call__(self, x: float) -> float:
        """Return the value at ``x``."""
        if x <= self.points[0][0]:
            return self.points[0][1]
        for (x0, y0), (x1, y1) in pairwise(self.points):
            if x < x1:
                return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
        return self.points[-1][1]

    def __repr__(self) -> str:
        return f"PiecewiseLinear{self.points}"


class ScheduledFloat(nn.Module):
    """A number that follows a schedule while training: ``float(self)`` gives its value now.

    It is a module only so that it is found by walking the model and learns whether the model
    is in training mode; it has no parameters, no buffers and no state-dict keys.

    Args:
        points: of a ``PiecewiseLinear`` over the adjusted batch count, which counts batches
            of 600 seconds of audio.
        default: the value outside training, and as long as no batch count was written.
    """

    def __init__(self, *points: tuple[float, float], default: float = 0.0) -> None:
        super().__init__()
        self.schedule = PiecewiseLinear(*points)
        self.default = float(default)
        self.batch_count: float | None = None

    def __float__(self) -> float:
        if self.batch_count is None or not self.training:
            return self.default
        return self.schedule(self.batch_count)

    def extra_repr(self) -> str:
        """Describe the schedule when a model is printed."""
        return f"{self.schedule}, default={self.default}, batch_count={self.batch_count}"


FloatLike: TypeAlias = float | ScheduledFloat


def set_batch_count(model: nn.Module, count: float) -> None:
    """Write the adjusted batch count into every ``ScheduledFloat`` of ``model``."""
    for module in model.modules():
        if isinstance(module, ScheduledFloat):
            module.batch_count = float(count)
