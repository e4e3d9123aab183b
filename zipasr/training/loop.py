"""One epoch, batch by batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from zipasr.base.distributed import barrier
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
from zipasr.training.watch import Watch

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
        num_batches: of the whole epoch, for the progress line; None when unknown.
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
    guard = NonFiniteGuard(session)
    with Watch(session, num_batches, start=state.batches_done) as watch:
        for batch in watch.loading(batches):
            begun = time.monotonic()
            metrics = train_one_batch(session, batch)
            guard.check(metrics, batch)
            state.seconds_trained += time.monotonic() - begun
            watch.update(metrics, len(batch))
            _keep_books(session)
            if stop.agreed(session.world):
                session.must_save(config.exp_dir / f"checkpoint-{state.batch_idx_train}.pt")
                barrier(session.world)
                raise Stopped
            if state.batch_idx_train % config.valid_interval == 0:
                validate()
    return watch.total


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


def _keep_books(session: Session) -> None:
    """Average and save, each at its interval."""
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
