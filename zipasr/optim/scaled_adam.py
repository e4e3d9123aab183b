"""ScaledAdam: Adam whose step is proportional to the size of each parameter tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from zipasr.optim.named_optimizer import NamedOptimizer, ParametersInput
from zipasr.optim.named_state import StateLayout
from zipasr.optim.parameter_batches import (
    SCALED_ADAM_LAYOUT,
    OptimizerBackend,
    ParameterBatches,
    batch_parameters,
)
from zipasr.optim.update_math import (
    EARLY_STEPS,
    SEVERE_FACTOR,
    GradientSizes,
    GradientStats,
    Group,
    clip,
    motion_of,
    norm_of,
    report_clipping,
    size_steps,
    to_host,
    updates_scales,
)

# Largest relative change of the size of a tensor in one scale step.
MAX_SCALE_STEP = 0.1


class ScaledAdam(NamedOptimizer):
    """Adam with steps relative to the rms of each parameter, a learned scale, and clipping.

    Differs from Adam in four ways: the step of a tensor is multiplied by its root mean square;
    the size of each tensor is itself learned, from gradients collected over
    ``size_update_period`` updates; momentum smooths the step rather than the gradient; the
    gradients of a group are clipped by the running median of their (rms-weighted) norm.
    Tensors with one element ("scalars") take plain steps with a rate of their own.

    An update whose gradient norm is NaN, or infinite while no clipping threshold is known, is
    left out for all groups and counted in ``num_skipped``. An infinite norm with a known
    threshold scales the gradients to zero: momentum and decay go on.

    A missing gradient counts as zero: the moments decay and the momentum moves on.

    Args:
        params: tensors, ``(name, tensor)`` pairs, or groups with ``params`` or
            ``named_params``. Names serve messages, and to find saved state again.
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
        global_norm: all groups are clipped by one norm over all of them, instead of each by its
            own. With one group that is the same.
        backend: what makes the steps; ``auto`` takes what is fastest here.

    Raises:
        ValueError: there are no parameters, or an option is out of its range.

    Source: Yao et al., "Zipformer: a faster and better encoder for automatic speech
    recognition", ICLR 2024, section 3.5.
    """

    layout: ClassVar[StateLayout] = SCALED_ADAM_LAYOUT

    early_steps: ClassVar[tuple[int, ...]] = EARLY_STEPS
    """Updates after which a first clipping threshold is set, before a whole period is over."""

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
        *,
        global_norm: bool = False,
        backend: OptimizerBackend = "auto",
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
        self._global_norm = global_norm
        self._backend = backend
        self._batches: dict[int, ParameterBatches] = {}
        super().__init__(params, defaults)

    def __getstate__(self) -> dict[str, Any]:
        """Return all that a copy needs."""
        own = ("_global_norm", "_backend")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in own}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over state from ``load_state_dict`` or a copy; it is arranged at the next step."""
        super().__setstate__(state)
        self._batches = {}

    def _check_options(self, group: Group) -> None:
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

    def _measure(self) -> list[GradientStats]:
        batches = [self._tied(index) for index in range(len(self.param_groups))]
        grads = [each.gradients() for each in batches]
        sums = to_host(
            [
                each.sweeps.measure(of_group, updates_scales(group, each))
                for group, each, of_group in zip(self.param_groups, batches, grads, strict=True)
            ]
        )
        looks = [
            GradientStats(
                group, each, of_group, sum_, norm_of(each, sum_, self._scalar_weight(group))
            )
            for group, each, of_group, sum_ in zip(
                self.param_groups, batches, grads, sums, strict=True
            )
        ]
        self.grad_norm = math.sqrt(sum(look.norm * look.norm for look in looks))
        if self._global_norm:
            return [look._replace(norm=self.grad_norm) for look in looks]
        return looks

    def _tied(self, index: int) -> ParameterBatches:
        """Return the parameters of a group with their state, arranged anew if anything moved."""
        batches = self._batches.get(index)
        if batches is None or not batches.is_current():
            group = self.param_groups[index]
            period = group["size_update_period"]
            batches = batch_parameters(group["params"], self.state, period, self._backend)
            self._batches[index] = batches
        return batches

    def _update(self, look: GradientStats) -> None:
        batches = look.batches
        factor = clip(look, self.early_steps)
        if factor < SEVERE_FACTOR:
            threshold = batches.entries[0]["model_norm_threshold"]
            report_clipping(factor, threshold, self._sizes(look))
        growths = size_steps(look, factor, self._limited)
        self._move(look, factor, growths)
        batches.advance()

    def _bad_norm(self, measured: Sequence[GradientStats]) -> float | None:
        return next((look.norm for look in measured if not self._is_usable(look)), None)

    def _is_usable(self, look: GradientStats) -> bool:
        """Say whether an update can be made: never with NaN, with infinity if it can be clipped."""
        has_threshold = "model_norm_threshold" in look.batches.entries[0]
        is_clipped = look.group["clipping_scale"] is not None and has_threshold
        return math.isfinite(look.norm) or (math.isinf(look.norm) and is_clipped)

    def _scalar_weight(self, group: Group) -> float:
        """Return the factor of the gradients of scalars in the norm of their group."""
        return float(group["scalar_lr_scale"])

    def _limited(self, group: Group, rms: Tensor, steps: Tensor) -> Tensor:
        """Keep relative changes of the sizes within bounds."""
        # Not limited from below on purpose: a tensor beyond the largest size shrinks at once.
        return torch.minimum(
            steps.clamp_(-MAX_SCALE_STEP, MAX_SCALE_STEP), (group["param_max_rms"] - rms) / rms
        )

    def _move(self, look: GradientStats, factor: float, growths: Tensor | None) -> None:
        """Change the elements of parameters and state."""
        group, batches = look.group, look.batches
        batches.sweeps.move(look.grads, motion_of(group, batches, factor, growths))
        keep_scalars_within(group, batches)

    def _sizes(self, look: GradientStats) -> GradientSizes | None:
        """Collect what a message needs, when all parameters have names."""
        batches = look.batches
        if not all(param in self._names for param in batches.params):
            return None
        present = [(i, grad) for i, grad in enumerate(look.grads) if grad is not None]
        indexes = [i for i, _ in present]
        return GradientSizes(
            names=[self._names[batches.params[i]] for i in indexes],
            grads=[grad for _, grad in present],
            weights=batches.weights(self._scalar_weight(look.group))[indexes].tolist(),
            norms=look.sums[0, indexes].sqrt().tolist(),
            second_moments=[batches.elements.exp_avg_sq[i] for i in indexes],
        )


def keep_scalars_within(group: Group, batches: ParameterBatches) -> None:
    """Bring parameters of one element back between plus and minus ``scalar_max``."""
    scalars = batches.params[batches.num_tensors :]
    if scalars:
        torch._foreach_clamp_min_(scalars, -group["scalar_max"])
        torch._foreach_clamp_max_(scalars, group["scalar_max"])


class ScaledAdamV1(ScaledAdam):
    """ScaledAdam as it was; options and state are those of ``ScaledAdam``.

    Differs from the later one so:

    - clipping scales the gradients of the sizes alone, and begins when a whole period of norms is
      known; all other steps see the gradients as they are;
    - steps of the sizes have no limit, but a tensor beyond ``param_max_rms`` shrinks, by the
      learning rate of sizes times the period;
    - scalars have the weight 1 in the norm, a correction of their second moment that never ends,
      and come back between the bounds before a step, not after it.

    An update whose gradient norm is not finite is left out and counted, as in the later one.

    Source: the public recipe pruned_transducer_stateless7.
    """

    early_steps: ClassVar[tuple[int, ...]] = ()

    def _is_usable(self, look: GradientStats) -> bool:
        """Say whether an update can be made: clipping does not keep an infinite gradient out."""
        return math.isfinite(look.norm)

    def _scalar_weight(self, group: Group) -> float:  # noqa: ARG002 - the later one asks for it
        """Return the factor of the gradients of scalars in the norm of their group."""
        return 1.0

    def _limited(self, group: Group, rms: Tensor, steps: Tensor) -> Tensor:
        """Let tensors shrink that are beyond the largest size."""
        shrinking = -group["lr"] * group["scalar_lr_scale"] * group["size_update_period"]
        return steps.masked_fill_(rms > group["param_max_rms"], shrinking)

    def _move(self, look: GradientStats, factor: float, growths: Tensor | None) -> None:  # noqa: ARG002
        """Change the elements of parameters and state, with the gradients as they are."""
        group, batches = look.group, look.batches
        beta1, beta2 = group["betas"]
        motion = motion_of(group, batches, 1.0, growths)
        corrected = group["lr"] * math.sqrt(1.0 - beta2 ** (batches.step + 1))
        # Their eps is that of tensors, which differs, late in training, by half a percent of 1e-8.
        motion.rates[batches.num_tensors :] = -(1.0 - beta1) * group["scalar_lr_scale"] * corrected
        keep_scalars_within(group, batches)
        batches.sweeps.move(look.grads, motion)
