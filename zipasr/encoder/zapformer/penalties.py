"""Terms that act on gradients alone: the forward pass is the identity.

They are added to the loss with a weight, alpha; how they come to it is in ``layer``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from zipasr.nn.gradients import TensorFunction
from zipasr.nn.numerics import at_least_float32, no_autocast

#: Correlation of the channels of different utterances beyond which it is penalised.
MAX_CORRELATION = 0.25

#: Root mean square of what a layer adds to a frame beyond which it is penalised.
MAX_CHANGE = 1.0

#: Initial standard deviation of the weights of an ``OrthogonalLinear``.
WEIGHT_STD = 0.3

#: Strength of the pull towards orthogonal weights, in units of the mean absolute gradient.
PULL = 20.0


def limit_scale(x: Tensor, alpha: float) -> Tensor:
    """Return ``x``, and penalise ``alpha * relu(rms - MAX_CHANGE)`` of its vectors (..., C)."""
    if not alpha:
        return x
    return _AddGradient.call(x, None, lambda x, _: scale_gradient(x, alpha, MAX_CHANGE))


class _AddGradient(TensorFunction):
    """Identity to whose gradient that of a penalty is added."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        padding: Tensor | None,
        gradient: Callable[[Tensor, Tensor | None], Tensor],
    ) -> Tensor:
        ctx.save_for_backward(x, padding)
        ctx.gradient = gradient
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad + ctx.gradient(*ctx.saved_tensors).to(grad.dtype), None, None


def scale_gradient(x: Tensor, alpha: float, limit: float) -> Tensor:
    """Return the gradient of ``limit_scale``'s penalty, (..., C); 0 for vectors of zeros."""
    with no_autocast(x):
        wide = at_least_float32(x)
        rms = wide.square().mean(-1, keepdim=True).sqrt()
        # Each vector points away from zero with an rms of alpha / C.
        factor = torch.where(rms > limit, alpha / (x.size(-1) * rms), 0.0)
        return wide * factor


def limit_correlation(x: Tensor, padding: Tensor | None, alpha: float) -> Tensor:
    """Return ``x``, and penalise channels that are correlated alike in different utterances.

    Where the normalised frames of every second utterance have the second moments S1 (C, C) and
    those of the others S2, ``alpha * N * T * relu(mean(S1 * S2) - limit)`` is added to the loss,
    with the limit ``MAX_CORRELATION``.
    Both halves are needed, for the square of one would have a bias by its noise; batches of fewer
    than 4 utterances have no such penalty.

    Args:
        x: (T, N, C).
        padding: (N, T), True at padding, which does not count.
        alpha: weight of the penalty.
    """
    if alpha == 0.0 or x.size(1) < 4:
        return x
    gradient = partial(correlation_gradient, alpha=alpha, limit=MAX_CORRELATION)
    return _AddGradient.call(x, padding, gradient)


def correlation_gradient(x: Tensor, padding: Tensor | None, alpha: float, limit: float) -> Tensor:
    """Return the gradient of ``limit_correlation``'s penalty, (T, N, C)."""
    with no_autocast(x):
        wide = at_least_float32(x)
        inverse = (wide.square().mean(-1, keepdim=True) + 1e-20).rsqrt()
        if padding is not None:
            inverse = inverse.masked_fill(padding.t().unsqueeze(-1), 0.0)
        units = wide * inverse
        halves = [units[:, start::2].flatten(0, 1) for start in (0, 1)]
        counts = [_num_valid(x, padding, start) for start in (0, 1)]
        moments = [(h.t() @ h) / n for h, n in zip(halves, counts, strict=True)]
        correlation = (moments[0] * moments[1]).mean()
        weight = alpha * x.size(0) * x.size(1) * (correlation > limit)
        result = torch.empty_like(units)
        for start in (0, 1):
            factor = 2.0 * weight / (counts[start] * x.size(-1) ** 2)
            part = (halves[start] @ (factor * moments[1 - start])).view_as(units[:, start::2])
            unit = units[:, start::2]
            inner = (part * unit).mean(-1, keepdim=True)
            result[:, start::2] = (part - unit * inner) * inverse[:, start::2]
        return result


def _num_valid(x: Tensor, padding: Tensor | None, start: int) -> Tensor | float:
    """Return the number of valid frames of every second utterance."""
    if padding is None:
        return float(x.size(0) * len(range(start, x.size(1), 2)))
    return (~padding[start::2]).sum().clamp(min=1)


class _Orthogonal(TensorFunction):
    """Identity of a matrix W; its gradient also pulls the shorter of W W' and W' W to I."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        ctx.save_for_backward(matrix)
        return matrix.view_as(matrix)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (matrix,) = ctx.saved_tensors
        with no_autocast(matrix):
            is_wide = matrix.size(0) <= matrix.size(1)
            product = matrix @ matrix.t() if is_wide else matrix.t() @ matrix
            product.diagonal().sub_(1.0)
            pull = product @ matrix if is_wide else matrix @ product
            pulled: Tensor = grad + 2.0 * PULL * grad.abs().mean() * pull
            return pulled


class OrthogonalLinear(nn.Module):
    """A linear layer without bias that training keeps nearly orthogonal, and its transpose.

    The matrix is ``weight`` (out, in) divided by ``0.3 sqrt(in)``, so that the elements of the
    weight have a usual size.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels).normal_(std=WEIGHT_STD))

    def forward(self, x: Tensor, transpose: bool = False) -> Tensor:
        """Map (..., in) to (..., out), or the other way round by the transposed matrix."""
        matrix = self.weight * (self.weight.size(1) ** -0.5 / WEIGHT_STD)
        if self.training:
            matrix = _Orthogonal.call(matrix)
        y: Tensor = nn.functional.linear(x, matrix.t() if transpose else matrix)
        return y
