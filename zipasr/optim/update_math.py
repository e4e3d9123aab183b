"""ScaledAdam's arithmetic for a group: clipping factor, scale changes, constants of the update."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zipasr.optim.clipping import gradient_scale
from zipasr.optim.parameter_batches import ParameterBatches
from zipasr.optim.update_kernels import UpdateConstants

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
