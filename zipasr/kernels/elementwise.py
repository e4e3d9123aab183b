"""Elementwise CUDA kernels of one launch each, which torch compiles when they are first used.

The compiler comes with torch (NVRTC, by way of ``torch.cuda.jiterator``): neither Triton nor a C
compiler is needed. Each kernel has its definition in torch operations beside it. Both are compared
once per process and device; where they differ, or a kernel cannot be compiled, the packages that
use them go on with torch operations.
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

LARGEST_ERROR = 1e-3
_SMALL = 1e-20  # in the place of a zero


class ElementwiseKernel:
    """A function of single elements, for tensors that broadcast to each other.

    The results have the type that the tensors are promoted to; the arithmetic is float32 at least.

    Args:
        code: one C++ function template. For a kernel with one result it returns that; otherwise its
            last arguments are references to the results.
        definition: the same in torch operations; returns one tensor, or several.
        num_results: of them.
    """

    def __init__(
        self, code: str, definition: Callable[..., tuple[Tensor, ...]], num_results: int = 1
    ) -> None:
        self.code, self.definition, self.num_results = code, definition, num_results
        self._compiled: dict[tuple[str, ...], Callable[..., Any]] = {}

    def __call__(self, *tensors: Tensor, **numbers: float) -> tuple[Tensor, ...]:
        """Return the results for tensors on a CUDA device and the numbers of the function."""
        names = tuple(numbers)
        if names not in self._compiled:
            jiterator = importlib.import_module("torch.cuda.jiterator")
            self._compiled[names] = (
                jiterator._create_jit_fn(self.code, **numbers)
                if self.num_results == 1
                else jiterator._create_multi_output_jit_fn(self.code, self.num_results, **numbers)
            )
        found = self._compiled[names](*tensors, **numbers)
        return (found,) if isinstance(found, Tensor) else tuple(found)


def _softplus(t: Tensor) -> Tensor:
    return torch.nn.functional.softplus(t, 1.0, 40.0)


def _swoosh(x: Tensor, gain: float, shift: float, offset: float, slope: float) -> tuple[Tensor]:
    return (_softplus(gain * x - shift) / gain - slope * x - offset,)


def _kept_swoosh(
    x: Tensor, keep: Tensor, gain: float, shift: float, offset: float, slope: float, scale: float
) -> tuple[Tensor]:
    return (_swoosh(x, gain, shift, offset, slope)[0] * keep * scale,)


def _swoosh_gradient(
    x: Tensor, grad: Tensor, gain: float, shift: float, slope: float
) -> tuple[Tensor]:
    return (((gain * x - shift).sigmoid() - slope) * grad,)


def _swoosh_both(
    x: Tensor, grad: Tensor, gain: float, shift: float, offset: float, slope: float
) -> tuple[Tensor, Tensor]:
    value, gradient = _swoosh(x, gain, shift, offset, slope), (x, grad, gain, shift, slope)
    return (*value, *_swoosh_gradient(*gradient))


def _kept_swoosh_both(
    x: Tensor, grad: Tensor, keep: Tensor, gain: float, shift: float, offset: float, slope: float,
    scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    value, gradient = _swoosh_both(x, grad, gain, shift, offset, slope)
    return value * keep * scale, gradient * keep * scale


def _push_line(  # noqa: PLR0913 - as many as the kernel has
    total: Tensor, norm: Tensor, count: float, mean_min: float, mean_max: float, rms_min: float,
    rms_max: float, eps: float, grad_scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    limits = mean_min, mean_max, rms_min, rms_max
    return push_line(total / count, norm.square() / count, limits, eps, grad_scale)


def push_line(
    mean: Tensor,
    mean_square: Tensor,
    limits: tuple[float, float, float, float],
    eps: float,
    grad_scale: float,
) -> tuple[Tensor, Tensor]:
    """Return the factor and the constant, (C,) each, of the push ``factor * x + constant``.

    The push is the derivative of the distances from the limits, scaled to an RMS of
    ``grad_scale`` over the channel; zero for a channel within its limits. It is linear
    in x, so that its RMS follows from the moments.

    Args:
        mean: (C,) of each channel.
        mean_square: (C,) of each channel.
        limits: smallest and largest mean / standard deviation, smallest and largest RMS.
        eps: floor of variances and of mean squares.
        grad_scale: RMS of the push.
    """
    mean_min, mean_max, rms_min, rms_max = limits
    variance = mean_square - mean.square()
    std, rms = variance.clamp(min=eps).sqrt(), mean_square.clamp(min=eps).sqrt()
    ratio = mean / std
    # Where a statistic is held at its floor it does not depend on x.
    too_positive = (ratio - ratio.clamp(mean_min, mean_max)).sign()
    too_large = (rms - rms.clamp(rms_min, rms_max)).sign() * (mean_square > eps)
    from_ratio = torch.where(variance > eps, too_positive * ratio / std.square(), 0.0)
    slope = too_large / rms.square() - from_ratio
    # At the mean of the channel; around it, the push varies by slope * std.
    centre = too_positive / std + too_large * mean / rms.square()
    push_rms = torch.hypot(slope * variance.clamp(min=0.0).sqrt(), centre)
    scale = grad_scale / push_rms.clamp(min=eps)
    return slope * scale, (centre - slope * mean) * scale


def _pushed(grad: Tensor, x: Tensor, factor: Tensor, constant: Tensor) -> tuple[Tensor]:
    return (grad + grad.abs() * (factor * x + constant),)


def _is_white(diagonal: Tensor, norm: Tensor, count: float, limit: float) -> tuple[Tensor]:
    metric = norm.square() / count / (diagonal.square() + _SMALL)
    return ((metric < limit).to(diagonal.dtype),)


def _worse(
    product: Tensor, centred: Tensor, diagonal: Tensor, norm: Tensor, count: float
) -> tuple[Tensor]:
    metric = norm.square() / count / (diagonal.square() + _SMALL)
    return (product / (diagonal + _SMALL) - metric * centred,)


def _whitened(
    grad: Tensor, worse: Tensor, grad_norm: Tensor, worse_norm: Tensor, is_white: Tensor,
    scale: float,
) -> tuple[Tensor]:  # fmt: skip
    factor = grad_norm * scale / (worse_norm + _SMALL)
    return (torch.where(is_white > 0, grad, grad + factor * worse),)


def _bypassed(
    original: Tensor, changed: Tensor, scale: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return grad - grad * scale, grad * scale, (changed - original) * grad


def _tanh_of_sum(x: Tensor, y: Tensor) -> tuple[Tensor]:
    return ((x + y).tanh(),)


def _held(x: Tensor, grad: Tensor, lowest: float, highest: float) -> tuple[Tensor]:
    size = grad.abs()
    return (torch.where(x > highest, size, torch.where(x < lowest, -size, grad)),)


#: ``nn.activations``: the value; the value times a mask of ones and zeros and a scale; the
#: derivative times a gradient; both.
SWOOSH = ElementwiseKernel(
    """template <typename T> T swoosh(T x, float gain, float shift, float offset, float slope) {
    const float v = x, t = gain * v - shift;
    return (t > 40.0f ? t : log1pf(expf(t))) / gain - slope * v - offset;
}""",
    _swoosh,
)
KEPT_SWOOSH = ElementwiseKernel(
    """template <typename T>
T kept_swoosh(T x, T keep, float gain, float shift, float offset, float slope, float scale) {
    const float v = x, t = gain * v - shift;
    return ((t > 40.0f ? t : log1pf(expf(t))) / gain - slope * v - offset) * float(keep) * scale;
}""",
    _kept_swoosh,
)
SWOOSH_GRADIENT = ElementwiseKernel(
    """template <typename T> T swoosh_gradient(T x, T grad, float gain, float shift, float slope) {
    return (1.0f / (1.0f + expf(shift - gain * float(x))) - slope) * float(grad);
}""",
    _swoosh_gradient,
)
SWOOSH_BOTH = ElementwiseKernel(
    """template <typename T>
void swoosh_both(T x, T grad, float gain, float shift, float offset, float slope, T& value,
                 T& gradient) {
    const float v = x, t = gain * v - shift;
    value = (t > 40.0f ? t : log1pf(expf(t))) / gain - slope * v - offset;
    gradient = (1.0f / (1.0f + expf(-t)) - slope) * float(grad);
}""",
    _swoosh_both,
    num_results=2,
)
KEPT_SWOOSH_BOTH = ElementwiseKernel(
    """template <typename T>
void kept_swoosh_both(T x, T grad, T keep, float gain, float shift, float offset, float slope,
                      float scale, T& value, T& gradient) {
    const float v = x, t = gain * v - shift, k = float(keep) * scale;
    value = ((t > 40.0f ? t : log1pf(expf(t))) / gain - slope * v - offset) * k;
    gradient = (1.0f / (1.0f + expf(-t)) - slope) * float(grad) * k;
}""",
    _kept_swoosh_both,
    num_results=2,
)
#: ``nn.balancer``: factor and constant of the push from the sum and the norm of a channel, and the
#: gradient that is pushed.
PUSH_LINE = ElementwiseKernel(
    """template <typename T>
void push_line(T total, T norm, float count, float mean_min, float mean_max, float rms_min,
               float rms_max, float eps, float grad_scale, T& factor, T& constant) {
    const float mean = total / count, mean_square = norm * norm / count;
    const float variance = mean_square - mean * mean;
    const float std = sqrtf(fmaxf(variance, eps)), rms = sqrtf(fmaxf(mean_square, eps));
    const float ratio = mean / std;
    const float too_positive = ratio > mean_max ? 1.0f : (ratio < mean_min ? -1.0f : 0.0f);
    float too_large = rms > rms_max ? 1.0f : (rms < rms_min ? -1.0f : 0.0f);
    if (!(mean_square > eps)) too_large = 0.0f;
    const float from_ratio = variance > eps ? too_positive * ratio / (std * std) : 0.0f;
    const float slope = too_large / (rms * rms) - from_ratio;
    const float centre = too_positive / std + too_large * mean / (rms * rms);
    const float push_rms = hypotf(slope * sqrtf(fmaxf(variance, 0.0f)), centre);
    const float scale = grad_scale / fmaxf(push_rms, eps);
    factor = slope * scale;
    constant = (centre - slope * mean) * scale;
}""",
    _push_line,
    num_results=2,
)
PUSHED = ElementwiseKernel(
    """template <typename T> T pushed(T grad, T x, T factor, T constant) {
    return grad + fabsf(grad) * (factor * x + constant);
}""",
    _pushed,
)
#: ``nn.whiten``: 1 where the metric of a scatter matrix, of this norm and mean diagonal, is below
#: its limit; the derivative of the metric from the product of activations and matrix; the gradient.
IS_WHITE = ElementwiseKernel(
    """template <typename T> T is_white(T diagonal, T norm, float count, float limit) {
    const float d = diagonal, n = norm;
    return n * n / count / (d * d + 1e-20f) < limit ? T(1.0f) : T(0.0f);
}""",
    _is_white,
)
WORSE = ElementwiseKernel(
    """template <typename T> T worse(T product, T centred, T diagonal, T norm, float count) {
    const float d = diagonal, n = norm;
    const float metric = n * n / count / (d * d + 1e-20f);
    return float(product) / (d + 1e-20f) - metric * float(centred);
}""",
    _worse,
)
WHITENED = ElementwiseKernel(
    """template <typename T>
T whitened(T grad, T worse, T grad_norm, T worse_norm, T is_white, float scale) {
    const float factor = float(grad_norm) * scale / (float(worse_norm) + 1e-20f);
    return is_white > T(0.0f) ? grad : T(float(grad) + factor * float(worse));
}""",
    _whitened,
)
#: Layers of the Zipformer: gradients of both ends of a bypass, and the terms of its scale's.
BYPASSED = ElementwiseKernel(
    """template <typename T>
void bypassed(T original, T changed, T scale, T grad, T& to_original, T& to_new, T& to_scale) {
    const float g = grad, share = g * float(scale);
    to_original = g - share;
    to_new = share;
    to_scale = (float(changed) - float(original)) * g;
}""",
    _bypassed,
    num_results=3,
)
#: ``model.joiner``: what a search gives to the output layer.
TANH_OF_SUM = ElementwiseKernel(
    """template <typename T> T tanh_of_sum(T x, T y) {
    return tanhf(float(x) + float(y));
}""",
    _tanh_of_sum,
)
#: ``nn.gradients``: the gradient of a parameter that must not leave its range.
HELD = ElementwiseKernel(
    """template <typename T> T held(T x, T grad, float lowest, float highest) {
    const float size = fabsf(float(grad));
    return x > highest ? T(size) : (x < lowest ? T(-size) : grad);
}""",
    _held,
)


def has_kernels(x: Tensor) -> bool:
    """Say whether the kernels work for a tensor of this type and on its device."""
    if not x.is_cuda or x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return False
    return self_check(x.device) is None


@functools.cache
def self_check(device: torch.device) -> str | None:
    """Compare all kernels with their definitions; what does not work must not stop a training."""
    try:
        worst = max(_errors(device))
        problem = None if worst < LARGEST_ERROR else f"they are off by {worst:.1e}"
    except Exception as error:
        problem = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if problem is not None:
        logger.warning("activations and balancers are computed by torch operations: %s", problem)
    return problem


def _errors(device: torch.device) -> list[float]:
    generator = torch.Generator().manual_seed(0)
    x, grad, factor = (3 * torch.randn(3, 64, generator=generator) for _ in range(3))
    keep = (factor > 0).float()
    swoosh = {"gain": 1.5, "shift": 4.0, "offset": 0.035, "slope": 0.08}
    limits = {"mean_min": -0.1, "mean_max": 0.2, "rms_min": 0.5, "rms_max": 1.0}
    line = {"count": 9.0, **limits, "eps": 1e-20, "grad_scale": 0.04}
    # The sum of nine numbers with this norm.
    total, norm = x, (x.square() + grad.square()).sqrt()
    cases: list[tuple[ElementwiseKernel, tuple[Tensor, ...], dict[str, float]]] = [
        (SWOOSH, (10 * x,), swoosh),
        (KEPT_SWOOSH, (x, keep), {**swoosh, "scale": 1.25}),
        (SWOOSH_GRADIENT, (x, grad), {"gain": 1.5, "shift": 4.0, "slope": 0.08}),
        (SWOOSH_BOTH, (x, grad), swoosh),
        (KEPT_SWOOSH_BOTH, (x, grad, keep), {**swoosh, "scale": 1.25}),
        (PUSH_LINE, (total, norm), line),
        (PUSHED, (grad, x, factor[0], factor[1]), {}),
        (IS_WHITE, (x, grad), {"count": 2.0, "limit": 1.5}),
        (WORSE, (x, grad, x.abs().mean(), factor.norm()), {"count": 64.0}),
        (WHITENED, (x, grad, x.norm(), grad.norm(), keep), {"scale": 0.3}),
        (BYPASSED, (x, factor, keep[0], grad), {}),
        (TANH_OF_SUM, (x, grad), {}),
        (HELD, (x, grad), {"lowest": -1.0, "highest": 1.0}),
    ]
    errors = []
    for kernel, tensors, numbers in cases:
        found = kernel(*(tensor.to(device) for tensor in tensors), **numbers)
        wanted = kernel.definition(*(tensor.double() for tensor in tensors), **numbers)
        for one, other in zip(found, wanted, strict=True):
            difference = (one.cpu().double() - other).abs() / other.abs().clamp(min=1)
            errors.append(float(difference.max()))
        half = [tensor.to(device, torch.bfloat16) for tensor in tensors]
        if kernel is not PUSH_LINE:
            assert all(one.dtype == torch.bfloat16 for one in kernel(*half, **numbers))
    return [error if error == error else float("inf") for error in errors]
