"""Training loop of one epoch, validation loss, and the request to stop."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from types import FrameType
from typing import NamedTuple, NoReturn

import torch

from zipasr.base.distributed import World, all_reduce_sum, barrier
from zipasr.base.environment import return_free_memory
from zipasr.base.errors import NumericError
from zipasr.base.seed import seeded
from zipasr.checkpoint.averaging import update_average
from zipasr.checkpoint.retention import remove_old
from zipasr.data.dataset import Batch
from zipasr.nn.schedule import set_batch_count, set_loss_scale
from zipasr.training.epoch_progress import EpochProgress
from zipasr.training.feeding import copied_ahead
from zipasr.training.metrics import Metrics
from zipasr.training.nonfinite_guard import NonFiniteGuard, RollBack, save_bad_model
from zipasr.training.session import Session
from zipasr.training.state import count_splits
from zipasr.training.update import (
    LOSS_NAMES,
    Gradients,
    compute_gradients,
    compute_loss,
    loss_scales,
)

logger = logging.getLogger(__name__)

#: Signals that end a run after it was saved: from the keyboard, from ``kill``, from a terminal that
#: is closed.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
#: Signal after which a run is saved and goes on; schedulers send it some time before the end.
SAVE_SIGNAL = signal.SIGUSR1


class StopRequest:
    """Remember, inside a ``with`` block, that a signal asked to stop or to save.

    A signal that is ignored, as ``nohup`` has SIGHUP ignored, stays so.

    Attributes:
        requested: to stop.
        save_requested: to save and go on.
    """

    def __init__(self) -> None:
        self.requested = False
        self.save_requested = False

    def __enter__(self) -> StopRequest:
        self._previous = {
            number: signal.signal(number, self._note)
            for number in (*STOP_SIGNALS, SAVE_SIGNAL)
            if signal.getsignal(number) != signal.SIG_IGN
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == SAVE_SIGNAL:
            self.save_requested = True
            return
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True

    def agreed(self, world: World) -> Asked:
        """Say what any process was asked to do; all processes get the same answer.

        The signal may arrive between two different batches in two processes, so they ask each other
        after every batch. A request to save is forgotten with the answer.
        """
        stop, save = self.requested, self.save_requested
        if world.size > 1:
            asked = torch.tensor([float(stop), float(save)], device=world.device)
            stop, save = (count > 0 for count in all_reduce_sum(asked, world).tolist())
        if save:
            self.save_requested = False
        return Asked(stop, save)


@contextmanager
def nothing_to_save_yet() -> Iterator[None]:
    """Take no notice of a request to save: the signal would end the process."""
    before = signal.signal(SAVE_SIGNAL, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(SAVE_SIGNAL, before)


class Asked(NamedTuple):
    """What signals asked for: to stop, to save."""

    stop: bool
    save: bool


SCHEDULE_INTERVAL = 10  # updates between two updates of the in-model schedules


class Stopped(Exception):  # noqa: N818 - a request, not an error
    """A signal asked to stop; the state is saved."""


def train_one_epoch(
    session: Session,
    batches: Iterable[Batch],
    num_batches: int | None,
    stop: StopRequest,
    validate: Callable[[], object],
) -> Metrics:
    """Train on ``batches``, the rest of the epoch in progress.

    Everything random depends on (seed, epoch, rank, batch) alone.

    Args:
        session: moved forward in place.
        batches: of this process, from the first one that is not trained yet.
        num_batches: of the whole epoch, for the progress line; None when unknown.
        stop: asked after every update.
        validate: called every ``--valid-interval`` updates.

    Returns:
        The decayed sums near the end of the epoch.

    Raises:
        Stopped: after saving, when a signal asked to stop.
        RollBack: too many updates were left out because they were not finite.
        ResourceError: an utterance alone does not fit into memory; or a signal asked to stop, and
            the state cannot be saved.
    """
    state, config = session.state, session.configs.train
    num_updates = updates_of(session, num_batches)
    guard = NonFiniteGuard(session)
    with EpochProgress(session, num_updates, start=updates_in_epoch(session)) as watch:
        ahead = copied_ahead(batches, session.world.device)
        for group in grouped(watch.loading(ahead), config.accumulate):
            begun = time.monotonic()
            begin_update(session, group)
            gradients = compute_gradients(session, group)
            apply_gradients(session, gradients, group)
            guard.check(gradients)
            state.seconds_trained += time.monotonic() - begun
            session.check_folder()
            watch.update(gradients)
            _average_and_save(session)
            if state.batch_idx_train % config.log_interval == 0:
                return_free_memory()
            asked = stop.agreed(session.world)
            if asked.stop:
                save_and_stop(session)
            if asked.save:
                session.save(config.exp_dir / f"checkpoint-{state.batch_idx_train}.pt")
            if state.batch_idx_train % config.valid_interval == 0:
                validate()
    guard.close()
    return watch.totals.all


def save_and_stop(session: Session) -> NoReturn:
    """Write a checkpoint of the present state; all processes must call it.

    Raises:
        Stopped: it is saved.
        ResourceError: it cannot be.
    """
    state = session.state
    session.save_or_raise(session.configs.train.exp_dir / f"checkpoint-{state.batch_idx_train}.pt")
    barrier(session.world)
    raise Stopped


def begin_update(session: Session, batches: Sequence[Batch]) -> None:
    """Count ``batches`` as one update, to all counters one large batch; set the schedules."""
    state, configs = session.state, session.configs
    if updates_in_epoch(session) % SCHEDULE_INTERVAL == 0:
        state.shown_schedule_count = schedule_count(session)
        set_batch_count(session.model, state.shown_schedule_count)
    if session.precision.scaler.is_enabled():
        set_loss_scale(session.model, session.precision.scaler.get_scale())
    state.batch_idx_train += 1
    state.schedule_count += counted_seconds(session, batches) / configs.train.ref_duration


def apply_gradients(session: Session, gradients: Gradients, batches: Sequence[Batch]) -> None:
    """Move the parameters; gradients that are not finite in any process are left out in all.

    Raises:
        RollBack: the gradient scale of float16 is too small to go on.
    """
    state = session.state
    count_splits(state, gradients.splits)
    session.scheduler.begin_update(updates_in_epoch(session), state.batch_idx_train)
    for group in session.optimizer.param_groups:
        group["lr"] *= state.lr_factor
    if gradients.not_finite == 0:
        try:
            session.precision.step(session.optimizer, updates_in_epoch(session))
        except NumericError as problem:
            logger.warning("%s", problem)
            save_bad_model(session, "bad-model")
            raise RollBack(batches[0]) from problem
    session.optimizer.zero_grad()
    state.batches_done += len(batches)


def schedule_count(session: Session) -> float:
    """Return how far the schedules in the model are, in updates or in seconds of speech."""
    state, clock = session.state, session.configs.encoder.schedule_clock
    counted = state.batch_idx_train if clock == "updates" else state.schedule_count
    return state.schedule_start + counted


def counted_seconds(session: Session, batches: Sequence[Batch]) -> float:
    """Return the seconds of audio that one update counts as in the schedules inside the model.

    As in icefall, every batch of every process counts as --max-duration seconds, however full it
    is. Under --memory-budget-gb, which makes batches smaller than that, their real length counts.
    """
    if session.row_cost is not None:
        return sum(batch.step_seconds for batch in batches)
    return len(batches) * session.max_duration * session.world.size


def updates_in_epoch(session: Session) -> int:
    """Return how many updates of the epoch in progress are done."""
    return math.ceil(session.state.batches_done / session.configs.train.accumulate)


def updates_of(session: Session, num_batches: int | None) -> int | None:
    """Return how many updates are made of so many batches; None when unknown."""
    if num_batches is None:
        return None
    return math.ceil(num_batches / session.configs.train.accumulate)


def grouped(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Put ``size`` batches together; the last group of an epoch may have fewer."""
    waiting = iter(batches)
    while group := list(islice(waiting, size)):
        yield group


def _average_and_save(session: Session) -> None:
    """Average and save, each at its interval of updates."""
    state, config = session.state, session.configs.train
    done = state.batch_idx_train
    if done % config.average_period == 0:
        state.models_averaged += 1
        if session.average is not None:
            update_average(session.average, session.model, 1 / state.models_averaged)
    # Not between updates that are left out: that would not be a good state to go back to.
    if done % config.save_every_n == 0 and state.skipped_in_a_row == 0:
        session.save(config.exp_dir / f"checkpoint-{done}.pt")
        if session.world.is_main:
            remove_old(config.exp_dir, config.keep_last_k)


NAMES = ["loss", *LOSS_NAMES]


def validation_loss(session: Session, loader: Iterable[Batch]) -> Metrics:
    """Sum the losses of all batches over all processes, in eval mode and float32.

    The weights are those of the current training batch, so values before and after the warm-up do
    not compare; the unscaled parts do. There is one view of each utterance, so consistency has no
    value here.
    """
    configs, total = session.configs, Metrics()
    scales = loss_scales(
        configs.loss, configs.model, session.state.batch_idx_train, configs.encoder.losses
    )
    session.model.eval()
    # A causal model draws chunks here as well: the same ones in every validation.
    with torch.no_grad(), seeded(configs.train.seed, session.world.rank):
        for batch in copied_ahead(loader, session.world.device):
            tokens = session.tokenizer.encode(batch.texts)
            # The bare model: processes may have different numbers of batches here.
            _, metrics = compute_loss(
                session.model, batch, tokens, scales, configs.transducer, configs.encoder.geometry
            )
            total.add(metrics)
    session.model.train()
    sums = all_reduce_sum(total.as_tensor(NAMES, session.world.device), session.world)
    merged = Metrics.from_tensor(sums, NAMES)
    merged.sums = {name: value for name, value in merged.sums.items() if name in total.sums}
    return merged
