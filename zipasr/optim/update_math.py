"""Arithmetic that the optimizers share: gradient clipping and updates of batches of parameters."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zipasr.base.errors import NumericError
from zipasr.base.log import COUNTED
from zipasr.optim.parameter_batches import ParameterBatches
from zipasr.optim.update_kernels import UpdateConstants

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


# From this value of 1 - beta2^t on, the second moment is used without correction.
CORRECTED_BELOW = 0.99

Group = dict[str, Any]
#: Options of a group, (M,) sizes, (M,) relative changes of the sizes -> the changes that are made.
LimitSizeSteps = Callable[[Group, Tensor, Tensor], Tensor]


class GradientStats(NamedTuple):
    """Statistics of the gradients of one group, on the host, before anything is changed."""

    group: Group
    batches: ParameterBatches
    grads: list[Tensor | None]
    sums: Tensor
    """(3, P) float64, over the elements: g^2, p g and, in a size update, p^2."""
    norm: float
    """Norm of the group, each gradient weighted with the size of its parameter."""


def updates_scales(group: Group, batches: ParameterBatches) -> bool:
    """Say whether the update to come is one that looks at the sizes and changes them."""
    return bool((batches.step + 1) % group["size_update_period"] == 0)


def to_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Fetch tensors of the same number of rows, in one transfer."""
    device = tensors[0].device
    joined = torch.cat([tensor.to(device) for tensor in tensors], dim=1).cpu()
    return list(torch.split(joined, [tensor.shape[1] for tensor in tensors], dim=1))


def norm_of(batches: ParameterBatches, sums: Tensor, scalar_weight: float) -> float:
    """Return the norm of the gradients of a group, each weighted with the size of its parameter."""
    weights = batches.weights(scalar_weight).double()
    return float((weights.square() @ sums[0]).sqrt())


def clip(look: GradientStats, early_steps: Sequence[int]) -> float:
    """Return the factor for the gradients of a group."""
    group, step = look.group, look.batches.step
    state, scale = look.batches.entries[0], group["clipping_scale"]
    if scale is None or step == 0:
        return 1.0
    period = group["clipping_update_period"]
    if "model_norms" not in state:
        state["model_norms"] = torch.zeros(period)
    return gradient_scale(state, step, look.norm, scale, period, early_steps)


def size_steps(look: GradientStats, factor: float, limited: LimitSizeSteps) -> Tensor | None:
    """Remember the scale gradients; every K-th time derive a relative change of the sizes.

    Returns:
        (P,) relative changes, 0 for scalars; None in the updates that change no size.
    """
    group, batches, count = look.group, look.batches, look.batches.num_tensors
    if not count:
        return None
    period = group["size_update_period"]
    row = batches.scale_grads[batches.step % period]
    row.copy_(look.sums[1, :count] * factor if factor else torch.zeros(count))
    if not updates_scales(group, batches):
        return None
    rms = batches.rms.copy_((look.sums[2] / batches.numels)[:count].sqrt())
    decay = group["betas"][1] ** period
    grads, second = batches.scale_grads, batches.scale_exp_avg_sq
    second.mul_(decay).add_(grads.square().mean(dim=0), alpha=1.0 - decay)
    corrected = math.sqrt(1.0 - decay ** ((batches.step + 1) // period))
    rate = -group["lr"] * group["scalar_lr_scale"] * corrected
    steps = rate * grads.sum(dim=0) / (second.sqrt() + group["eps"])
    steps.masked_fill_(rms < group["param_min_rms"], 0.0)
    steps = limited(group, rms, steps)
    # A parameter without gradients moves when it is beyond the largest size.
    batches.asleep[:count] &= steps == 0
    return torch.nn.functional.pad(steps, (0, len(batches.params) - count))


def motion_of(
    group: Group, batches: ParameterBatches, factor: float, growths: Tensor | None
) -> UpdateConstants:
    """Fold the learning rate, the sizes and both corrections into a few constants."""
    beta1, beta2 = group["betas"]
    correction = 1.0 - beta2 ** (batches.step + 1)
    root = math.sqrt(correction) if correction < CORRECTED_BELOW else 1.0
    rates = batches.weights(group["scalar_lr_scale"])
    rates[: batches.num_tensors].clamp_(min=group["param_min_rms"])
    return UpdateConstants(
        beta1,
        beta2,
        factor,
        group["eps"] * root,
        rates.mul_(-(1.0 - beta1) * group["lr"] * root),
        None if growths is None else growths.mul_(1.0 - beta1),
        batches.asleep,
    )
