"""ScaledAdam: Adam whose step is proportional to the size of each parameter tensor."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from zipasr.optim.clipping import (
    SEVERE_FACTOR,
    GradientSizes,
    gradient_scale,
    report_clipping,
)
from zipasr.optim.parameter_batches import (
    ParameterBatches,
    batch_parameters,
    root_mean_squares,
)

logger = logging.getLogger(__name__)

# From this value of 1 - beta2^t on, the second moment is used without correction.
CORRECTED_BELOW = 0.99
# Largest relative change of the size of a tensor in one scale step.
MAX_SCALE_STEP = 0.1

Group = dict[str, Any]
ParametersInput = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[Group]


class Measures(NamedTuple):
    """What one pass over parameters and gradients finds, before anything is changed."""

    grad_norms: list[float]
    """P norms of the gradients."""
    scale_grads: Tensor
    """(M,), sum over the elements of parameter times gradient."""
    rms: Tensor | None
    """(M,), present size of the parameters; None in the updates that keep the old one."""


class ScaledAdam(Optimizer):
    """Adam with steps relative to the rms of each parameter, a learned scale, and clipping.

    Differs from Adam in four ways: the step of a tensor is multiplied by its root mean square;
    the size of each tensor is itself learned, from gradients collected over
    ``size_update_period`` updates; momentum smooths the step rather than the gradient; the
    gradients of a group are clipped by the running median of their (rms-weighted) norm.
    Tensors with one element ("scalars") take plain steps with a rate of their own.

    An update whose gradient norm is NaN, or infinite while no clipping threshold is known, is
    left out for the whole group and counted in ``num_skipped``. An infinite norm with a known
    threshold scales the gradients to zero: momentum and decay go on.

    Args:
        params: tensors, ``(name, tensor)`` pairs, or groups with ``params`` or
            ``named_params``. Names serve messages only.
        lr: learning rate, relative to the size of a tensor.
        clipping_scale: gradients are clipped at this multiple of their median norm; None: never.
        betas: decay of the smoothed step and of the second moment.
        scalar_lr_scale: learning rate of scalars and of scales, relative to ``lr``.
        eps: added to the root of second moments.
        param_min_rms: tensors smaller than this take steps as if they had this size.
        param_max_rms: scale steps do not make tensors larger than this.
        scalar_max: scalars stay within plus and minus this value.
        size_update_period: updates between two steps of the scale.
        clipping_update_period: updates between two new clipping thresholds.

    Raises:
        ValueError: there are no parameters, or an option is out of its range.

    Source: Yao et al., "Zipformer: a faster and better encoder for automatic speech
    recognition", ICLR 2024, section 3.5.
    """

    num_skipped: int
    """Updates left out since this object was made because the gradient norm was not finite."""

    grad_norm: float
    """Of all gradients in the last update, each weighted with the size of its parameter."""

    def __init__(  # noqa: PLR0913 - the option names are those of published training commands
        self,
        params: ParametersInput,
        lr: float = 0.03,
        clipping_scale: float | None = None,
        betas: tuple[float, float] = (0.9, 0.98),
        scalar_lr_scale: float = 0.1,
        eps: float = 1.0e-08,
        param_min_rms: float = 1.0e-05,
        param_max_rms: float = 3.0,
        scalar_max: float = 10.0,
        size_update_period: int = 4,
        clipping_update_period: int = 100,
    ) -> None:
        defaults = {
            "lr": lr,
            "clipping_scale": clipping_scale,
            "betas": betas,
            "scalar_lr_scale": scalar_lr_scale,
            "eps": eps,
            "param_min_rms": param_min_rms,
            "param_max_rms": param_max_rms,
            "scalar_max": scalar_max,
            "size_update_period": size_update_period,
            "clipping_update_period": clipping_update_period,
        }
        self.num_skipped = 0
        self.grad_norm = math.nan
        self._names: dict[Tensor, str] = {}
        self._batches: dict[int, ParameterBatches] = {}
        super().__init__(_as_groups(params), defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over state from ``load_state_dict`` or a copy; it is arranged at the next step."""
        super().__setstate__(state)
        self.__dict__.setdefault("num_skipped", 0)
        self.__dict__.setdefault("grad_norm", math.nan)
        self.__dict__.setdefault("_names", {})
        self._batches = {}

    def add_param_group(self, param_group: Group) -> None:
        """Add parameters; ``named_params`` may take the place of ``params``."""
        group = dict(param_group)
        if "named_params" in group:
            named = list(group.pop("named_params"))
            self._names.update((param, name) for name, param in named)
            group["params"] = [param for _, param in named]
        super().add_param_group(group)
        _check_options(self.param_groups[-1])

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Make one update of all groups from the gradients that are there.

        A missing gradient counts as zero: the moments decay and the momentum moves on.

        Args:
            closure: evaluates the model again and returns the loss.

        Returns:
            The loss that ``closure`` returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        norms = []
        for index, group in enumerate(self.param_groups):
            if index not in self._batches:
                period = group["size_update_period"]
                self._batches[index] = batch_parameters(group["params"], self.state, period)
            norms.append(self._step_group(group, self._batches[index]))
        self.grad_norm = math.hypot(*norms)
        return loss

    def _step_group(self, group: Group, batches: ParameterBatches) -> float:
        """Make the update of one group and return the norm of its gradients."""
        grads = batches.gradients()
        is_size_update = (batches.step + 1) % group["size_update_period"] == 0
        measures = _measure(batches, grads, is_size_update)
        weights = batches.rms_values + [group["scalar_lr_scale"]] * (
            len(grads) - batches.num_tensors
        )
        norm = _weighted_norm(weights, measures.grad_norms)
        factor = self._clip(group, batches, norm)
        if factor is None:
            self.num_skipped += 1
            logger.warning(
                "The gradient norm is %s: this update is skipped (%d so far)",
                norm,
                self.num_skipped,
            )
            return norm
        if factor < SEVERE_FACTOR:
            sizes = self._sizes(batches, grads, weights, measures.grad_norms)
            report_clipping(factor, batches.entries[0]["model_norm_threshold"], sizes)
        if factor == 0.0:
            # Infinity times zero would be NaN, so the gradients are replaced.
            grads = [batches.zeros_like(param) for param in batches.params]
        scale_steps = _update_sizes(group, batches, measures, factor)
        _update_values(group, batches, grads, factor, scale_steps)
        batches.advance()
        return norm

    @staticmethod
    def _clip(group: Group, batches: ParameterBatches, norm: float) -> float | None:
        """Return the factor for the gradients, or None when the update must be left out."""
        state, scale = batches.entries[0], group["clipping_scale"]
        is_clipping = scale is not None and batches.step > 0
        has_threshold = is_clipping and "model_norm_threshold" in state
        if math.isnan(norm) or (math.isinf(norm) and not has_threshold):
            return None
        if not is_clipping:
            return 1.0
        period = group["clipping_update_period"]
        if "model_norms" not in state:
            state["model_norms"] = batches.params[0].new_zeros(period)
        return gradient_scale(state, batches.step, norm, scale, period)

    def _sizes(
        self,
        batches: ParameterBatches,
        grads: Sequence[Tensor],
        weights: Sequence[float],
        norms: Sequence[float],
    ) -> GradientSizes | None:
        """Collect what a message needs, when all parameters have names."""
        if not all(param in self._names for param in batches.params):
            return None
        names = [self._names[param] for param in batches.params]
        return GradientSizes(names, grads, weights, norms, batches.exp_avg_sq)


def _as_groups(params: ParametersInput) -> list[Group]:
    """Bring the accepted inputs into one form: a list of groups."""
    items: list[Any] = [params] if isinstance(params, Tensor) else list(params)
    if not items:
        raise ValueError("ScaledAdam got no parameters; is every module frozen?")
    if isinstance(items[0], dict):
        return items
    key = "named_params" if isinstance(items[0], tuple) else "params"
    return [{key: items}]


def _check_options(group: Group) -> None:
    """Refuse options outside their range."""
    if not all(0.0 <= beta < 1.0 for beta in group["betas"]):
        raise ValueError(f"betas must be in [0, 1), not {group['betas']}")
    for name in ("lr", "scalar_lr_scale"):
        if not group[name] >= 0.0:
            raise ValueError(f"{name} must not be negative, not {group[name]}")
    for name in ("eps", "param_max_rms", "scalar_max", "size_update_period"):
        if not group[name] > 0:
            raise ValueError(f"{name} must be positive, not {group[name]}")
    if group["clipping_update_period"] < 1:
        raise ValueError("clipping_update_period must be positive")


def _measure(batches: ParameterBatches, grads: list[Tensor], with_rms: bool) -> Measures:
    """Look at parameters and gradients once, chunk by chunk; one host synchronisation."""
    grad_norms: list[Tensor] = []
    products: list[Tensor] = []
    sizes: list[Tensor] = []
    for chunk in batches.chunks:
        chunk_grads = grads[chunk]
        params = batches.params[chunk.start : min(chunk.stop, batches.num_tensors)]
        grad_norms.extend(torch._foreach_norm(chunk_grads))
        products.extend(
            torch.dot(param.reshape(-1), grad.reshape(-1))
            for param, grad in zip(params, chunk_grads, strict=False)
        )
        if with_rms and params:
            sizes.append(root_mean_squares(params))
    empty = batches.rms.new_zeros(0)
    return Measures(
        grad_norms=torch.stack(grad_norms).tolist(),
        scale_grads=torch.stack(products) if products else empty,
        rms=torch.cat([empty, *sizes]) if with_rms else None,
    )


def _weighted_norm(weights: Sequence[float], norms: Sequence[float]) -> float:
    """Norm over a group of gradients, each multiplied by its weight."""
    return math.sqrt(sum((w * n) ** 2 for w, n in zip(weights, norms, strict=True)))


def _update_sizes(
    group: Group, batches: ParameterBatches, measures: Measures, factor: float
) -> list[float] | None:
    """Remember the scale gradients; every K-th time derive a relative change of the sizes.

    Returns:
        M relative changes, or None in the updates that change no size.
    """
    row = batches.scale_grads[batches.step % group["size_update_period"]]
    if factor == 0.0:
        row.zero_()
    else:
        torch.mul(measures.scale_grads, factor, out=row)
    if measures.rms is None:
        return None
    rms = batches.rms.copy_(measures.rms)
    period = group["size_update_period"]
    decay = group["betas"][1] ** period
    grads, second = batches.scale_grads, batches.scale_exp_avg_sq
    second.mul_(decay).add_(grads.square().mean(dim=0), alpha=1.0 - decay)
    corrected = math.sqrt(1.0 - decay ** ((batches.step + 1) // period))
    rate = -group["lr"] * group["scalar_lr_scale"] * corrected
    steps = rate * grads.sum(dim=0) / (second.sqrt() + group["eps"])
    steps.masked_fill_(rms < group["param_min_rms"], 0.0)
    steps.clamp_(-MAX_SCALE_STEP, MAX_SCALE_STEP)
    # Not limited from below on purpose: a tensor beyond the largest size shrinks at once.
    steps = torch.minimum(steps, (group["param_max_rms"] - rms) / rms)
    batches.rms_values, step_values = torch.stack([rms, steps]).tolist()
    return list(step_values)


def _update_values(
    group: Group,
    batches: ParameterBatches,
    grads: list[Tensor],
    factor: float,
    scale_steps: list[float] | None,
) -> None:
    """Move the parameters, chunk by chunk.

    The gradients are never written to: the clipping factor and the correction of the second
    moment are folded into the constants.
    """
    beta1, beta2 = group["betas"]
    correction = 1.0 - beta2 ** (batches.step + 1)
    root = math.sqrt(correction) if correction < CORRECTED_BELOW else 1.0
    num_scalars = len(batches.params) - batches.num_tensors
    sizes = [max(rms, group["param_min_rms"]) for rms in batches.rms_values]
    rates = sizes + [group["scalar_lr_scale"]] * num_scalars
    rate = -(1.0 - beta1) * group["lr"] * factor * root
    for chunk in batches.chunks:
        params, chunk_grads = batches.params[chunk], grads[chunk]
        second, delta = batches.exp_avg_sq[chunk], batches.delta[chunk]
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(
            second, chunk_grads, chunk_grads, value=(1.0 - beta2) * factor * factor
        )
        roots = torch._foreach_sqrt(second)
        torch._foreach_add_(roots, group["eps"] * root)
        torch._foreach_mul_(delta, beta1)
        torch._foreach_addcdiv_(delta, chunk_grads, roots, [rate * r for r in rates[chunk]])
        if scale_steps is not None:
            changes = [(1.0 - beta1) * step for step in scale_steps[chunk]]
            _add_multiples(delta[: len(changes)], params[: len(changes)], changes)
        torch._foreach_add_(params, delta)
    if num_scalars:
        scalars = batches.params[batches.num_tensors :]
        torch._foreach_clamp_min_(scalars, -group["scalar_max"])
        torch._foreach_clamp_max_(scalars, group["scalar_max"])


def _add_multiples(targets: list[Tensor], sources: list[Tensor], factors: list[float]) -> None:
    """Add to each target its source times its factor."""
    if targets:
        torch._foreach_add_(targets, torch._foreach_mul(sources, factors))
