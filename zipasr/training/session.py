"""What one process holds while it trains, and how that becomes a checkpoint and comes back."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from zipasr.base.config import to_dict
from zipasr.base.distributed import World, all_gather
from zipasr.base.env import environment_report
from zipasr.base.errors import CheckpointError
from zipasr.checkpoint.average import start_average
from zipasr.checkpoint.files import load_checkpoint, save_checkpoint
from zipasr.checkpoint.weights import load_model
from zipasr.data.augment import AugmentConfig
from zipasr.data.loaders import DataConfig
from zipasr.encoder.zipformer import ZipformerConfig
from zipasr.model.build import ModelConfig
from zipasr.model.transducer import AsrModel, TransducerConfig
from zipasr.nn.whiten import load_whiten_state, whiten_state
from zipasr.optim.eden import Eden, EdenConfig
from zipasr.optim.scaled_adam import ScaledAdam
from zipasr.text.tokenizer import Tokenizer
from zipasr.training.config import TrainConfig
from zipasr.training.continuity import check_continues
from zipasr.training.precision import Precision
from zipasr.training.state import TrainState
from zipasr.training.step import LossConfig

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
    zipformer: ZipformerConfig
    model: ModelConfig
    data: DataConfig
    augment: AugmentConfig

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return class name -> plain values, as checkpoints and config.json hold them."""
        configs = (getattr(self, name) for name in self.__slots__)
        return {type(config).__name__: to_dict(config) for config in configs}


@dataclass(slots=True, kw_only=True)
class Session:
    """The moving parts of one process.

    Attributes:
        last_saved: the checkpoint that this process wrote or saw written last.
        network: the model, wrapped when there are several processes; called for the loss.
        model: the model itself.
        average: running mean of the parameters, float64 on the CPU; None except in rank 0.
    """

    configs: TrainConfigs
    world: World
    tokenizer: Tokenizer
    model: AsrModel
    network: nn.Module
    optimizer: ScaledAdam
    scheduler: Eden
    precision: Precision
    average: dict[str, Tensor] | None
    writer: SummaryWriter | None
    state: TrainState = field(default_factory=TrainState)
    last_saved: Path | None = None

    def content(self, whiten: list[dict[str, float]]) -> dict[str, Any]:
        """Return all that a checkpoint holds: icefall's entries, then ours.

        Args:
            whiten: the ``whiten_state`` of every process, in the order of ranks.
        """
        return {
            "model": self.model.state_dict(),
            "model_avg": self.average,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "grad_scaler": self.precision.scaler.state_dict(),
            "sampler": {"epoch": self.state.cur_epoch, "batches": self.state.batches_done},
            "average_period": self.configs.train.average_period,
            **self.state.state_dict(),
            "whiten": whiten,
            "world_size": self.world.size,
            "max_duration": float(self.configs.data.max_duration),
            "vocab_size": self.tokenizer.vocab_size,
            "blank_id": self.tokenizer.blank_id,
            "tokenizer": torch.frombuffer(bytearray(self.tokenizer.model_bytes), dtype=torch.uint8),
            "configs": self.configs.to_dict(),
            "env_info": environment_report(),
        }

    def save(self, path: Path) -> None:
        """Write a checkpoint: rank 0 does, but all must call it."""
        # Each process has whitening probabilities of its own.
        whiten = all_gather(whiten_state(self.model), self.world)
        if self.world.is_main:
            save_checkpoint(path, self.content(whiten))
            logging.info("saved %s", path)
        self.last_saved = path

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
        if "configs" not in checkpoint:
            raise CheckpointError(
                f"{path} was written by another program, whose optimizer cannot be continued here.",
                "decode.py can use it; to train, choose a checkpoint that train.py wrote.",
            )
        load_model(self.model, checkpoint["model"], path)
        check_continues(checkpoint, self.configs.to_dict(), self.tokenizer, path)
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.scheduler.load_state_dict(checkpoint["scheduler"])
        if self.precision.scaler.is_enabled() and checkpoint.get("grad_scaler"):
            self.precision.scaler.load_state_dict(checkpoint["grad_scaler"])
        if self.average is not None and checkpoint.get("model_avg"):
            self.average = start_average(checkpoint["model_avg"])
        if checkpoint.get("whiten"):
            of_ranks = checkpoint["whiten"]
            load_whiten_state(self.model, of_ranks[self.world.rank % len(of_ranks)])
        self.state = TrainState.from_checkpoint(dict(checkpoint))
        self._fit_position_to_world(checkpoint)

    def _fit_position_to_world(self, checkpoint: Mapping[str, Any]) -> None:
        """Translate the position in the epoch when batches are no longer cut the same way."""
        before = checkpoint.get("world_size", 1) * checkpoint.get("max_duration", 0.0)
        now = self.world.size * float(self.configs.data.max_duration)
        if before and before != now and self.state.batches_done:
            done = round(self.state.batches_done * before / now)
            logging.warning(
                "seconds per step changed from %g to %g: the epoch goes on at batch %d of the new "
                "order, so some utterances of this epoch are seen twice or not at all",
                before,
                now,
                done,
            )
            self.state.batches_done = done


def newest_checkpoint(exp_dir: Path) -> tuple[Path, dict[str, Any]] | None:
    """Find and load the checkpoint with the most batches; damaged files are told and passed over.

    Returns:
        Its path and content, or None when ``exp_dir`` holds no readable checkpoint.
    """
    found: list[tuple[Path, dict[str, Any]]] = []
    for pattern in ("epoch-*.pt", "checkpoint-*.pt"):
        for path in sorted(_numbered(exp_dir.glob(pattern)), key=_number, reverse=True):
            try:
                checkpoint = load_checkpoint(path)
            except CheckpointError as problem:
                logging.warning("%s; the one before it is used instead", problem)
                continue
            if checkpoint.keys() >= {*TRAINING_ENTRIES}:
                found.append((path, checkpoint))
                break
            logging.warning("%s is a model alone, training cannot go on from it", path)
    return max(found, key=lambda item: item[1]["batch_idx_train"], default=None)


def _numbered(paths: Iterable[Path]) -> list[Path]:
    """Leave out what others wrote beside the checkpoints, such as ``epoch-9-avg-3.pt``."""
    return [path for path in paths if NUMBERED.fullmatch(path.name)]


def _number(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])
