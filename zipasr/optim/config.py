"""Settings of the optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from zipasr.base.config import flag
from zipasr.optim.scaled_adam import ParametersInput, ScaledAdam, ScaledAdamV1

OptimizerName = Literal["scaled_adam", "scaled_adam_v1"]

OPTIMIZERS: Mapping[OptimizerName, type[ScaledAdam]] = {
    "scaled_adam": ScaledAdam,
    "scaled_adam_v1": ScaledAdamV1,
}

CLIPPING_SCALE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """The optimizer."""

    optimizer: OptimizerName = flag(
        "scaled_adam", "scaled_adam_v1 is the one that trained the published first Zipformers"
    )

    def build(self, params: ParametersInput) -> ScaledAdam:
        """Return the optimizer of these parameters; gradients are clipped at twice their median."""
        return OPTIMIZERS[self.optimizer](params, clipping_scale=CLIPPING_SCALE)
