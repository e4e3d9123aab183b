"""ActivationBalancer, DoubleSwish, BasicNorm and Whiten as the first Zipformer has them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from zipasr.nn.gradients import TensorFunction
from zipasr.nn.numerics import at_least_float32, no_autocast
from zipasr.nn.whiten import Whiten, spread, whitened_gradient

#: Calls after which the probability of acting has halved.
HALVED_AFTER = 4000.0

#: Largest share of a gradient that each of the two corrections changes.
MAX_FACTOR = 0.04
SIGN_GAIN, SCALE_GAIN = 0.01, 0.02


class Bounds(NamedTuple):
    """Of each channel: the share of positive values, and the mean of |x|."""

    min_positive: float = 0.05
    max_positive: float = 0.95
    min_abs: float = 0.2
    max_abs: float = 100.0


def sign_factor(positive: Tensor, bounds: Bounds, gain: float) -> Tensor:
    """Say how much each channel's values shall rise: (C,) for shares of positive values (C,)."""
    factor = torch.zeros_like(positive)
    if bounds.min_positive > 0.0:
        missing = (bounds.min_positive - positive) / bounds.min_positive
        factor += (missing * gain).clamp(0.0, MAX_FACTOR)
    if bounds.max_positive < 1.0:
        excess = (positive - bounds.max_positive) / (1.0 - bounds.max_positive)
        factor -= (excess * gain).clamp(0.0, MAX_FACTOR)
    return factor


def scale_factor(mean_abs: Tensor, bounds: Bounds, gain: float) -> Tensor:
    """Say how much each channel shall grow: (C,) for the means of |x| (C,)."""
    factor = torch.zeros_like(mean_abs)
    if bounds.min_abs > 0.0:
        missing = (bounds.min_abs - mean_abs) / bounds.min_abs
        factor += (missing * gain).clamp(0.0, MAX_FACTOR)
    excess = (mean_abs - bounds.max_abs) / bounds.max_abs
    return factor - (excess * gain).clamp(0.0, MAX_FACTOR)


class _BalanceFunction(TensorFunction):
    """Identity; the gradient ``g`` becomes ``g - |g| (sign + scale ([x > 0] - 1/2))``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sign: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(x > 0, sign, scale)
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        is_positive, sign, scale = ctx.saved_tensors
        factor = torch.where(is_positive, sign + 0.5 * scale, sign - 0.5 * scale)
        return (grad - grad.abs() * factor).to(grad.dtype), None, None


class ActivationBalancer(nn.Module):
    """The identity; with some probability, its gradient leads channels back into bounds.

    Key: ``count`` () int64, the number of calls, by which the probability falls.

    Args:
        channel_dim: dimension of the input that is the channels.
        min_prob: lowest probability of acting.
        bounds: of every channel.
    """

    count: Tensor

    def __init__(self, channel_dim: int, min_prob: float = 0.1, **bounds: float) -> None:
        super().__init__()
        self.channel_dim = channel_dim
        self.min_prob = min_prob
        self.bounds = Bounds(**bounds)
        self.num_calls = 0
        self.register_buffer("count", torch.tensor(0, dtype=torch.int64))
        self.register_state_dict_pre_hook(_write_count)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_read_count)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x``, of any shape."""
        if not x.requires_grad:
            return x
        prob = max(self.min_prob, 0.5 ** (1.0 + self.num_calls / HALVED_AFTER))
        self.num_calls += 1
        if random.random() >= prob:
            return x
        wide = at_least_float32(x.detach())
        channel_dim = self.channel_dim % x.ndim
        others = [d for d in range(x.ndim) if d != channel_dim]
        shape = [1] * x.ndim
        shape[channel_dim] = -1
        positive = (wide > 0).to(wide.dtype).mean(others)
        sign = sign_factor(positive, self.bounds, SIGN_GAIN / prob)
        scale = scale_factor(wide.abs().mean(others), self.bounds, SCALE_GAIN / prob)
        return _BalanceFunction.call(x, sign.view(shape), scale.view(shape))


def call_counts(model: nn.Module) -> dict[str, int]:
    """Return how often each balancer of ``model`` was called, by name.

    Processes drop layers of their own choice, so each has other counts than the checkpoint.
    """
    return {name: balancer.num_calls for name, balancer in _named_balancers(model)}


def set_call_counts(model: nn.Module, counts: Mapping[str, int]) -> None:
    """Restore what ``call_counts`` returned for the same model."""
    for name, balancer in _named_balancers(model):
        balancer.num_calls = counts[name]


def _named_balancers(model: nn.Module) -> Iterator[tuple[str, ActivationBalancer]]:
    for name, module in model.named_modules():
        if isinstance(module, ActivationBalancer):
            yield name, module


# Counting on the host costs no wait for a device; the buffer is only what checkpoints see.
def _write_count(module: nn.Module, *_: Any) -> None:
    assert isinstance(module, ActivationBalancer)
    module.count.fill_(module.num_calls)


def _read_count(module: nn.Module, _: Any) -> None:
    assert isinstance(module, ActivationBalancer)
    if module.count.device.type != "meta":
        module.num_calls = int(module.count)


# The derivative lies between these bounds; 255 steps divide them.
LOWEST, HIGHEST = -0.043637, 1.2
STEP = (HIGHEST - LOWEST) / 255.0


def double_swish(x: Tensor) -> Tensor:
    """Return ``x * sigmoid(x - 1)``, of any shape, in the type of ``x``."""
    wide = at_least_float32(x)
    return (wide * torch.sigmoid(wide - 1.0)).to(x.dtype)


def double_swish_slope(x: Tensor) -> Tensor:
    """Return the derivative of ``double_swish``, in float32 at least."""
    wide = at_least_float32(x)
    gate = torch.sigmoid(wide - 1.0)
    return wide * gate * (1.0 - gate) + gate


class _EightBitDoubleSwish(TensorFunction):
    """The activation; its derivative is rounded at random, so that its mean is exact."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        slope = double_swish_slope(x)
        steps = (slope - LOWEST).div_(STEP).add_(torch.rand_like(slope))
        ctx.save_for_backward(steps.to(torch.uint8))
        return double_swish(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (steps,) = ctx.saved_tensors
        slope: Tensor = (
            steps.to(torch.promote_types(grad.dtype, torch.float32)).mul_(STEP).add_(LOWEST)
        )
        return (slope * grad).to(grad.dtype)


class DoubleSwish(nn.Module):
    """``double_swish`` as a layer; in training mode it remembers one byte per element.

    The byte costs an error of at most one step, 0.0049, in the derivative, without a bias.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of ``x``, of any shape."""
        return _EightBitDoubleSwish.call(x) if self.training else double_swish(x)


EPS_LIMIT = 3.0


class BasicNorm(nn.Module):
    """``x / sqrt(mean(x^2) + exp(eps))`` over the last dimension; no mean is subtracted.

    Key: ``eps`` (), the logarithm of the constant.
    """

    def __init__(self) -> None:
        super().__init__()
        self.eps = nn.Parameter(torch.tensor(math.log(0.25)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised ``x``, (..., C)."""
        eps: Tensor = self.eps
        if self.training and random.random() < 0.25:
            eps = eps.clamp(-EPS_LIMIT, EPS_LIMIT)
        wide = at_least_float32(x)
        power = wide.square().mean(dim=-1, keepdim=True) + eps.exp()
        return (wide * power.rsqrt()).to(x.dtype)


#: Share of the calls that act which also look whether the next ones need to.
LOOK_PROB = 0.25


class EarlyWhiten(Whiten):
    """A ``Whiten`` with a fixed limit; arguments and gradients are those of ``Whiten``."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` (..., C)."""
        y = super().forward(x)
        acts = y is not x
        if acts and self.min_prob < self.max_prob and random.random() < LOOK_PROB:
            with no_autocast(x):
                metric = spread(x.detach(), self.num_groups).metric
            self.act_less(metric <= float(self.whitening_limit))
        return y

    def whiten_gradient(self, x: Tensor, grad: Tensor) -> Tensor:
        """Return the gradient that takes the place of ``grad``; both are (..., C)."""
        now = spread(x, self.num_groups)
        is_white = now.metric <= float(self.whitening_limit)
        return whitened_gradient(x, grad, now, float(self.grad_scale), is_white)
