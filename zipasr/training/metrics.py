"""Metrics of a training: sums over batches, what they are per frame, and their writer."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from zipasr.base.errors import UserError
from zipasr.base.files import write_text
from zipasr.nn.numerics import OnItsWay


class Metrics:
    """Named sums with a count of frames; ``per_frame`` divides.

    Frames are feature frames divided by the subsampling factor 4, as in icefall's logs.
    """

    def __init__(self, frames: float = 0.0, **sums: float) -> None:
        self.frames = frames
        self._sums = dict(sums)
        self._coming: OnItsWay | None = None

    @classmethod
    def of_losses(cls, frames: float, losses: Mapping[str, Tensor]) -> Metrics:
        """Return metrics of scalars that may be on a device: who looks at the sums waits for it."""
        metrics = cls(frames, **dict.fromkeys(losses, math.nan))
        metrics._coming = OnItsWay(torch.stack([loss.detach() for loss in losses.values()]))
        return metrics

    @property
    def sums(self) -> dict[str, float]:
        """Value of each sum by name."""
        if self._coming is not None:
            values = self._coming.arrived().tolist()
            self._sums, self._coming = dict(zip(self._sums, values, strict=True)), None
        return self._sums

    @sums.setter
    def sums(self, values: dict[str, float]) -> None:
        self._sums, self._coming = values, None

    def add(self, other: Metrics, decay: float = 1.0) -> None:
        """Multiply by ``decay``, then add ``other``; its sums that are not finite are left out."""
        self.frames = self.frames * decay + other.frames
        for name in self.sums.keys() | other.sums.keys():
            new = other.sums.get(name, 0.0)
            self.sums[name] = self.sums.get(name, 0.0) * decay + (new if math.isfinite(new) else 0)

    def per_frame(self) -> dict[str, float]:
        """Return each sum divided by the frames; empty before the first frame."""
        if self.frames == 0:
            return {}
        return {name: value / self.frames for name, value in sorted(self.sums.items())}

    def as_tensor(self, names: list[str], device: torch.device) -> Tensor:
        """Return (1 + len(names),) float64: the frames, then the sums in the order of ``names``."""
        values = [self.frames, *(self.sums.get(name, 0.0) for name in names)]
        return torch.tensor(values, dtype=torch.float64, device=device)

    @classmethod
    def from_tensor(cls, values: Tensor, names: list[str]) -> Metrics:
        """Undo ``as_tensor``."""
        frames, *sums = values.tolist()
        return cls(frames, **dict(zip(names, sums, strict=True)))

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:.4g}" for name, value in self.per_frame().items())


logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"
VALID = "valid_"  # begins the names of what was measured on the dev set

Record = dict[str, Any]


Send = Callable[[dict[str, float]], None]


class MetricWriter:
    """Write scalars of a run to ``metrics.jsonl`` and, if wanted, to TensorBoard.

    A line of the file is a record: ``step``, ``epoch``, ``time`` (seconds since 1970), ``name``,
    ``value`` (null when not finite) and ``split``, train or valid. It is written in one piece, so
    that whoever reads the file finds whole lines.

    Args:
        exp_dir: folder of the run.
        step: updates that are done; records of later ones are of a run that did not come to be,
            and are removed.
        tensorboard: write to ``exp_dir/tensorboard`` as well.
        send: takes the scalars of an update as well: values by tag, and ``update``, its number.

    Attributes:
        epoch: in progress; stands in the records.
    """

    def __init__(
        self, exp_dir: Path, step: int, *, tensorboard: bool, send: Send | None = None
    ) -> None:
        self._send = send
        self.epoch = 1
        self._path = exp_dir / METRICS_FILE
        self._folder = exp_dir / "tensorboard" if tensorboard else None
        self._events: SummaryWriter | None = None
        self.go_back(step)

    def go_back(self, step: int) -> None:
        """Forget what was written of updates after ``step``."""
        truncate_after(self._path, step)
        self.close()
        if self._folder is not None:
            self._events = SummaryWriter(str(self._folder), purge_step=step + 1)

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """Write ``value`` of update ``step``; ``tag`` is TensorBoard's, ``train/...``."""
        with self._patience():
            if self._events is not None:
                self._events.add_scalar(tag, value, step)
        if self._send is not None:
            self._send({tag: value, "update": step})
        name = tag.removeprefix("train/")
        record = {
            "step": step,
            "epoch": self.epoch,
            "time": round(time.time(), 3),
            "name": name.removeprefix(VALID),
            "value": value if math.isfinite(value) else None,
            "split": "valid" if name.startswith(VALID) else "train",
        }
        try:
            append_line(self._path, json.dumps(record))
        except OSError as problem:  # a full disk; the curves miss a point, the training goes on
            logger.warning("%s is not written: %s", self._path, problem.strerror)

    def close(self) -> None:
        """Write out what TensorBoard holds back, if its folder is still there."""
        if self._folder is not None and not self._folder.is_dir():
            # Its thread would say so at length, and closing it would wait for the thread.
            self._events = None
        with self._patience():
            if self._events is not None:
                self._events.close()

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """Do without TensorBoard once it could not write: its writer does not recover."""
        try:
            yield
        except OSError as problem:
            # It is not closed, either: that would wait for a thread that is dead.
            self._events = None
            logger.warning("TensorBoard stops at %s: %s", self._folder, problem.strerror)


def wandb_sender(project: str, exp_dir: Path, config: Mapping[str, Any]) -> Send:
    """Begin or go on with a run of Weights & Biases; return what sends scalars to it.

    It is named after ``exp_dir``, whose file ``wandb/run-id`` says which one to go on with.

    Args:
        project: at Weights & Biases, that the run belongs to.
        exp_dir: folder of the run.
        config: settings to show beside it.

    Raises:
        UserError: the package is missing, or the service refuses the run.
    """
    try:
        import wandb
    except ImportError as problem:
        raise UserError("--wandb needs the package wandb.", "pip install wandb") from problem
    folder = exp_dir / "wandb"
    folder.mkdir(parents=True, exist_ok=True)
    known = folder / "run-id"
    run_id = known.read_text(encoding="ascii").strip() if known.is_file() else uuid.uuid4().hex[:12]
    try:
        run = wandb.init(
            project=project, name=exp_dir.name, id=run_id, resume="allow", dir=exp_dir,
            config=dict(config),
        )  # fmt: skip
    except wandb.errors.Error as problem:
        raise UserError(
            f"--wandb {project}: {problem}", "wandb login, or WANDB_MODE=offline to send it later."
        ) from problem
    write_text(known, run_id)
    # Updates come again after a run has gone back; wandb's own count of steps may not.
    run.define_metric("*", step_metric="update")
    send: Send = run.log
    return send


def append_line(path: Path, text: str) -> None:
    """Add a line to a file, as a whole or not at all."""
    line = f"{text}\n".encode()
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(file).st_size
        if os.write(file, line) < len(line):
            os.ftruncate(file, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(file)


def truncate_after(path: Path, step: int) -> None:
    """Remove the records of updates after ``step``, and what is no record."""
    if not path.is_file():
        return
    kept = "".join(
        json.dumps(record) + "\n" for record in read_metrics(path) if record["step"] <= step
    )
    if kept.encode() != path.read_bytes():
        write_text(path, kept)


def read_metrics(path: Path) -> Iterator[Record]:
    """Yield the records of a file; a line that is no record, such as a half one, is left out."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and "step" in record:
                yield record


def metric_series(path: Path, name: str, split: str = "train") -> tuple[list[int], list[float]]:
    """Return steps and values of one curve, without the values that are not finite."""
    if not path.is_file():
        return [], []
    found = [
        (record["step"], record["value"])
        for record in read_metrics(path)
        if record["name"] == name and record["split"] == split and record["value"] is not None
    ]
    return [step for step, _ in found], [value for _, value in found]
