"""What changes while training, apart from tensors."""

from __future__ import annotations

import dataclasses
import logging
import math
from dataclasses import dataclass
from typing import Any

from zipasr.checkpoint.average import num_averaged

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
        budget_factor: what they have left of the seconds of a batch.
        skipped_steps: updates left out because the gradient was not finite.
        skipped_in_a_row: how many of them just now.
        skipped_share: their share of the updates, smoothed.
        rollbacks: times that the run went back to what was saved.
        lr_factor: what going back has left of the learning rate.
        best_train_loss: per frame, of the best epoch.
        best_valid_loss: per frame, of the best validation.
        best_train_epoch: epoch of ``best_train_loss``, -1 before the first.
        best_valid_epoch: epoch of ``best_valid_loss``, -1 before the first.
        start_wer: word error rate on dev of the model that a fine-tuning began with, in percent.
        best_wer: lowest word error rate on dev at the end of an epoch, in percent.
        best_wer_epoch: epoch of ``best_wer``, -1 before the first.
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

    def state_dict(self) -> dict[str, int | float | None]:
        """Return the plain values for a checkpoint."""
        return dataclasses.asdict(self)

    @classmethod
    def from_checkpoint(cls, checkpoint: dict[str, Any]) -> TrainState:
        """Restore from a checkpoint; a counter that icefall does not have keeps its start."""
        names = [field.name for field in dataclasses.fields(cls)]
        state = cls(**{name: checkpoint[name] for name in names if name in checkpoint})
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
            logging.warning(
                "%d batches of epoch %d did not fit into memory: from now on a batch has %.0f %% "
                "of --max-duration",
                self.epoch_splits,
                self.cur_epoch,
                100 * self.budget_factor,
            )
        self.cur_epoch, self.batches_done, self.epoch_splits = epoch, 0, 0


def count_splits(state: TrainState, splits: int) -> None:
    """Remember that so many parts of an update were halved."""
    state.memory_splits += splits
    state.epoch_splits += splits
