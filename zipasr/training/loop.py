"""One epoch, batch by batch."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable

from zipasr.base.distributed import barrier
from zipasr.base.progress import Progress, clock
from zipasr.base.seed import fix_seeds
from zipasr.checkpoint.average import update_average
from zipasr.checkpoint.files import remove_old
from zipasr.data.batch import Batch
from zipasr.nn.schedule import set_batch_count
from zipasr.training.guard import NonFiniteGuard
from zipasr.training.interrupt import StopRequest
from zipasr.training.metrics import Metrics
from zipasr.training.session import Session
from zipasr.training.step import compute_loss, loss_scales

DECAY = 1 - 1 / 200  # of the running totals that are shown, per batch
SCHEDULE_INTERVAL = 10  # batches between two updates of the in-model schedules


class Stopped(Exception):  # noqa: N818 - a request, not an error
    """A signal asked to stop; the state is saved."""


def train_one_epoch(
    session: Session,
    batches: Iterable[Batch],
    num_batches: int | None,
    stop: StopRequest,
    validate: Callable[[], None],
) -> Metrics:
    """Train on ``batches``, the rest of the epoch in progress.

    Args:
        session: moved forward in place.
        batches: of this process, from the first one that is not trained yet.
        num_batches: of the whole epoch, for the progress bar; None when unknown.
        stop: asked after every batch.
        validate: called every ``--valid-interval`` batches.

    Returns:
        The decayed sums near the end of the epoch.

    Raises:
        Stopped: after saving, when a signal asked to stop.
        ResourceError: a signal asked to stop, and the state cannot be saved.
        RollBack: too many updates in a row were left out because they were not finite.
    """
    state, config = session.state, session.configs.train
    total = Metrics()
    guard = NonFiniteGuard(session)
    with Progress(
        f"epoch {state.cur_epoch}/{config.num_epochs}",
        num_batches,
        start=state.batches_done,
        visible=session.world.is_main,
    ) as progress:
        for batch in batches:
            begun = time.monotonic()
            metrics = train_one_batch(session, batch)
            guard.check(metrics, batch)
            total.add(metrics, DECAY)
            state.seconds_trained += time.monotonic() - begun
            progress.step(_note(session, total, num_batches, progress.speed()))
            _keep_books(session, metrics, total, len(batch.texts))
            if stop.agreed(session.world):
                session.must_save(config.exp_dir / f"checkpoint-{state.batch_idx_train}.pt")
                barrier(session.world)
                raise Stopped
            if state.batch_idx_train % config.valid_interval == 0:
                validate()
    return total


def train_one_batch(session: Session, batch: Batch) -> Metrics:
    """Forward, backward, update; everything random depends on (seed, epoch, rank, batch) alone."""
    state, configs = session.state, session.configs
    fix_seeds(configs.train.seed, state.cur_epoch, session.world.rank, state.batches_done)
    if state.batches_done % SCHEDULE_INTERVAL == 0:
        state.shown_schedule_count = state.schedule_count
        set_batch_count(session.model, state.shown_schedule_count)
    state.batch_idx_train += 1
    seconds = float(configs.data.max_duration) * session.world.size
    state.schedule_count += seconds / configs.train.ref_duration
    tokens = session.tokenizer.encode(batch.texts)
    scales = loss_scales(configs.loss, configs.model, state.batch_idx_train)
    with session.precision.autocast():
        loss, metrics = compute_loss(
            session.network, batch.to(session.world.device), tokens, scales, configs.transducer
        )
    session.precision.backward(loss)
    session.scheduler.step_batch(state.batch_idx_train)
    for group in session.optimizer.param_groups:
        group["lr"] *= state.lr_factor
    session.precision.step(session.optimizer, state.batches_done)
    session.optimizer.zero_grad()
    state.batches_done += 1
    return metrics


def try_batch(session: Session, batch: Batch) -> None:
    """Compute the gradients of a batch on this process alone, and leave them there."""
    configs, tokens = session.configs, session.tokenizer.encode(batch.texts)
    scales = loss_scales(configs.loss, configs.model, session.state.batch_idx_train)
    session.optimizer.zero_grad()
    with session.precision.autocast():
        moved = batch.to(session.world.device)
        loss, _ = compute_loss(session.model, moved, tokens, scales, configs.transducer)
    loss.backward()  # type: ignore[no-untyped-call]


def _keep_books(session: Session, metrics: Metrics, total: Metrics, utterances: int) -> None:
    """Average, save and log, each at its interval."""
    state, config = session.state, session.configs.train
    done = state.batch_idx_train
    if done % config.average_period == 0:
        state.models_averaged += 1
        if session.average is not None:
            update_average(session.average, session.model, 1 / state.models_averaged)
    if done % config.save_every_n == 0:
        session.save(config.exp_dir / f"checkpoint-{done}.pt")
        if session.world.is_main:
            remove_old(config.exp_dir, config.keep_last_k)
    if done % config.log_interval == 0 and session.world.is_main:
        lr = max(session.scheduler.get_last_lr())
        text = "epoch %d, batch %d, %d utterances, lr %.2e: %s; running: %s"
        logging.info(text, state.cur_epoch, done, utterances, lr, metrics, total)
        session.tell_not_saved()
        write_scalars(session, "current", metrics)
        write_scalars(session, "tot", total)
        if session.writer is not None:
            session.writer.add_scalar("train/learning_rate", lr, done)
            if session.precision.scaler.is_enabled():
                scale = session.precision.scaler.get_scale()
                session.writer.add_scalar("train/grad_scale", scale, done)


def write_scalars(session: Session, kind: str, metrics: Metrics) -> None:
    """Write ``train/{kind}_{loss}`` per frame to TensorBoard, as icefall names them."""
    if session.writer is not None:
        for name, value in metrics.per_frame().items():
            session.writer.add_scalar(f"train/{kind}_{name}", value, session.state.batch_idx_train)


def _note(session: Session, total: Metrics, num_batches: int | None, speed: float) -> str:
    """Return what the progress shows beside the epoch: running loss, and the time the run takes."""
    text = f"loss {total.per_frame().get('loss', math.nan):.3f}"
    if num_batches is None or speed == 0:
        return text
    state, num_epochs = session.state, session.configs.train.num_epochs
    batches = num_batches * (num_epochs - state.cur_epoch + 1) - state.batches_done
    return f"{text}, run {clock(batches / speed)} to go"
