"""Counters of a training run and the position of its samplers, as checkpoints hold them."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zipasr.base.distributed import World, all_gather
from zipasr.base.errors import CheckpointError, DataError
from zipasr.checkpoint.averaging import num_averaged
from zipasr.data.cuts import DataIdentity
from zipasr.data.epoch_plan import BatchingConfig, EpochSegment

logger = logging.getLogger(__name__)

MAX_EPOCH_SPLITS = 3  # from so many batches that did not fit on, batches become smaller
BUDGET_FACTOR = 0.9  # on the seconds of a batch, each time
# Batches that the schedules in a model to fine-tune count as done: all of them are at their ends.
SCHEDULES_DONE = 100_000.0


@dataclass(slots=True)
class TrainState:
    """Counters of a run; all of it is in every checkpoint.

    Attributes:
        cur_epoch: epoch in progress, from 1.
        batches_done: trained batches of ``cur_epoch``.
        batch_idx_train: updates since the very beginning (icefall's name).
        schedule_count: batches of ``ref_duration`` seconds so far, each of full --max-duration as
            in icefall; drives the in-model schedules.
        schedule_start: what the in-model schedules count as done before the first batch.
        shown_schedule_count: the count that the model's schedules were last given.
        seconds_trained: wall time of training so far, over all resumes.
        models_averaged: how many models the running average is the mean of.
        memory_splits: batches, or halves of them, that did not fit into memory and were halved.
        epoch_splits: how many of them in ``cur_epoch``.
        epoch_totals: the decayed sums of ``cur_epoch`` so far, see ``progress.Totals``.
        budget_factor: what they have left of the seconds of a batch.
        skipped_steps: updates left out because the gradient was not finite.
        skipped_in_a_row: how many of them just now.
        skipped_share: their share of the updates, smoothed.
        rollbacks: times that the run went back to what was saved.
        lr_factor: what going back has left of the learning rate.
        best_train_loss: per frame, of the best epoch.
        best_valid_loss: per frame, of the best epoch.
        best_train_epoch: epoch of ``best_train_loss``, -1 before the first.
        best_valid_epoch: epoch of ``best_valid_loss``, -1 before the first.
        start_wer: word error rate on dev of the model that a fine-tuning began with, in percent.
        best_wer: lowest word error rate on dev at the end of an epoch, in percent.
        best_wer_epoch: epoch of ``best_wer``, -1 before the first.
        best_measures: train, valid or wer -> how the best was measured; see ``best_epochs``.
    """

    cur_epoch: int = 1
    batches_done: int = 0
    batch_idx_train: int = 0
    schedule_count: float = 0.0
    schedule_start: float = 0.0
    shown_schedule_count: float = 0.0
    seconds_trained: float = 0.0
    models_averaged: int = 0
    memory_splits: int = 0
    epoch_splits: int = 0
    epoch_totals: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    budget_factor: float = 1.0
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    skipped_share: float = 0.0
    rollbacks: int = 0
    lr_factor: float = 1.0
    best_train_loss: float = math.inf
    best_valid_loss: float = math.inf
    best_train_epoch: int = -1
    best_valid_epoch: int = -1
    start_wer: float | None = None
    best_wer: float = math.inf
    best_wer_epoch: int = -1
    best_measures: dict[str, str] = dataclasses.field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """Return the plain values for a checkpoint."""
        return dataclasses.asdict(self)

    @classmethod
    def from_checkpoint(cls, checkpoint: dict[str, Any]) -> TrainState:
        """Restore from a checkpoint; a counter that icefall does not have keeps its start.

        Raises:
            TypeError: a counter is no number.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        found = {name: checkpoint[name] for name in names if name in checkpoint}
        usual = dataclasses.asdict(cls())
        for name, value in found.items():
            kind = (int, float) if isinstance(usual[name], float) else type(usual[name])
            if usual[name] is not None and not isinstance(value, kind):
                raise TypeError(f"{name} is {value!r}")
        state = cls(**found)
        if "average_period" in checkpoint:
            state.models_averaged = num_averaged(checkpoint)
        return state

    def start_epoch(self, epoch: int) -> None:
        """Count the batches of ``epoch`` from zero, unless it is the epoch in progress.

        After an epoch in which batches were too large for the memory, they become smaller.
        """
        if epoch == self.cur_epoch:
            return
        if self.epoch_splits >= MAX_EPOCH_SPLITS:
            self.budget_factor *= BUDGET_FACTOR
            logger.warning(
                "%d batches of epoch %d did not fit into memory: from now on a batch has %.0f %% "
                "of --max-duration",
                self.epoch_splits,
                self.cur_epoch,
                100 * self.budget_factor,
            )
        self.cur_epoch, self.batches_done, self.epoch_splits = epoch, 0, 0
        self.epoch_totals = {}


def count_splits(state: TrainState, splits: int) -> None:
    """Remember that so many parts of an update were halved."""
    state.memory_splits += splits
    state.epoch_splits += splits


@dataclass(slots=True)
class SamplerState:
    """Batching in use, and the segments of the epoch that earlier ones have trained.

    A change of the world size or of the budget, between two runs or within one, closes a leg; the
    cuts that are left of the epoch are planned anew, so none is trained twice.

    Attributes:
        layout: of the steps to come.
        data: what tells the training data from others; None before they are known.
        legs: parts of the epoch in progress that were trained in other layouts, in order.
    """

    layout: BatchingConfig
    data: DataIdentity | None = None
    legs: tuple[EpochSegment, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a checkpoint."""
        return {
            "layout": self.layout.to_dict(),
            "data": None if self.data is None else self.data.to_dict(),
            "legs": [{"layout": leg.layout.to_dict(), "steps": leg.steps} for leg in self.legs],
        }

    def change_layout(self, layout: BatchingConfig, batches_done: int) -> None:
        """Cut what is left of the epoch in another way.

        All ranks must do so after the same step.

        Args:
            layout: of the steps to come.
            batches_done: steps of the epoch so far, over all legs.
        """
        steps = batches_done - sum(leg.steps for leg in self.legs)
        if steps > 0:
            if layout == self.layout:
                return  # although other readers would come next: those of its plan stay
            self.legs = (*self.legs, EpochSegment(self.layout, steps))
        self.layout = layout

    def resume(self, saved: Mapping[str, Any], state: TrainState, *, other_data: bool) -> None:
        """Go on where a checkpoint was; ``state`` starts its epoch again if that cannot be.

        Args:
            saved: what ``to_dict`` gave then.
            state: restored already.
            other_data: go on with other data than before.

        Raises:
            CheckpointError: the training data are not the same, and may not be.
        """
        if "layout" not in saved:
            self._start_again(state, "the checkpoint does not say how its batches were chosen")
            return
        if saved["data"] is not None and self.data is not None:
            different = DataIdentity.from_dict(saved["data"]).differences(self.data)
            if different and not other_data:
                raise _other_data(different)
            if different:
                self._start_again(state, f"the training data differ ({'; '.join(different)})")
                return
        if state.batches_done == 0:
            return
        now, self.layout = self.layout, BatchingConfig.from_dict(saved["layout"])
        self.legs = tuple(
            EpochSegment(BatchingConfig.from_dict(leg["layout"]), leg["steps"])
            for leg in saved["legs"]
        )
        if now != self.layout:
            logger.warning(
                "%s: epoch %d goes on with the utterances that it has not seen yet",
                _change(self.layout, now),
                state.cur_epoch,
            )
            self.change_layout(now, state.batches_done)

    def start_epoch(self) -> None:
        """Forget the epoch before."""
        self.legs = ()

    def _start_again(self, state: TrainState, reason: str) -> None:
        self.start_epoch()
        if state.batches_done:
            logger.warning("%s: epoch %d starts from its beginning", reason, state.cur_epoch)
            state.batches_done, state.epoch_totals = 0, {}


def check_ranks_agree(world: World, sampler: SamplerState, batches_done: int, plan: str) -> None:
    """Compare over all processes what they are about to do; all must call it.

    Args:
        world: this process and the others.
        sampler: of this process.
        batches_done: steps of the epoch so far.
        plan: digest of the plan of what is left.

    Raises:
        DataError: a process would train on other batches than the first one expects.
    """
    mine = (sampler, batches_done, plan)
    first, *others = all_gather(mine, world)
    for rank, other in enumerate(others, start=1):
        if other == first:
            continue
        reason = "other flags, or another checkpoint"
        if first[0].data and other[0].data:
            found = first[0].data.differences(other[0].data, ("in the first", "in the other"))
            reason = "; ".join(found) or reason
        raise DataError(
            f"processes 0 and {rank} do not plan the same batches: {reason}.",
            "give all processes the same flags, manifests and checkpoints",
        )


def _other_data(different: list[str]) -> CheckpointError:
    return CheckpointError(
        f"the run was begun with other training data: {'; '.join(different)}.",
        "give the manifests and filters of then, or --allow-data-change 1: the epoch in progress "
        "then starts from its beginning, with the data of now",
    )


def _change(before: BatchingConfig, now: BatchingConfig) -> str:
    """Name what is different between two layouts."""
    old, new = before.to_dict(), now.to_dict()
    old |= old.pop("budget")
    new |= new.pop("budget")
    names = [name for name in old if old[name] != new[name]]
    return ", ".join(f"{name} changed from {old[name]} to {new[name]}" for name in names)
