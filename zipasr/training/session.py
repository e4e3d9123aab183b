"""State of one training process, saved to and restored from checkpoints."""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zipasr.base.config import schema_of, to_dict
from zipasr.base.constants import GIB
from zipasr.base.distributed import World, all_gather
from zipasr.base.environment import environment_report
from zipasr.base.errors import CheckpointError, ResourceError
from zipasr.base.files import FolderIdentity
from zipasr.checkpoint.averaging import start_average
from zipasr.checkpoint.checkpoint_file import load_checkpoint
from zipasr.checkpoint.retention import keep_checkpoint, last_saved
from zipasr.checkpoint.weights import check_finite_state, load_model
from zipasr.data.config import AugmentConfig, DataConfig
from zipasr.data.epoch_plan import BatchingConfig, RowCost
from zipasr.data.loaders import batching_of
from zipasr.encoder.protocol import EncoderConfig
from zipasr.model.config import ModelConfig, TransducerConfig
from zipasr.model.transducer import AsrModel
from zipasr.nn.whiten import load_whiten_state, whiten_state
from zipasr.optim.build import Schedule
from zipasr.optim.config import EdenConfig, OptimizerConfig
from zipasr.optim.named_optimizer import NamedOptimizer
from zipasr.text.tokenizer import Tokenizer
from zipasr.training.config import FinetuneConfig, LossConfig, TrainConfig
from zipasr.training.gradient_reduction import GradientReducer
from zipasr.training.icefall_state import with_own_entries
from zipasr.training.metrics import MetricWriter
from zipasr.training.precision import Precision
from zipasr.training.resume_checks import (
    check_continues,
    check_same_copies,
    warn_different_parameters,
)
from zipasr.training.state import SamplerState, TrainState

logger = logging.getLogger(__name__)

# What a checkpoint needs beside the parameters, so that training can go on from it.
TRAINING_ENTRIES = ("model", "optimizer", "scheduler", "batch_idx_train")
NUMBERED = re.compile(r"(?:epoch|checkpoint)-(\d+)\.pt")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfigs:
    """All settings of a run, one object per component."""

    train: TrainConfig
    loss: LossConfig
    transducer: TransducerConfig
    eden: EdenConfig
    encoder: EncoderConfig
    model: ModelConfig
    data: DataConfig
    augment: AugmentConfig
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return name of a config -> plain values, as checkpoints hold them."""
        return {schema_of(type(config)): to_dict(config) for config in self._all()}

    def classes(self) -> list[type[Any]]:
        """Return the classes of all settings."""
        return [type(config) for config in self._all()]

    def _all(self) -> list[Any]:
        return [getattr(self, name) for name in self.__slots__]


class PerRankState(NamedTuple):
    """State of a model besides its weights, of one rank.

    Attributes:
        whiten: the probability of each Whiten.
        balancer_calls: ``rank_state`` of the encoder; the name is that of the entry in checkpoints,
            of the first Zipformer's balancers, the first to have such a state.
    """

    whiten: dict[str, float]
    balancer_calls: dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Session:
    """Model, optimizer and counters of this rank; gradients are replaced in place.

    Attributes:
        last_saved: the checkpoint that this process wrote or saw written last.
        last_good: the same, none of those between updates that were not finite.
        not_saved: why the last one that was tried could not be written; None if it was.
        sampler: position in the training data.
        row_cost: bytes of an utterance in a batch; None without --memory-budget-gb.
        average: running mean of the parameters, float64 on the CPU; None except in rank 0.
        folder: --exp-dir as it was at the start; None except in rank 0.
        reducer: of the gradients of all processes.
        last_losses: per frame, of the last 20 updates of this process, the newest last.
    """

    configs: TrainConfigs
    world: World
    tokenizer: Tokenizer
    model: AsrModel
    optimizer: NamedOptimizer
    scheduler: Schedule
    precision: Precision
    average: dict[str, Tensor] | None
    writer: MetricWriter | None
    sampler: SamplerState
    row_cost: RowCost | None = None
    state: TrainState = field(default_factory=TrainState)
    last_saved: Path | None = None
    last_good: Path | None = None
    not_saved: str | None = None
    folder: FolderIdentity | None = None
    reducer: GradientReducer = field(init=False)
    last_losses: deque[float] = field(default_factory=lambda: deque(maxlen=20))

    def __post_init__(self) -> None:
        self.reducer = GradientReducer(self.model.parameters(), self.world)

    @property
    def max_duration(self) -> float:
        """Seconds of a batch: --max-duration, or less after batches that did not fit."""
        return float(self.configs.data.max_duration) * self.state.budget_factor

    def layout_of(self, epoch: int) -> BatchingConfig:
        """Return how the flags, and batches that did not fit, want ``epoch`` to be cut."""
        data = replace(self.configs.data, max_duration=self.max_duration)
        copies = self.configs.train.epochs.copies_of(epoch)
        layout = replace(batching_of(data, self.world.size), copies=copies)
        if self.row_cost is None:
            return layout
        limit = self.configs.train.memory_budget_gb * GIB * self.state.budget_factor
        budget = replace(layout.budget, max_cost=limit, cost=self.row_cost)
        return replace(layout, budget=budget)

    @property
    def layout(self) -> BatchingConfig:
        """How the epoch in progress is to be cut into batches."""
        return self.layout_of(self.state.cur_epoch)

    def own_state(self) -> PerRankState:
        """Return what the model of this process has besides weights."""
        return PerRankState(whiten_state(self.model), self.model.speech_encoder.rank_state())

    def load_own_state(self, state: PerRankState) -> None:
        """Restore what ``own_state`` returned."""
        load_whiten_state(self.model, state.whiten)
        self.model.speech_encoder.load_rank_state(state.balancer_calls)

    def content(self, of_ranks: Sequence[PerRankState]) -> dict[str, Any]:
        """Return all that a checkpoint holds: icefall's entries, then ours.

        Args:
            of_ranks: the ``own_state`` of every process, in the order of ranks.
        """
        return {
            "model": self.model.state_dict(),
            "model_avg": self.average,
            "optimizer": self.optimizer.state_dict(),
            "optimizer_parameters": self.optimizer.named_shapes(),
            "scheduler": self.scheduler.state_dict(),
            "grad_scaler": self.precision.scaler.state_dict(),
            "sampler": {
                "epoch": self.state.cur_epoch,
                "batches": self.state.batches_done,
                **self.sampler.to_dict(),
            },
            "average_period": self.configs.train.average_period,
            **self.state.state_dict(),
            **{name: [getattr(own, name) for own in of_ranks] for name in PerRankState._fields},
            "world_size": self.world.size,
            "max_duration": self.max_duration,
            "vocab_size": self.tokenizer.vocab_size,
            "blank_id": self.tokenizer.blank_id,
            "tokenizer": torch.frombuffer(bytearray(self.tokenizer.model_bytes), dtype=torch.uint8),
            "configs": self.configs.to_dict(),
            "env_info": environment_report(),
        }

    def save(self, path: Path) -> None:
        """Write a checkpoint: rank 0 does, but all must call it.

        One that cannot be written is no reason to stop: the training goes on, and the next one may
        find room. ``not_saved`` has the reason.
        """
        self._save(path)
        if self.not_saved is not None and self.world.is_main:
            logger.error(
                "%s Nothing is saved for now: training goes on, and tries again after %d batches",
                self.not_saved,
                self.configs.train.save_every_n,
            )

    def save_or_raise(self, path: Path) -> None:
        """Write a checkpoint at the end of an epoch or of the run; see ``save``.

        Raises:
            ResourceError: it cannot be written.
        """
        self._save(path)
        if self.not_saved is not None:
            last = "there is no checkpoint" if self.last_saved is None else str(self.last_saved)
            raise ResourceError(
                f"{self.not_saved} The last that was written: {last}.",
                "make room, then give the same command: it goes on from there.",
            )

    def log_unsaved(self) -> None:
        """Remind the user, while it is so, that a checkpoint could not be written."""
        if self.not_saved is not None:
            since = self.last_saved or "the start"
            logger.error("nothing is saved since %s: %s", since, self.not_saved)

    def _save(self, path: Path) -> None:
        warn_different_parameters(self.model, self.world)
        of_ranks = all_gather(self.own_state(), self.world)
        problem = self._write(path, of_ranks) if self.world.is_main else None
        self.not_saved = all_gather(problem, self.world)[0]
        if self.not_saved is None:
            self.last_saved = path
            if self.state.skipped_in_a_row == 0:
                self.last_good = path

    def check_folder(self) -> None:
        """End a run whose folder is gone, before it goes on in a new one.

        Raises:
            ResourceError: so it is.
        """
        if self.folder is not None:
            self.folder.check()

    def _write(self, path: Path, of_ranks: Sequence[PerRankState]) -> str | None:
        """Write a checkpoint; return what went wrong, if anything."""
        self.check_folder()
        try:
            keep_checkpoint(path, self.content(of_ranks))
        except ResourceError as problem:
            return problem.what
        logger.info("saved %s", path)
        return None

    def restore(self, checkpoint: Mapping[str, Any], path: Path) -> None:
        """Take over parameters, optimizer and counters; settings stay as the command line says.

        Raises:
            CheckpointError: the checkpoint is of another model (names the first differences), or
                lacks the state of the training.
        """
        missing = [name for name in TRAINING_ENTRIES if name not in checkpoint]
        if missing:
            raise CheckpointError(
                f"{path} holds a model without the state of its training: {missing[0]!r} is "
                "missing.",
                "decode.py can use it; to train, choose a checkpoint that train.py wrote.",
            )
        load_model(self.model, checkpoint["model"], path)
        if "configs" not in checkpoint:
            names = [name for name, _ in self.model.named_parameters()]
            checkpoint = with_own_entries(checkpoint, path, names, self.configs.classes())
        check_continues(checkpoint, self.configs.to_dict(), self.tokenizer, path)
        fresh = self.optimizer.load_named(
            checkpoint["optimizer"], checkpoint.get("optimizer_parameters")
        )
        if fresh:
            logger.warning("the optimizer begins anew for %s", ", ".join(fresh))
        self.scheduler.load_state_dict(checkpoint["scheduler"])
        if self.precision.scaler.is_enabled() and checkpoint.get("grad_scaler"):
            self.precision.scaler.load_state_dict(checkpoint["grad_scaler"])
        if self.average is not None and checkpoint.get("model_avg"):
            self.average = start_average(checkpoint["model_avg"])
        self.load_own_state(self._own_of(checkpoint))
        self.state = TrainState.from_checkpoint(dict(checkpoint))
        check_same_copies(checkpoint, self.configs.train, self.state.cur_epoch, path)
        self.last_saved = self.last_good = path
        if path.name.startswith("epoch-"):
            self.start_epoch(self.state.cur_epoch + 1)
        self.sampler.layout = self.layout
        self.sampler.resume(
            checkpoint.get("sampler") or {},
            self.state,
            other_data=self.configs.train.allow_data_change,
        )

    def _own_of(self, checkpoint: Mapping[str, Any]) -> PerRankState:
        """Return what a checkpoint has for this process; what it does not know is as now."""
        own = self.own_state()
        for name in PerRankState._fields:
            if of_ranks := checkpoint.get(name):
                own = own._replace(**{name: of_ranks[self.world.rank % len(of_ranks)]})
        return own

    def start_epoch(self, epoch: int) -> None:
        """Begin ``epoch``, unless it is the one in progress."""
        if epoch != self.state.cur_epoch:
            self.sampler.start_epoch()
        self.state.start_epoch(epoch)
        self.sampler.change_layout(self.layout, self.state.batches_done)


def newest_checkpoint(exp_dir: Path) -> tuple[Path, dict[str, Any]] | None:
    """Find and load the checkpoint with the most batches; damaged files are told and passed over.

    Those with weights that are not finite are damaged as well.

    Returns:
        Its path and content, or None when ``exp_dir`` holds no checkpoint.

    Raises:
        CheckpointError: there are checkpoints, and all of them are damaged.
    """
    found: list[tuple[Path, dict[str, Any]]] = []
    damaged: dict[Path, CheckpointError] = {}
    for pattern in ("epoch-*.pt", "checkpoint-*.pt"):
        for path in sorted(_numbered(exp_dir.glob(pattern)), key=_number, reverse=True):
            try:
                checkpoint = load_checkpoint(path)
                check_finite_state(checkpoint, path)
            except CheckpointError as problem:
                what = problem.what.rstrip(".")
                logger.warning("%s; the one before it is used instead", what)
                damaged[path] = problem
                continue
            if checkpoint.keys() >= {*TRAINING_ENTRIES} and isinstance(
                checkpoint["batch_idx_train"], int
            ):
                found.append((path, checkpoint))
                break
            logger.warning("%s is a model alone, training cannot go on from it", path)
    newest = max(found, key=lambda item: item[1]["batch_idx_train"], default=None)
    if newest is not None:
        _warn_lost_state(newest[1]["batch_idx_train"], damaged)
    elif damaged:
        raise CheckpointError(
            f"{exp_dir} has no checkpoint to go on from: {next(iter(damaged.values())).what}",
            "--resume 0 starts anew, and writes over what is there.",
        )
    return newest


def _warn_lost_state(batches: int, damaged: Iterable[Path]) -> None:
    """Say how many batches have to be trained again because newer checkpoints are damaged."""
    reached = [_number(path) for path in damaged if path.name.startswith("checkpoint-")]
    notes = [last_saved(path.parent) for path in damaged]
    names = {path.name for path in damaged}
    reached += [note.get("batch_idx_train", 0) for note in notes if note.get("name") in names]
    if (lost := max(reached, default=0) - batches) > 0:
        logger.warning("%d batches are lost with the damaged files, and trained again", lost)


def _numbered(paths: Iterable[Path]) -> list[Path]:
    """Leave out what others wrote beside the checkpoints, such as ``epoch-9-avg-3.pt``."""
    return [path for path in paths if NUMBERED.fullmatch(path.name)]


def _number(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])
