"""Settings of the optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from zipasr.base.config import check_numbers, flag

OptimizerName = Literal["scaled_adam", "scaled_adam_v1", "rubik"]

_SCALED_ADAM: Mapping[str, float] = {"base_lr": 0.045, "warmup_batches": 500.0}
#: Values of other flags that belong to an optimizer; for a model that is trained already, a tenth.
IMPLIED: Mapping[OptimizerName, Mapping[str, Any]] = {
    "scaled_adam": _SCALED_ADAM,
    "scaled_adam_v1": _SCALED_ADAM,
    "rubik": {"base_lr": 0.02, "warmup_batches": 0.0},
}
IMPLIED_FOR_FINETUNING: Mapping[OptimizerName, Mapping[str, Any]] = {
    "rubik": {"base_lr": 0.002, "warmup_batches": 0.0},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """Optimizer."""

    optimizer: OptimizerName = flag(
        "scaled_adam",
        "scaled_adam; scaled_adam_v1: of the recipes of the first Zipformer; rubik: matrices take "
        "orthogonal steps, and the learning rate falls to the end of the run",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EdenConfig:
    """Learning-rate schedule."""

    base_lr: float = flag(_SCALED_ADAM["base_lr"], "learning rate after warm-up, before decay")
    lr_batches: float = flag(7500.0, "batches after which the learning rate decays")
    lr_epochs: float = flag(3.5, "epochs after which the learning rate decays")
    warmup_batches: float = flag(_SCALED_ADAM["warmup_batches"], "batches of warm-up")
    warmup_start: float = flag(0.1, "factor on the learning rate at the first batch, 0 to 1")
    batches_per_epoch: int | None = flag(
        None,
        "with --optimizer rubik: batches that are expected of an epoch; none: as many as planned",
    )

    def __post_init__(self) -> None:
        check_numbers(self, "must be positive", "base_lr lr_batches lr_epochs")
        check_numbers(self, "must not be negative", "warmup_batches")
        check_numbers(self, "must be at least 1", "batches_per_epoch")
        check_numbers(self, "must be between 0 and 1", "warmup_start")
