"""ScaledAdam of the first generation, which trained the published first Zipformers."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from zipasr.optim.scaled_adam import ScaledAdam, keep_scalars_within
from zipasr.optim.steps import Group, Look, motion_of


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

    def _is_usable(self, look: Look) -> bool:
        """Say whether an update can be made: clipping does not keep an infinite gradient out."""
        return math.isfinite(look.norm)

    def _scalar_weight(self, group: Group) -> float:  # noqa: ARG002 - the later one asks for it
        """Return the factor of the gradients of scalars in the norm of their group."""
        return 1.0

    def _limited(self, group: Group, rms: Tensor, steps: Tensor) -> Tensor:
        """Let tensors shrink that are beyond the largest size."""
        shrinking = -group["lr"] * group["scalar_lr_scale"] * group["size_update_period"]
        return steps.masked_fill_(rms > group["param_max_rms"], shrinking)

    def _move(self, look: Look, factor: float, growths: Tensor | None) -> None:  # noqa: ARG002
        """Change the elements of parameters and state, with the gradients as they are."""
        group, batches = look.group, look.batches
        beta1, beta2 = group["betas"]
        motion = motion_of(group, batches, 1.0, growths)
        corrected = group["lr"] * math.sqrt(1.0 - beta2 ** (batches.step + 1))
        # Their eps is that of tensors, which differs, late in training, by half a percent of 1e-8.
        motion.rates[batches.num_tensors :] = -(1.0 - beta1) * group["scalar_lr_scale"] * corrected
        keep_scalars_within(group, batches)
        batches.sweeps.move(look.grads, motion)
