"""Norms of the Zapformer: one factor for each frame, or for each sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from zipasr.nn.gradients import TensorFunction, limit_param_value
from zipasr.nn.numerics import at_least_float32, no_autocast

#: Bound of the gradients of the norms' parameters, which are sums over all frames: in float16 with
#: a large gradient scale they would overflow.
MAX_GRADIENT = 30000.0

#: (T, N) mean squares and the parameters -> factors that broadcast to (T, N).
Factor = Callable[..., Tensor]


class _Scaled(TensorFunction):
    """``x * factor(mean square of each frame, parameters)``; saves ``x`` and the mean squares.

    The factors are so few that the backward pass computes and differentiates them anew.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Factor, *parameters: Tensor) -> Tensor:
        with no_autocast(x):
            wide = at_least_float32(x)
            power = mean_squares(wide)
            ctx.save_for_backward(x, power, *parameters)
            ctx.factor = factor
            y: Tensor = wide * factor(power, *parameters).unsqueeze(-1)
            return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        with no_autocast(x):
            wide = at_least_float32(x)
            inner = torch.linalg.vecdot(grad, wide)
            with torch.enable_grad():
                power, *parameters = (t.detach().requires_grad_() for t in saved)
                factor = ctx.factor(power, *parameters)
                product = (factor * inner).sum()
            power_grad, *grads = torch.autograd.grad(product, (power, *parameters))
            x_grad = wide * (power_grad * (2.0 / x.size(-1))).unsqueeze(-1)
            x_grad.addcmul_(grad, factor.detach().unsqueeze(-1))
        clamped = (g.clamp(-MAX_GRADIENT, MAX_GRADIENT) for g in grads)
        return (x_grad.to(x.dtype), None, *clamped)


def mean_squares(x: Tensor) -> Tensor:
    """Return the mean over the channels of the squares of (T, N, C): (T, N)."""
    return x.square().mean(-1)


class _Norm(nn.Module):
    """Scalar parameters that training keeps in ranges.

    Args:
        values: name -> initial value, lowest and highest value.
    """

    def __init__(self, **values: tuple[float, float, float]) -> None:
        super().__init__()
        self.limits = {name: limits for name, (_, *limits) in values.items()}
        for name, (initial, *_) in values.items():
            self.register_parameter(name, nn.Parameter(torch.tensor(initial)))

    def limited(self) -> list[Tensor]:
        """Return the parameters; in training their gradients do not lead out of the ranges."""
        return [
            limit_param_value(self.get_parameter(name), low, high, 1.0, self.training)
            for name, (low, high) in self.limits.items()
        ]


class RmsNorm(_Norm):
    """``x * scale / sqrt(mean(x^2) + eps^2)`` for each frame. Keys: ``scale``, ``eps``."""

    def __init__(self) -> None:
        super().__init__(scale=(0.2, 0.05, 1.0), eps=(0.1, 0.0, 10.0))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised (..., C), in float32 at least."""
        return _Scaled.call(x, _rms_factor, *self.limited())


def _rms_factor(power: Tensor, scale: Tensor, eps: Tensor) -> Tensor:
    return scale * (power + eps.square()).rsqrt()


class SequenceNorm(_Norm):
    """One factor for a sequence, ``scale / rms + offset``, where padding does not count.

    Keys: ``scale``, ``offset``.
    """

    def __init__(self) -> None:
        super().__init__(scale=(0.5, 0.05, 2.0), offset=(0.0001, 0.0, 10.0))

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """Normalise.

        Args:
            x: (T, N, C).
            padding: (N, T), True at padding.

        Returns:
            (T, N, C), in float32 at least.
        """

        def factor(power: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
            if padding is None:
                mean = power.mean(0)
            else:
                valid = (~padding).t().to(power.dtype)
                mean = (power * valid).sum(0) / valid.sum(0).clamp(min=1.0)
            return scale * (mean + TINY).rsqrt() + offset

        return _Scaled.call(x, factor, *self.limited())


#: Mean square below which a sequence counts as zeros, which no factor brings to a size.
TINY = 1e-20


class SquareSums:
    """Sums of mean squares (N,) of the frames so far, and their numbers (N,).

    Args:
        total: sums; those of frames before the first count as well.
        count: numbers.
    """

    def __init__(self, total: Tensor, count: Tensor) -> None:
        self.total = total
        self.count = count


class CausalSequenceNorm(_Norm):
    """``SequenceNorm`` of the frames so far: a frame is divided by the rms of all up to itself.

    Before the first stand ``100 |ballast_frames|`` frames of the rms ``ballast_rms``, so that it
    does not become too large. Keys: ``scale``, ``offset``, ``ballast_rms``, ``ballast_frames``.
    """

    def __init__(self) -> None:
        super().__init__(
            scale=(0.5, 0.05, 2.0),
            offset=(0.0001, 0.0, 10.0),
            ballast_rms=(0.1, 0.0, 10.0),
            ballast_frames=(0.05, 0.0, 5.0),
        )

    def forward(self, x: Tensor, memory: SquareSums | None = None) -> Tensor:
        """Normalise; padding counts, since it comes after all that matters.

        Args:
            x: (T, N, C).
            memory: of the frames before ``x``; by default there are none.

        Returns:
            (T, N, C), in float32 at least.
        """
        if memory is not None:
            return self._continued(x, memory)
        return _Scaled.call(x, _causal_factor, *self.limited())

    def _continued(self, x: Tensor, memory: SquareSums) -> Tensor:
        power = mean_squares(at_least_float32(x))
        sums = memory.total + power.cumsum(0)
        counts = memory.count + _numbers(power)
        memory.total, memory.count = sums[-1], memory.count + power.size(0)
        scale, offset = self.get_parameter("scale"), self.get_parameter("offset")
        factor = scale * (sums / counts + TINY).rsqrt() + offset
        return at_least_float32(x) * factor.unsqueeze(-1)

    def initial_sums(self, num: int, device: torch.device | str) -> SquareSums:
        """Return the sums before the first frame of ``num`` streams."""
        count = 100.0 * self.get_parameter("ballast_frames").detach().abs()
        total = count * self.get_parameter("ballast_rms").detach().square()
        ones = torch.ones(num, device=device)
        return SquareSums(ones * total.to(device), ones * count.to(device))


def _causal_factor(
    power: Tensor, scale: Tensor, offset: Tensor, ballast_rms: Tensor, ballast_frames: Tensor
) -> Tensor:
    ballast = 100.0 * ballast_frames.abs()
    sums = ballast * ballast_rms.square() + power.cumsum(0)
    return scale * (sums / (ballast + _numbers(power)) + TINY).rsqrt() + offset


def _numbers(power: Tensor) -> Tensor:
    """Return 1 to T as (T, 1), for (T, N)."""
    return torch.arange(1, power.size(0) + 1, device=power.device).unsqueeze(-1)
