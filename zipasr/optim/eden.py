"""Learning-rate schedules that fall with batches and epochs after a short warm-up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.optim.optimizer import Optimizer


def warmup_factor(batch: float, warmup_batches: float, warmup_start: float) -> float:
    """Return the straight line from ``warmup_start`` at batch 0 to 1 at ``warmup_batches``."""
    if batch >= warmup_batches:
        return 1.0
    return warmup_start + (1.0 - warmup_start) * (batch / warmup_batches)


def decay_factor(progress: float, scale: float, power: float) -> float:
    """Return 1 for progress far below ``scale``, and a falling power of it far above."""
    return float(((progress**2 + scale**2) / scale**2) ** -power)


def eden_factor(
    batch: float,
    epoch: float,
    *,
    lr_batches: float,
    lr_epochs: float,
    warmup_batches: float = 500.0,
    warmup_start: float = 0.5,
) -> float:
    """Return the learning rate of Eden, divided by the base learning rate.

    Args:
        batch: number of batches since the start of training.
        epoch: number of whole epochs since the start of training, from 0.
        lr_batches: batches after which decay sets in.
        lr_epochs: epochs after which decay sets in.
        warmup_batches: batches until warm-up ends.
        warmup_start: factor at batch 0.
    """
    by_batch = decay_factor(batch, lr_batches, 0.25)
    by_epoch = decay_factor(epoch, lr_epochs, 0.25)
    return by_batch * by_epoch * warmup_factor(batch, warmup_batches, warmup_start)


class Eden:
    """Decay with the power -1/2 of batches and of epochs, after warm-up.

    The base rate of a group is its learning rate when the schedule is attached, unless the
    group has ``base_lr`` already. It is not part of the state: on resume the command line
    decides, so attach the schedule before loading the state of the optimizer.

    Args:
        optimizer: its groups receive the learning rate.
        lr_batches: batches after which decay sets in.
        lr_epochs: epochs after which decay sets in.
        warmup_batches: batches until warm-up ends.
        warmup_start: factor at batch 0, between 0 and 1.
        real_epochs: passes over the data that each epoch counts as in ``begin_epoch``; one where
            nothing is said.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_batches: float,
        lr_epochs: float,
        warmup_batches: float = 500.0,
        warmup_start: float = 0.5,
        real_epochs: Sequence[int] = (),
    ) -> None:
        if not 0.0 <= warmup_start <= 1.0:
            raise ValueError(f"warmup_start must be between 0 and 1, not {warmup_start}")
        self.optimizer = optimizer
        self.lr_batches = lr_batches
        self.lr_epochs = lr_epochs
        self.warmup_batches = warmup_batches
        self.warmup_start = warmup_start
        self._real_epochs = real_epochs
        self.batch = 0
        self.epoch = 0
        self._base_lrs: list[float] = []
        self._attach_groups()
        self._last_lrs: list[float] = [group["lr"] for group in optimizer.param_groups]

    def factor(self) -> float:
        """Return the learning rate of now, divided by the base learning rate."""
        return eden_factor(
            self.batch,
            self.epoch,
            lr_batches=self.lr_batches,
            lr_epochs=self.lr_epochs,
            warmup_batches=self.warmup_batches,
            warmup_start=self.warmup_start,
        )

    def step_batch(self, batch: int | None = None) -> None:
        """Say that batch ``batch`` (or the next one) begins, and set the learning rate."""
        self.batch = self.batch + 1 if batch is None else batch
        self._write()

    def step_epoch(self, epoch: int | None = None) -> None:
        """Say that epoch ``epoch`` from 0 (or the next one) begins; set the learning rate."""
        self.epoch = self.epoch + 1 if epoch is None else epoch
        self._write()

    def begin_epoch(self, epoch: int, updates: int | None) -> None:  # noqa: ARG002 - not planned
        """Do as ``step_epoch``; see ``zipasr.optim.build.Schedule``."""
        before = self._real_epochs[: epoch - 1]
        self.step_epoch(sum(before) + epoch - 1 - len(before))

    def begin_update(self, in_epoch: int, in_all: int) -> None:  # noqa: ARG002 - it counts all
        """Do as ``step_batch``; see ``zipasr.optim.build.Schedule``."""
        self.step_batch(in_all)

    def get_last_lr(self) -> list[float]:
        """Return the learning rate last written, one per group."""
        return list(self._last_lrs)

    def state_dict(self) -> dict[str, int]:
        """Return the two counters."""
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the counters; other entries (``base_lrs`` of old files) are ignored."""
        self.epoch = int(state_dict["epoch"])
        self.batch = int(state_dict["batch"])

    def _attach_groups(self) -> None:
        for group in self.optimizer.param_groups[len(self._base_lrs) :]:
            self._base_lrs.append(group.setdefault("base_lr", group["lr"]))

    def _write(self) -> None:
        self._attach_groups()
        factor = self.factor()
        self._last_lrs = [base * factor for base in self._base_lrs]
        for group, lr in zip(self.optimizer.param_groups, self._last_lrs, strict=True):
            group["lr"] = lr
