"""Values that change with the batch count, and dropout whose rate is such a value."""

from __future__ import annotations

from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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


class PenaltyScale(ScheduledFloat):
    """A scheduled weight of terms that are added to gradients.

    Where the loss is scaled for float16, gradients are too, and so must be what is added to them.
    """

    def __init__(self, *points: tuple[float, float], default: float = 0.0) -> None:
        super().__init__(*points, default=default)
        self.loss_scale = 1.0

    def __float__(self) -> float:
        return self.loss_scale * super().__float__()


FloatLike: TypeAlias = float | ScheduledFloat


def set_batch_count(model: nn.Module, count: float) -> None:
    """Write the adjusted batch count into every ``ScheduledFloat`` of ``model``."""
    for module in model.modules():
        if isinstance(module, ScheduledFloat):
            module.batch_count = float(count)


def set_loss_scale(model: nn.Module, scale: float) -> None:
    """Write the factor of the loss into every ``PenaltyScale`` of ``model``."""
    for module in model.modules():
        if isinstance(module, PenaltyScale):
            module.loss_scale = float(scale)


def dropout_mask(x: Tensor, p: float, shared_dim: int | None) -> Tensor:
    """Draw the factors of one dropout: 0 with probability ``p``, else 1 / (1 - p).

    Returns:
        A float32 (float64 for float64) tensor of the shape of ``x``, with size 1 at
        ``shared_dim`` if that is given.
    """
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    if x.is_cuda:
        return kept(x, p, shared_dim, dtype).div_(1.0 - p)
    shape = list(x.shape)
    if shared_dim is not None:
        shape[shared_dim] = 1
    keep = torch.rand(shape, dtype=dtype, device=x.device) > p
    return keep.to(dtype).div_(1.0 - p)


def kept(x: Tensor, p: float, shared_dim: int | None, dtype: torch.dtype | None = None) -> Tensor:
    """Draw ones and zeros in one launch: 0 with probability ``p``.

    Returns:
        A tensor of the shape of ``x``, with size 1 at ``shared_dim`` if that is given; in the type
        of ``x`` unless another is given.
    """
    shape = list(x.shape)
    if shared_dim is not None:
        shape[shared_dim] = 1
    return x.new_empty(shape, dtype=dtype).bernoulli_(1.0 - p)


class Dropout2(nn.Module):
    """Elementwise dropout at rate ``p``, which may be scheduled."""

    def __init__(self, p: FloatLike) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` with dropout while training, else ``x``; any shape."""
        return F.dropout(x, float(self.p), self.training)


class Dropout3(nn.Module):
    """Dropout at rate ``p``, which may be scheduled, with one mask for all of ``shared_dim``."""

    def __init__(self, p: FloatLike, shared_dim: int) -> None:
        super().__init__()
        self.p = p
        self.shared_dim = shared_dim

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` with dropout while training, else ``x``; any shape."""
        p = float(self.p)
        if not self.training or p == 0.0:
            return x
        return x * dropout_mask(x, p, self.shared_dim).to(x.dtype)
