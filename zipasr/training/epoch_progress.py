"""Progress of an epoch: running losses, per corpus too, one line of figures, scalars for curves."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import active_children
from typing import NamedTuple

from zipasr.base.constants import GIB
from zipasr.base.environment import memory_of, peak_and_total
from zipasr.base.errors import DataError
from zipasr.base.progress import LiveLine, clock
from zipasr.data.dataset import Batch
from zipasr.training.metrics import Metrics
from zipasr.training.session import Session
from zipasr.training.update import Gradients, PartLoss

logger = logging.getLogger(__name__)

DECAY = 1 - 1 / 200  # per update
_ALL = ""  # stands for all corpora together


def metric_tag(corpus: str) -> str:
    """Return what a corpus is called in the names of scalars: libri for librispeech."""
    return corpus.removesuffix("speech") or corpus


class Totals:
    """The decayed sums of an epoch, and the sums of its last update.

    The sums of a corpus decay only in the updates that it takes part in.

    Args:
        saved: what ``to_dict`` gave earlier in the epoch.

    Attributes:
        all: of all batches.
        last: of the last update.
        of: corpus -> of its batches; empty where there is only one corpus.
        last_of: the same of the last update, of the corpora in it.
    """

    def __init__(self, saved: Mapping[str, Mapping[str, float]] | None = None) -> None:
        of = {tag: Metrics(**sums) for tag, sums in (saved or {}).items()}
        self.all = of.pop(_ALL, Metrics())
        self.last = Metrics()
        self.of: dict[str, Metrics] = of
        self.last_of: dict[str, Metrics] = {}

    def to_dict(self) -> dict[str, dict[str, float]]:
        """Return plain values, to go on with after a resume."""
        every = {_ALL: self.all, **self.of}
        return {tag: {"frames": one.frames, **one.sums} for tag, one in every.items()}

    def add(self, update: Metrics, parts: Sequence[PartLoss]) -> None:
        """Take note of an update.

        Args:
            update: its sums.
            parts: the batches that it was made of.
        """
        self.last = update
        self.all.add(update, DECAY)
        self.last_of = {}
        for batch, metrics in parts:
            if batch.corpus:
                self.last_of.setdefault(metric_tag(batch.corpus), Metrics()).add(metrics)
        for tag, metrics in self.last_of.items():
            self.of.setdefault(tag, Metrics()).add(metrics, DECAY)

    def scalars(self) -> dict[str, Metrics]:
        """Return the beginnings of the names of scalars, as icefall has them -> sums."""
        found = {"current": self.last, "tot": self.all}
        found |= {f"current_{tag}": metrics for tag, metrics in self.last_of.items()}
        return found | {f"{tag}_tot": metrics for tag, metrics in self.of.items()}

    def __str__(self) -> str:
        each = "".join(f"; {tag}: {metrics}" for tag, metrics in sorted(self.of.items()))
        return f"{self._parts()}{each}"

    def _parts(self) -> str:
        """Return the losses that the loss is made of, each with its mean."""
        last, means = self.last.per_frame(), self.all.per_frame()
        whole = last.pop("loss", math.nan)
        if [*last.values()] == [whole]:
            return f"{next(iter(last))} alone"
        return ", ".join(
            f"{name} {value:.3g} (avg {means.get(name, math.nan):.3g})"
            for name, value in last.items()
        )


#: Share of the utterances that training goes on without when they cannot be read; so are ten.
MOST_UNREADABLE = 0.01
TOLERATED = 10
#: Share of the time that is waited for data, above which loading is said to be the brake.
SLOW_LOADING = 0.1


class LineField(NamedTuple):
    """A part of the progress line; a narrow terminal drops those of the highest rank first."""

    rank: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressLine:
    """ProgressLine of the progress line at one moment.

    Attributes:
        epoch: in progress, from 1.
        num_epochs: the last one.
        batch: updates of the epoch that are done.
        num_batches: of the epoch; ``None`` when unknown, then no time to go is known either.
        loss: per frame, of the last update.
        running_loss: smoothed.
        learning_rate: the highest of all parameters.
        grad_norm: of the last update, each gradient weighted with the size of its parameter.
        audio_per_second: seconds of speech that all processes train on in a second.
        loading: share of the time in which the model waits for data.
        memory: bytes at most so far, bytes in all.
        notes: counts of what should not happen, such as ``("skipped", 2)``; zeros are not shown.
        epoch_seconds: until the end of the epoch.
        run_seconds: until the end of the run.
    """

    epoch: int
    num_epochs: int
    batch: int
    num_batches: int | None
    loss: float
    running_loss: float
    learning_rate: float
    grad_norm: float
    audio_per_second: float
    loading: float
    memory: tuple[int, int]
    notes: tuple[tuple[str, int], ...] = ()
    epoch_seconds: float | None = None
    run_seconds: float | None = None

    def fields(self) -> list[LineField]:
        """Return the parts of the line in their order."""
        used, total = (count / GIB for count in self.memory)
        found = [
            LineField(0, f"epoch {self.epoch}/{self.num_epochs}"),
            LineField(0, f"batch {self.batch}/{self.num_batches or '?'}"),
            LineField(0, f"loss {self.loss:.3g} (avg {self.running_loss:.3g})"),
            LineField(4, f"lr {self.learning_rate:.2e}"),
            LineField(5, f"|g| {self.grad_norm:.2g}"),
            LineField(3, f"{self.audio_per_second:.0f} s-audio/s"),
            self._load(),
            LineField(7, f"mem {used:.1f}/{total:.1f}G"),
        ]
        found += [LineField(1, f"{name} {count}") for name, count in self.notes if count]
        if self.epoch_seconds is not None and self.run_seconds is not None:
            times = f"eta epoch {clock(self.epoch_seconds)} run {clock(self.run_seconds)}"
            found.append(LineField(2, times))
        return found

    def _load(self) -> LineField:
        share = f"load {100 * self.loading:.0f}%"
        if self.loading <= SLOW_LOADING:
            return LineField(6, share)
        return LineField(1, f"{share}, the brake")

    def line(self, width: int | None = None) -> str:
        """Return the line; in ``width`` characters at most, if given."""
        return fit_width(self.fields(), width)


def fit_width(fields: Sequence[LineField], width: int | None) -> str:
    """Join the fields, leaving out the least important ones until they fit into ``width``."""
    kept = list(fields)
    while True:
        text = "  ".join(field.text for field in kept)
        if width is None or len(text) <= width:
            return text
        least = max(kept)
        if least.rank == 0:
            return text[:width]
        kept.remove(least)


PACE_DECAY = 1 - 1 / 50  # of the times of which the speed is a mean
SECONDS_BETWEEN_LINES = 60.0  # of slow updates, so that a log does not fall silent


class EpochProgress:
    """Progress of an epoch: shown on the terminal, logged, and written as metrics.

    On a terminal a line is renewed at most twice a second. In the log there is a plain line every
    ``--log-interval`` updates, or every minute; the scalars are written at the interval.

    Args:
        session: of this process; only rank 0 tells.
        num_updates: of the whole epoch; None when unknown.
        start: updates of the epoch that were done before.

    Attributes:
        totals: the decayed sums near the present update.
    """

    def __init__(self, session: Session, num_updates: int | None, start: int) -> None:
        self.totals = Totals(session.state.epoch_totals)
        self._session, self._num_updates, self._done = session, num_updates, start
        self._waited = self._worked = self._audio = self._updates = 0.0
        self._unreadable = self._utterances = 0
        self._mark = self._last_line = time.monotonic()
        self._live = LiveLine(visible=session.world.is_main)

    def __enter__(self) -> EpochProgress:
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.__exit__(*error)

    def loading(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield ``batches`` and note how long each was waited for.

        Raises:
            DataError: more than 1 % of the utterances, and more than ten, cannot be read.
        """
        waiting = iter(batches)
        while True:
            begun = time.monotonic()
            batch = next(waiting, None)
            self._mark = time.monotonic()
            self._waited += self._mark - begun
            if batch is None:
                return
            self._note_unreadable(batch)
            yield batch

    def _note_unreadable(self, batch: Batch) -> None:
        lost, session = batch.dropped, self._session
        self._utterances += len(batch) + len(lost)
        if not lost:
            return
        self._unreadable += len(lost)
        path = session.configs.train.exp_dir / f"unreadable-{session.world.rank}.txt"
        with path.open("a", encoding="utf-8") as file:
            file.writelines(f"{name}\n" for name in lost)
        if self._unreadable > max(MOST_UNREADABLE * self._utterances, TOLERATED):
            raise DataError(
                f"{self._unreadable} of {self._utterances} utterances of this epoch cannot be read,"
                f" such as {', '.join(lost[:5])}; {path} lists them, the log has reasons.",
                "./prepare.sh --stage 4 --force finds damaged sound and features, and says what to "
                "do about them.",
            )

    def update(self, gradients: Gradients) -> None:
        """Take note of an update."""
        now = time.monotonic()
        metrics = gradients.metrics
        self.totals.add(metrics, gradients.parts)
        self._session.state.epoch_totals = self.totals.to_dict()
        self._done += 1
        world, config = self._session.world, self._session.configs.train
        geometry = self._session.configs.encoder.geometry
        seconds = metrics.frames * geometry.seconds_per_frame * world.size
        self._worked += now - self._mark
        self._audio += seconds
        self._updates += 1
        if world.is_main:
            self._live.show(lambda width: self.figures().line(width))
            is_due = self._session.state.batch_idx_train % config.log_interval == 0
            if is_due or now - self._last_line >= SECONDS_BETWEEN_LINES:
                self._last_line = now
                self._log(sum(len(part.batch) for part in gradients.parts))
            if is_due:
                self._write_scalars()
        self._age()

    def figures(self) -> ProgressLine:
        """Return what the line shows."""
        session, state = self._session, self._session.state
        time_taken = self._waited + self._worked
        per_update = time_taken / max(self._updates, 1e-9)
        epoch = run = None
        if self._num_updates is not None:
            left = self._num_updates - self._done
            epochs = session.configs.train.epochs
            # An epoch of twice as many copies has about twice as many updates.
            later = epochs.ahead(state.cur_epoch) / epochs.copies_of(state.cur_epoch)
            epoch = left * per_update
            run = epoch + later * self._num_updates * per_update
        return ProgressLine(
            epoch=state.cur_epoch,
            num_epochs=len(session.configs.train.epochs),
            batch=self._done,
            num_batches=self._num_updates,
            loss=self.totals.last.per_frame().get("loss", math.nan),
            running_loss=self.totals.all.per_frame().get("loss", math.nan),
            learning_rate=learning_rate(session),
            grad_norm=session.optimizer.grad_norm,
            audio_per_second=self._audio / max(time_taken, 1e-9),
            loading=self._waited / max(time_taken, 1e-9),
            memory=peak_and_total(session.world.device),
            notes=(
                ("skipped", state.skipped_steps),
                ("split", state.memory_splits),
                ("unreadable", self._unreadable),
            ),
            epoch_seconds=epoch,
            run_seconds=run,
        )

    def _log(self, utterances: int) -> None:
        line = self.figures().line()
        logger.info("%s; %d utterances: %s", line, utterances, self.totals)
        self._session.log_unsaved()

    def _write_scalars(self) -> None:
        session, figures = self._session, self.figures()
        for kind, metrics in self.totals.scalars().items():
            write_scalars(session, kind, metrics)
        write_scalar(session, "learning_rate", figures.learning_rate)
        write_scalar(session, "grad_norm", figures.grad_norm)
        write_scalar(session, "audio_per_second", figures.audio_per_second)
        write_scalar(session, "loader_share", figures.loading)
        write_scalar(session, "memory_gib", figures.memory[0] / GIB)
        write_scalar(session, "host_gib", memory_of(["self"]) / GIB)
        # The only processes that a training process starts load data; at the end they are gone.
        if loading := memory_of(child.pid or 0 for child in active_children()):
            write_scalar(session, "loading_gib", loading / GIB)
        if session.precision.scaler.is_enabled():
            write_scalar(session, "grad_scale", session.precision.scaler.get_scale())

    def _age(self) -> None:
        self._waited *= PACE_DECAY
        self._worked *= PACE_DECAY
        self._audio *= PACE_DECAY
        self._updates *= PACE_DECAY


def learning_rate(session: Session) -> float:
    """Return the highest rate of all parameters."""
    return float(max(group["lr"] for group in session.optimizer.param_groups))


def write_scalars(session: Session, kind: str, metrics: Metrics) -> None:
    """Write ``train/{kind}_{loss}`` per frame, as icefall names them."""
    for name, value in metrics.per_frame().items():
        write_scalar(session, f"{kind}_{name}", value)


def write_scalar(session: Session, name: str, value: float) -> None:
    """Write ``train/{name}`` at the present update, where scalars are written."""
    if session.writer is not None:
        session.writer.add_scalar(f"train/{name}", value, session.state.batch_idx_train)
