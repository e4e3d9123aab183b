"""Learning rates over a run: Eden, and cosines interpolated over its progress."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch.optim.optimizer import Optimizer


def warmup_factor(batch: float, warmup_batches: float, warmup_start: float) -> float:
    """Return the straight line from ``warmup_start`` at batch 0 to 1 at ``warmup_batches``."""
    if batch >= warmup_batches:
        return 1.0
    return warmup_start + (1.0 - warmup_start) * (batch / warmup_batches)


def decay_factor(progress: float, scale: float) -> float:
    """Return 1 for progress far below ``scale``, and its power -1/2 far above."""
    return float(((progress**2 + scale**2) / scale**2) ** -0.25)


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
    by_batch = decay_factor(batch, lr_batches)
    by_epoch = decay_factor(epoch, lr_epochs)
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


logger = logging.getLogger(__name__)


def interp_cosine_factor(
    progress: float,
    *,
    min_factor: float = 0.025,
    linear_scale: float = 0.5,
    half_cosine_scale: float = 0.0,
) -> float:
    """Return the learning rate at a point of a run, divided by the base learning rate.

    With P = ``progress`` the curve is a mixture of a line, a quarter and a half of a cosine wave,
    L (1 - P) + H cos(pi P / 2) + (1 - L - H) cos^2(pi P / 2), lifted to end at ``min_factor``.

    Args:
        progress: 0 at the beginning of the run, 1 at its end.
        min_factor: value at the end.
        linear_scale: L, share of the line.
        half_cosine_scale: H, share of the quarter wave.
    """
    cosine = math.cos(0.5 * math.pi * progress)
    full_cosine_scale = 1.0 - linear_scale - half_cosine_scale
    curve = linear_scale * (1.0 - progress) + half_cosine_scale * cosine
    return min_factor + (1.0 - min_factor) * (curve + full_cosine_scale * cosine * cosine)


def planned_progress(
    expected: Sequence[float], epoch: int, batch: float, adjust: float = 1.0
) -> float:
    """Return how far a run is, 0 to 1.

    Args:
        expected: b_1 ... b_E, batches of each epoch as planned; only their proportions matter.
        epoch: from 1; beyond the last the run is at its end.
        batch: batches of the epoch so far.
        adjust: planned batches for each one that there really is.
    """
    done = sum(expected[: epoch - 1])
    if epoch <= len(expected):
        done += min(expected[epoch - 1], adjust * max(batch, 0.0))
    return done / sum(expected)


class InterpCosine:
    """Half a line and half a cosine over a planned run, without warm-up.

    The run is planned for its whole length: an epoch counts by the batches that are expected of
    it, so one in which every utterance comes in eight copies counts eight times. How many batches
    there really are is seen in each epoch, and used in the next.

    The base rate of a group is its learning rate when the schedule is attached, unless the group
    has ``base_lr`` already.

    Args:
        optimizer: its groups receive the learning rate.
        expected: batches of each epoch of the run.
        min_factor: factor on the learning rate at the end.
        linear_scale: share of the line in the curve.
        half_cosine_scale: share of a quarter of a cosine wave.
        warmup_batches: batches until warm-up ends; the published trainings have none.
        warmup_start: factor at batch 0, if there is a warm-up.
        counted_ahead: where ``begin_epoch`` is told the number of batches, it is used in that
            epoch already.
        counts_last: the number of batches of an epoch is seen as it is. False: as the index of
            the last one, which is one less, as the variable schedule of the reference has it.

    Source: icefall pull request 2082, ``combined_scheduler.py``.
    """

    def __init__(  # noqa: PLR0913 - a curve, its warm-up, and how batches are counted
        self,
        optimizer: Optimizer,
        expected: Sequence[float],
        *,
        min_factor: float = 0.025,
        linear_scale: float = 0.5,
        half_cosine_scale: float = 0.0,
        warmup_batches: float = 0.0,
        warmup_start: float = 0.5,
        counted_ahead: bool = False,
        counts_last: bool = True,
    ) -> None:
        if not expected or min(expected) <= 0:
            raise ValueError(f"batches of each epoch must be positive, not {list(expected)}")
        if not 0.0 <= min_factor <= 1.0:
            raise ValueError(f"min_factor must be between 0 and 1, not {min_factor}")
        self.optimizer = optimizer
        self.expected = list(expected)
        self.shape = {
            "min_factor": min_factor,
            "linear_scale": linear_scale,
            "half_cosine_scale": half_cosine_scale,
        }
        self.warmup = (warmup_batches, warmup_start)
        self.counted_ahead = counted_ahead
        self.counts_last = counts_last
        self.epoch = self.batch = -1
        self.adjust_factor = 1.0
        self._in_all = 0
        self._write()

    @property
    def progress(self) -> float:
        """How far the run is, 0 to 1."""
        if self.epoch < 1:
            return 0.0
        return planned_progress(self.expected, self.epoch, self.batch, self.adjust_factor)

    def factor(self) -> float:
        """Return the learning rate of now, divided by the base learning rate."""
        return interp_cosine_factor(self.progress, **self.shape) * warmup_factor(
            self._in_all, *self.warmup
        )

    def set_epoch(self, epoch: int, batches: int | None = None) -> None:
        """Say that ``epoch`` (from 1) begins, or goes on after a restart.

        Args:
            epoch: the next one after that in progress takes over how many batches that had.
            batches: number of batches to come in the whole epoch, where it is known.
        """
        seen = self.batch + self.counts_last
        if epoch == self.epoch + 1 and self.batch > 0 and 1 <= self.epoch <= len(self.expected):
            self._adjust(self.epoch, seen)
        if batches and self.counted_ahead and epoch <= len(self.expected):
            self.adjust_factor = self.expected[epoch - 1] / batches
        self.epoch = epoch
        self._write()

    def set_batch(self, batch: int, in_all: int | None = None) -> None:
        """Set the rate for a batch.

        Args:
            batch: index in the epoch, from 0.
            in_all: batches since the very beginning, with this one, for the warm-up.
        """
        self.batch = batch
        self._in_all = self._in_all + 1 if in_all is None else in_all
        self._write()

    def begin_epoch(self, epoch: int, updates: int | None) -> None:
        """Do as ``set_epoch``; see ``zipasr.optim.build.Schedule``."""
        self.set_epoch(epoch, updates)

    def begin_update(self, in_epoch: int, in_all: int) -> None:
        """Do as ``set_batch``; see ``zipasr.optim.build.Schedule``."""
        self.set_batch(in_epoch, in_all)

    def get_last_lr(self) -> list[float]:
        """Return the learning rate last written, one per group."""
        return list(self._last_lrs)

    def state_dict(self) -> dict[str, Any]:
        """Return the counters; what is planned is not among them."""
        return {"epoch": self.epoch, "batch": self.batch, "adjust_factor": self.adjust_factor}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the counters; ``batches_per_epoch`` of the reference is understood."""
        self.epoch = int(state_dict["epoch"])
        self.batch = int(state_dict["batch"])
        if "batches_per_epoch" in state_dict:
            self.adjust_factor = self.expected[0] / float(state_dict["batches_per_epoch"])
        else:
            self.adjust_factor = float(state_dict.get("adjust_factor", 1.0))

    def _adjust(self, epoch: int, batches: int) -> None:
        planned = self.expected[epoch - 1]
        self.adjust_factor = planned / batches
        if not self.counted_ahead and planned != batches:
            logger.info(
                "epoch %d had %d batches where %g were expected: those to come count %.4g times",
                epoch,
                batches,
                planned,
                self.adjust_factor,
            )

    def _write(self) -> None:
        factor = self.factor()
        groups = self.optimizer.param_groups
        self._last_lrs = [g.setdefault("base_lr", g["lr"]) * factor for g in groups]
        for group, lr in zip(groups, self._last_lrs, strict=True):
            group["lr"] = lr
