"""Balancer: keep the share of positive values and the size of each channel within limits."""

import logging
import math
import random
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from zipasr.kernels import elementwise
from zipasr.kernels.elementwise import has_kernels, push_line
from zipasr.nn.gradients import TensorFunction
from zipasr.nn.numerics import at_least_float32, row_blocks
from zipasr.nn.schedule import FloatLike, ScheduledFloat

logger = logging.getLogger(__name__)

EPS = 1e-20


class BalancerLimits(NamedTuple):
    """Bounds of one call: of mean / standard deviation, and of the root mean square."""

    mean_min: float
    mean_max: float
    rms_min: float
    rms_max: float


def _mean_limit(positive: float) -> float:
    """Translate a share of positive values into a mean, in units of the standard deviation.

    The inverse error function that a normal distribution would need is replaced by an atanh
    of nearly the same shape, which stays finite at shares of 0 and 1.
    """
    z = 2.0 * positive - 1.0
    return 0.8139535143 * 0.5 * (math.log(1.0 + z + 1e-10) - math.log(1.0 - z + 1e-10))


def _rms_limit(mean_abs: float) -> float:
    """Translate the mean of |x| into the RMS that a zero-mean normal variable would have."""
    return 1.25331413732 * mean_abs


class _Moments(NamedTuple):
    """Mean and mean square of each channel, (C,) each."""

    mean: Tensor
    mean_square: Tensor


def _row_moments(rows: Tensor) -> _Moments:
    """Average ``rows`` (n, C) and their squares, a block of rows at a time."""
    total = at_least_float32(rows.new_zeros(rows.shape[1]))
    square = torch.zeros_like(total)
    for block in row_blocks(len(rows), 4 * rows.shape[1], rows.device):
        part = at_least_float32(rows[block])
        total += part.sum(0)
        square += part.square().sum(0)
    return _Moments(total / len(rows), square / len(rows))


def _moments(x: Tensor) -> _Moments:
    """Average ``x`` (A, C, B) and its square over all but the channels."""
    # Of a channel that hardly varies, the variance is what is left of rounding. In this order of
    # summation what is left is the same as in the public recipe.
    x = x.contiguous()
    return _Moments(x.mean((0, 2)), x.square().mean((0, 2)))


def balanced_gradient(
    x: Tensor, grad: Tensor, channel_dim: int, limits: BalancerLimits, grad_scale: float
) -> Tensor:
    """Return ``grad + |grad| * push``, where a step along -push leads the channels to ``limits``.

    Args:
        x: the activations, any shape, C at ``channel_dim``.
        grad: the incoming gradient, of the same shape.
        channel_dim: not negative.
        limits: of every channel.
        grad_scale: RMS of the push in a channel outside its limits.
    """
    if has_kernels(x):
        return _balanced_on_cuda(x, grad, channel_dim, limits, grad_scale)
    if channel_dim == x.ndim - 1:
        return _balanced_rows(x, grad, limits, grad_scale)
    x = at_least_float32(x)
    before, channels = math.prod(x.shape[:channel_dim]), x.shape[channel_dim]
    moments = _moments(x.reshape(before, channels, -1))
    shape = [1] * x.ndim
    shape[channel_dim] = channels
    factor, constant = (t.view(shape) for t in push_line(*moments, limits, EPS, grad_scale))
    return _pushed(grad, x, factor, constant)


def _pushed(grad: Tensor, x: Tensor, factor: Tensor, constant: Tensor) -> Tensor:
    """Return ``grad + |grad| * (factor * x + constant)`` in the type of ``grad``."""
    push = torch.addcmul(constant, at_least_float32(x), factor)
    return push.mul_(grad.abs()).add_(grad).to(grad.dtype)


def _balanced_rows(x: Tensor, grad: Tensor, limits: BalancerLimits, grad_scale: float) -> Tensor:
    """Do the work of ``balanced_gradient`` with the channels last, in blocks of rows."""
    rows, grad_rows = x.flatten(0, -2), grad.flatten(0, -2)
    result = torch.empty_like(rows, dtype=grad.dtype)
    line = push_line(*_row_moments(rows), limits, EPS, grad_scale)
    for block in row_blocks(len(rows), 4 * rows.shape[1], x.device):
        result[block] = _pushed(grad_rows[block], rows[block], *line)
    return result.view(x.shape)


def _balanced_on_cuda(
    x: Tensor, grad: Tensor, channel_dim: int, limits: BalancerLimits, grad_scale: float
) -> Tensor:
    """Do as ``balanced_gradient`` in a few launches."""
    others = [dim for dim in range(x.ndim) if dim != channel_dim]
    total = x.sum(others, keepdim=True, dtype=torch.float32)
    norm = torch.linalg.vector_norm(x, dim=others, keepdim=True, dtype=torch.float32)
    count = float(x.numel() // x.shape[channel_dim])
    numbers = {**limits._asdict(), "eps": EPS, "grad_scale": grad_scale}
    line = elementwise.PUSH_LINE(total, norm, count=count, **numbers)
    (pushed,) = elementwise.PUSHED(grad, x, *line)
    return pushed.to(grad.dtype)


class _BalancerFunction(TensorFunction):
    """Identity with ``balanced_gradient`` behind it."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, channel_dim: int, limits: BalancerLimits, grad_scale: float
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.rest = (channel_dim, limits, grad_scale)
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        try:
            grad = balanced_gradient(x, grad, *ctx.rest)
        except torch.cuda.OutOfMemoryError:
            # Balancing is a help, not part of the loss: better to go without it once than to stop.
            logger.warning("out of memory in a Balancer; its gradient passes unchanged")
        return grad, None, None, None


class Balancer(nn.Module):
    """The identity; with some probability, its gradient pushes channels back within limits.

    It acts whenever the input requires a gradient, in evaluation mode as well. No keys.

    Args:
        num_channels: C.
        channel_dim: dimension of the input that has size C.
        min_positive: lowest share of positive values in a channel, 0 to 1.
        max_positive: highest share of positive values in a channel.
        min_abs: lowest mean absolute value of a channel.
        max_abs: highest mean absolute value of a channel.
        grad_scale: RMS of the push, relative to the incoming gradient.
        prob: that a call acts; None for 0.5 falling to 0.125 over 8000 batches.

    Source: Yao et al., "Zipformer", ICLR 2024.
    """

    def __init__(
        self,
        num_channels: int,
        channel_dim: int,
        min_positive: FloatLike = 0.05,
        max_positive: FloatLike = 0.95,
        min_abs: FloatLike = 0.2,
        max_abs: FloatLike = 100.0,
        grad_scale: FloatLike = 0.04,
        prob: FloatLike | None = None,
    ) -> None:
        super().__init__()
        self.num_channels = num_channels
        self.channel_dim = channel_dim
        self.min_positive = min_positive
        self.max_positive = max_positive
        self.min_abs = min_abs
        self.max_abs = max_abs
        self.grad_scale = grad_scale
        if prob is None:
            prob = ScheduledFloat((0.0, 0.5), (8000.0, 0.125), default=0.4)
        self.prob = prob

    def limits(self) -> BalancerLimits:
        """Return the bounds that hold now."""
        return BalancerLimits(
            mean_min=_mean_limit(float(self.min_positive)),
            mean_max=_mean_limit(float(self.max_positive)),
            rms_min=_rms_limit(float(self.min_abs)),
            rms_max=_rms_limit(float(self.max_abs)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x``, of any shape with C at ``channel_dim``."""
        if not x.requires_grad or random.random() >= float(self.prob):
            return x
        channel_dim = self.channel_dim % x.ndim
        assert x.shape[channel_dim] == self.num_channels, (x.shape, self.num_channels)
        return _BalancerFunction.call(x, channel_dim, self.limits(), float(self.grad_scale))
