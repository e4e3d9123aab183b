"""Gradient clipping by the running median of the norm; how much was clipped, and why."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zipasr.base.errors import NumericError
from zipasr.base.log import COUNTED

logger = logging.getLogger(__name__)

# The threshold is first set after so few updates; it is twice as generous then.
EARLY_STEPS = (10, 20, 40)
# A factor below this is worth a message that names a parameter.
SEVERE_FACTOR = 0.5
NUM_LISTED = 10


class NormStatistics(NamedTuple):
    """Five order statistics of recent gradient norms, and how many norms they stand for."""

    order: list[float]
    num_norms: int

    @property
    def median(self) -> float:
        """The middle one of the five."""
        return self.order[2]


def norm_statistics(norms: Tensor) -> NormStatistics:
    """Return the elements 0, n//4, 2(n//4), 3(n//4), 4(n//4) (or the last) of the sorted norms.

    Args:
        norms: (n,) gradient norms in any order.

    Raises:
        NumericError: the middle one is not finite.
    """
    ordered = norms.sort().values.tolist()
    count = len(ordered)
    order = [ordered[min(count - 1, (count // 4) * j)] for j in range(5)]
    if not math.isfinite(order[2]):
        raise NumericError(
            f"Half of the last {count} gradient norms are not finite.",
            "lower the learning rate, use bfloat16 instead of float16, or look for bad data.",
        )
    return NormStatistics(order, count)


def gradient_scale(
    state: dict[str, Any],
    step: int,
    norm: float,
    clipping_scale: float,
    period: int,
    early_steps: Sequence[int] = EARLY_STEPS,
) -> float:
    """Remember a gradient norm and return the factor by which to multiply the gradients.

    Args:
        state: receives ``model_norms`` (the last ``period`` norms), ``model_norm_threshold``
            and ``num_clipped``; they are made when missing.
        step: number of updates done so far, at least 1.
        norm: norm of the gradients of the group; may be infinite, must not be NaN.
        clipping_scale: threshold as a multiple of the median norm.
        period: number of norms that are remembered, and updates between two new thresholds.
        early_steps: updates, fewer than a period, after which there is a threshold already.

    Returns:
        1 below the threshold and while there is none, less above it, 0 for an infinite norm.
    """
    norms: Tensor = state["model_norms"]
    norms[step % period] = norm
    is_early = step in early_steps and step < period
    if is_early or step % period == 0:
        recent = norms.sort().values[-step:] if is_early else norms
        set_threshold(state, norm_statistics(recent), clipping_scale, is_early)
    threshold = state.get("model_norm_threshold")
    if threshold is None:
        return 1.0
    factor: float = min(1.0, threshold / (norm + 1e-20))
    if factor < 1.0:
        state["num_clipped"] += 1
    return factor


def set_threshold(
    state: dict[str, Any], statistics: NormStatistics, clipping_scale: float, is_early: bool
) -> None:
    """Derive the threshold from recent norms, report it, and count clipped updates anew."""
    threshold = clipping_scale * statistics.median * (2 if is_early else 1)
    percent = 100.0 * state.get("num_clipped", 0) / statistics.num_norms
    logger.info(
        "Clipping_scale=%s, grad-norm quartiles %s, threshold=%.3e, percent-clipped=%.1f",
        clipping_scale,
        " ".join(f"{value:.3e}" for value in statistics.order),
        threshold,
        percent,
    )
    state["model_norm_threshold"] = threshold
    state["num_clipped"] = 0


class GradientSizes(NamedTuple):
    """What a message about a clipped gradient needs; all lists run over the parameters."""

    names: Sequence[str]
    grads: Sequence[Tensor]
    weights: Sequence[float]
    """Factor of each gradient in the norm of the group: the rms of the parameter."""
    norms: Sequence[float]
    """Plain norm of each gradient."""
    second_moments: Sequence[Tensor]
    """Running mean of the squared gradient, elementwise."""


def report_clipping(factor: float, threshold: float, sizes: GradientSizes | None) -> None:
    """Log that gradients are scaled down much, and the parameter behind it.

    The most unusual parameters are logged at the level of debugging. None of it is a warning: in
    the first hundreds of updates such gradients are many.

    Args:
        factor: what the gradients are multiplied by.
        threshold: largest norm that is left alone.
        sizes: None when the parameters have no names; then only the numbers are said.
    """
    because = "" if sizes is None else f", {dominant_parameter(sizes)}"
    logger.info(
        "Scaling gradients by %.3e, model_norm_threshold=%.3e%s",
        factor,
        threshold,
        because,
        extra=COUNTED,
    )
    if sizes is not None and logger.isEnabledFor(logging.DEBUG):
        logger.debug("%s", unusual_parameters(sizes))


def dominant_parameter(sizes: GradientSizes) -> str:
    """Name the parameter with the largest share of the squared norm of the group."""
    squares = [(w * n) ** 2 for w, n in zip(sizes.weights, sizes.norms, strict=True)]
    total = sum(squares)
    # An infinite norm has no shares; its parameter still comes first.
    worst = max(range(len(squares)), key=lambda i: -1.0 if math.isnan(squares[i]) else squares[i])
    share = squares[worst] / total if 0 < total < math.inf else math.nan
    return f"dominated by {sizes.names[worst]} with proportion {share:.2f}"


def unusual_parameters(sizes: GradientSizes) -> str:
    """List the parameters whose gradient is largest compared with its own running mean."""
    numels = torch.tensor([g.numel() for g in sizes.grads], dtype=torch.float64)
    mean_squares = torch.tensor(sizes.norms, dtype=torch.float64) ** 2 / numels
    means = torch.stack([v.mean() for v in sizes.second_moments]).to(mean_squares)
    # 0/0: a parameter without gradients is not unusual.
    ratios = (mean_squares / means).sqrt().nan_to_num(nan=0.0, posinf=math.inf)
    top = ratios.topk(min(NUM_LISTED, len(sizes.names)))
    lines = [
        f"{sizes.names[i]}: ratio {ratio:.3e}, largest at {largest_index(sizes.grads[i])}"
        for ratio, i in zip(top.values.tolist(), top.indices.tolist(), strict=True)
    ]
    return "Parameters with the most unusual gradients: " + "; ".join(lines)


def largest_index(tensor: Tensor) -> tuple[int, ...]:
    """Return the position of the element of largest magnitude."""
    flat = int(tensor.detach().abs().argmax())
    return tuple(int(i) for i in torch.unravel_index(torch.tensor(flat), tensor.shape))
