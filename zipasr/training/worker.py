"""One training process from start to end: build, resume, walk the epochs."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lhotse import CutSet

from zipasr.audio.sound_profile import write_profile
from zipasr.base.distributed import (
    INTERRUPTED,
    World,
    all_gather,
    barrier,
    broadcast_from_main,
    main_first,
)
from zipasr.base.errors import CheckpointError, ResourceError
from zipasr.base.files import FolderIdentity
from zipasr.base.log import log_untold, setup_logging
from zipasr.base.progress import clock, two_digits
from zipasr.base.seed import fix_seeds
from zipasr.checkpoint.averaging import start_average
from zipasr.checkpoint.checkpoint_file import first_line, load_checkpoint
from zipasr.checkpoint.retention import (
    bytes_of_checkpoint,
    bytes_to_come,
    most_epoch_files,
    thin_epochs,
    warn_of_space,
)
from zipasr.data.cuts import DataIdentity
from zipasr.data.dataset import Batch
from zipasr.data.loaders import EpochPosition, Loader, batching_of, train_loader, valid_loader
from zipasr.data.worker_processes import LoadingStoppedError
from zipasr.model.build import build_model
from zipasr.nn.schedule import set_batch_count
from zipasr.optim.build import build_optimizer, build_schedule, parameter_groups
from zipasr.text.tokenizer import Tokenizer
from zipasr.training.best_epochs import link_best, note_best
from zipasr.training.data_setup import (
    DataSource,
    TrainData,
    check_transcripts,
    load_sets,
    training_sound,
)
from zipasr.training.diagnostics import diagnose
from zipasr.training.epoch_progress import write_scalar, write_scalars
from zipasr.training.epoch_report import Note, Recognise, report_before_training, report_epoch
from zipasr.training.feeding import augments_late, choose_workers
from zipasr.training.finetune import freeze_or_add_adapters, load_initial_weights
from zipasr.training.loop import (
    Stopped,
    StopRequest,
    nothing_to_save_yet,
    save_and_stop,
    train_one_epoch,
    updates_of,
    validation_loss,
)
from zipasr.training.memory import batch_sizes, check_model_fits, rehearse, row_cost
from zipasr.training.metrics import Metrics, MetricWriter, wandb_sender
from zipasr.training.nonfinite_guard import (
    MAX_ROLLBACKS,
    RollBack,
    final_error,
    first_non_finite,
    lower_learning_rate,
    warn_of_non_finite,
)
from zipasr.training.precision import Precision
from zipasr.training.resume_checks import check_same_start
from zipasr.training.session import Session, TrainConfigs, newest_checkpoint
from zipasr.training.state import SamplerState, check_ranks_agree
from zipasr.training.update import try_batch

logger = logging.getLogger(__name__)

# What taking over entries raises that are of another kind than they should be.
BROKEN_STATE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


def run(
    world: World,
    configs: TrainConfigs,
    source: DataSource,
    recognise: Recognise | None = None,
    note: Note | None = None,
) -> None:
    """Train until ``--num-epochs``, from the beginning or from a checkpoint.

    Args:
        world: this process among the others.
        configs: of the run.
        source: where its data are.
        recognise: how to transcribe for the word error rate after each epoch; None leaves it out.
        note: where to write down that it trains, and what a fine-tuning began with.

    Raises:
        SystemExit: status 130 after a signal; the state is saved.
        CheckpointError: the checkpoint to continue from is missing or of another model.
        DataError: features are missing, or no utterance can be trained on.
        NumericError: the loss stays not finite.
        ResourceError: the largest batches do not fit into memory.
    """
    train = configs.train
    with nothing_to_save_yet():
        session, data, epoch = prepare_training(world, configs, source)
        if train.print_diagnostics:
            print_diagnostics(session, data, epoch)
            return
        get_ready(session, data, epoch)
        if note is not None and world.is_main and epoch <= len(train.epochs):
            note({"trained": True})
        report_before_training(session, data.valid, recognise, note)
    try:
        with StopRequest() as stop:
            while epoch <= len(train.epochs):
                try:
                    session.start_epoch(epoch)
                    run_epoch(session, data, stop, recognise)
                    epoch += 1
                except RollBack as request:
                    session, epoch = roll_back(session, request.batch)
    except Stopped:
        logger.info("stopped and saved; the same command continues where it was")
        raise SystemExit(INTERRUPTED) from None
    finally:
        if session.writer is not None:
            session.writer.close()
    log_untold()
    if world.is_main:
        spent = _spent(session.state.seconds_trained, world)
        logger.info("trained %d epochs in %s, see %s", len(train.epochs), spent, train.exp_dir)


def _spent(seconds: float, world: World) -> str:
    """Say how long the training took, and how long all its devices together."""
    if world.size == 1:
        return clock(seconds)
    hours = two_digits(seconds * world.size / 3600)
    return f"{clock(seconds)} ({hours} {world.device_kind}-hours)"


def prepare_training(
    world: World, configs: TrainConfigs, source: DataSource
) -> tuple[Session, TrainData, int]:
    """Open the log, load the data, build the model, take over a checkpoint.

    Returns:
        What trains, what on, and the epoch to start or go on with.
    """
    setup_logging(configs.train.exp_dir / "log" / "log-train", world.rank, world.size)
    # numpy measures the smallest subnormal number when first asked, and warns where it is flushed.
    for kind in (np.float32, np.float64):
        np.finfo(kind)
    torch.set_flush_denormal(True)
    tokenizer = source.tokenizer()
    # What the first process writes beside the manifests, the others only read.
    with main_first(world):
        data = load_sets(source, configs, tokenizer, verbose=world.is_main)
    session = build_session(world, configs, tokenizer, data.train.identity())
    if configs.train.inf_check:
        warn_of_non_finite(session.model)
    epoch = resume(session)
    if session.state.batch_idx_train == 0:
        check_transcripts(data.train, tokenizer, configs.finetune, verbose=world.is_main)
    return session, data, epoch


def get_ready(session: Session, data: TrainData, epoch: int) -> None:
    """Try the largest batches, and open the files that are written to during the training."""
    train = session.configs.train
    if train.rehearse and epoch <= len(train.epochs):
        rehearse(session, batch_sizes(session, data.train.lengths))
    if epoch <= len(train.epochs):
        session.configs = replace(session.configs, data=choose_workers(session, data))
    session.writer = open_writer(session)
    if session.world.is_main:
        session.folder = FolderIdentity(train.exp_dir)
        sound = training_sound(data.train.source.__getitem__, len(data.train))
        if sound is not None:
            write_profile(sound, train.exp_dir)


def print_diagnostics(session: Session, data: TrainData, epoch: int) -> None:
    """Train on some batches and write to the standard output what flows through the model."""
    session.start_epoch(epoch)
    session.scheduler.begin_epoch(epoch, None)
    session.model.train()
    text = diagnose(session, batches_of_epoch(session, data))
    if session.world.is_main:
        sys.stdout.write(text)


def build_session(
    world: World, configs: TrainConfigs, tokenizer: Tokenizer, data: DataIdentity | None = None
) -> Session:
    """Build model, optimizer and schedule, all seeded from ``--seed``.

    Raises:
        ResourceError: the model does not fit into the memory of the device.
    """
    check_model_fits(configs, tokenizer.vocab_size, world.device)
    fix_seeds(configs.train.seed)
    model = build_model(configs.encoder, configs.model, tokenizer.vocab_size).to(world.device)
    broadcast_from_main(model.state_dict().values(), world)
    freeze_or_add_adapters(model, configs.finetune, configs.encoder.adapted_layers)
    groups = parameter_groups(model, configs.eden.base_lr, configs.finetune.freeze or ())
    precision = Precision(configs.train, world.device)
    optimizer = build_optimizer(configs.optimizer, groups, precision.dtype, world)
    copies = configs.train.epochs.copies
    scheduler = build_schedule(optimizer, configs.optimizer, configs.eden, copies)
    every = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    logger.info("%d parameters%s", every, "" if trained == every else f", {trained} are trained")
    average = start_average(model.state_dict())
    session = Session(
        configs=configs,
        world=world,
        tokenizer=tokenizer,
        model=model,
        optimizer=optimizer,
        scheduler=scheduler,
        precision=precision,
        average=average if world.is_main else None,
        writer=None,
        sampler=SamplerState(batching_of(configs.data, world.size), data),
    )
    if configs.train.memory_budget_gb:
        # Of the new model, so that a resumed run counts the same.
        session.row_cost = row_cost(session, configs.data.max_cut_duration)
    session.sampler.layout = session.layout
    return session


def resume(session: Session) -> int:
    """Load the checkpoint that the flags choose, if any; else the model to fine-tune, if any.

    Returns:
        The epoch to go on with.
    """
    found = choose_checkpoint(session.configs)
    check_same_start(found and found[0], session.world)
    if found is None:
        if session.configs.finetune.do_finetune:
            load_initial_weights(session)
        return 1
    return restore(session, *found)


def restore(session: Session, path: Path, checkpoint: dict[str, Any]) -> int:
    """Restore ``session`` and return the epoch to go on with.

    Raises:
        CheckpointError: the checkpoint does not fit, or is not what a checkpoint should be.
    """
    try:
        session.restore(checkpoint, path)
    except torch.OutOfMemoryError:
        raise
    except BROKEN_STATE as problem:
        raise CheckpointError(
            f"{path} holds a state of training that cannot be taken over: {first_line(problem)}.",
            "choose another checkpoint with --start-epoch, or --resume 0 to start anew.",
        ) from problem
    state = session.state
    logger.info(
        "continuing from %s: epoch %d, %d of its batches done, %d in all",
        path,
        state.cur_epoch,
        state.batches_done,
        state.batch_idx_train,
    )
    return state.cur_epoch


def roll_back(failed: Session, batch: Batch) -> tuple[Session, int]:
    """Build everything anew, take over what was saved last, and lower the learning rate.

    Returns:
        The new session, and the epoch to go on with.

    Raises:
        NumericError: the run has gone back often enough.
    """
    rollbacks, skipped = failed.state.rollbacks + 1, failed.state.skipped_steps
    if rollbacks > MAX_ROLLBACKS:
        culprit = first_non_finite(failed.model, lambda: try_batch(failed, batch))
        of_ranks = all_gather(culprit, failed.world)  # the batch of one of them alone may be bad
        raise final_error(failed, next((name for name in of_ranks if name), None))
    session = build_session(failed.world, failed.configs, failed.tokenizer, failed.sampler.data)
    path = failed.last_good
    epoch = resume(session) if path is None else restore(session, path, load_checkpoint(path))
    session.writer, session.state.skipped_steps = failed.writer, skipped
    session.folder, session.last_losses = failed.folder, failed.last_losses
    if session.writer is not None:
        session.writer.go_back(session.state.batch_idx_train)
    lower_learning_rate(session, rollbacks)
    return session, epoch


def choose_checkpoint(configs: TrainConfigs) -> tuple[Path, dict[str, Any]] | None:
    """Follow --start-batch, else --start-epoch, else --resume."""
    train = configs.train
    if train.start_batch > 0:
        path = train.exp_dir / f"checkpoint-{train.start_batch}.pt"
        return path, load_checkpoint(path)
    if train.start_epoch > 1:
        path = train.exp_dir / f"epoch-{train.start_epoch - 1}.pt"
        return path, load_checkpoint(path)
    return newest_checkpoint(train.exp_dir) if train.resume else None


def open_writer(session: Session) -> MetricWriter | None:
    """Open the files of scalars in rank 0; what they hold of later updates is dropped."""
    train = session.configs.train
    if not session.world.is_main:
        return None
    send = None
    if train.wandb:
        send = wandb_sender(train.wandb, train.exp_dir, session.configs.to_dict())
    step = session.state.batch_idx_train
    return MetricWriter(train.exp_dir, step, tensorboard=train.tensorboard, send=send)


def run_epoch(
    session: Session, data: TrainData, stop: StopRequest, recognise: Recognise | None
) -> None:
    """Train the epoch in progress to its end, validate, report, save."""
    configs, state, world = session.configs, session.state, session.world
    epochs = configs.train.epochs
    if world.is_main and epochs.total > len(epochs):
        logger.info("%s", epochs.text(state.cur_epoch))
    # A resumed model needs the schedule values that it had when it was saved.
    set_batch_count(session.model, state.shown_schedule_count)
    session.model.train()
    if session.writer is not None:
        session.writer.epoch = state.cur_epoch
    write_scalar(session, "epoch", state.cur_epoch)
    batches = batches_of_epoch(session, data)
    batches.interrupted = lambda: stop.requested
    check_ranks_agree(world, session.sampler, state.batches_done, batches.plan_digest)
    session.scheduler.begin_epoch(state.cur_epoch, updates_of(session, batches.num_batches))
    check_space(session, batches.num_batches)
    try:
        total = train_one_epoch(
            session, batches, batches.num_batches, stop, lambda: validate(session, data.valid)
        )
    except LoadingStoppedError as waited:
        # The others wait for this one, in the middle of an update: they cannot save together.
        if world.size > 1:
            raise ResourceError(
                f"asked to stop while no data came; saved last: {session.last_saved}.",
                "give the same command: it goes on from there.",
            ) from waited
        save_and_stop(session)
    note_best(session, "train", total.per_frame().get("loss"))
    note_best(session, "valid", validate(session, data.valid).per_frame().get("loss"))
    report_epoch(session, data.valid, recognise)
    save_epoch(session)
    barrier(world)


def save_epoch(session: Session) -> None:
    """Save the epoch that ends, unless ``--save-every-epochs`` passes over it; thin older ones."""
    train, epoch = session.configs.train, session.state.cur_epoch
    if not train.saves_epoch(epoch):
        return
    session.save_or_raise(train.exp_dir / f"epoch-{epoch}.pt")
    if session.world.is_main:
        link_best(session)
        # What a run that loses its way goes back to is older than this one.
        if train.keep_last_epochs and session.state.skipped_in_a_row == 0:
            thin_epochs(train.exp_dir, len(train.epochs), train.keep_last_epochs)


def batches_of_epoch(session: Session, data: TrainData) -> Loader:
    """Return what is left of the epoch in progress, for this process."""
    configs, state = session.configs, session.state
    return train_loader(
        data.train,
        configs.data,
        configs.augment,
        EpochPosition(
            layout=session.sampler.layout,
            seed=configs.train.seed,
            epoch=state.cur_epoch,
            rank=session.world.rank,
            start=state.batches_done,
            legs=session.sampler.legs,
        ),
        doubled=configs.model.use_cr_ctc,
        late=augments_late(session.world.device),
    )


def check_space(session: Session, batches_per_epoch: int | None) -> None:
    """Warn when the checkpoints to come do not fit on the disk."""
    train, state = session.configs.train, session.state
    if not session.world.is_main:
        return
    to_come = train.epoch_files_from(state.cur_epoch)
    epochs = most_epoch_files(to_come, train.keep_last_epochs)
    iterations = train.keep_last_k
    if batches_per_epoch is not None:
        real = train.epochs.ahead(state.cur_epoch - 1) / train.epochs.copies_of(state.cur_epoch)
        total = state.batch_idx_train - state.batches_done + int(real * batches_per_epoch)
        iterations = min(iterations, total // train.save_every_n)
    each = bytes_of_checkpoint(session.model)
    need = bytes_to_come(each, train.exp_dir, iterations=iterations, epochs=epochs)
    warn_of_space(train.exp_dir, need)


def validate(session: Session, cuts: CutSet) -> Metrics:
    """Compute and log the validation loss."""
    world = session.world
    loader = valid_loader(cuts, session.configs.data, world.rank, world.size, world.device)
    metrics = validation_loss(session, loader)
    if world.is_main:
        logger.info(
            "epoch %d, batch %d, validation: %s",
            session.state.cur_epoch,
            session.state.batch_idx_train,
            metrics,
        )
        write_scalars(session, "valid", metrics)
    return metrics
