"""Time of updates and validations, measured on noise in as many processes as a run has."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue

import torch

from zipasr.base.distributed import World, barrier, launch
from zipasr.text.tokenizer import Tokenizer
from zipasr.training.feeding import TOKENS_PER_SECOND, UTTERANCE_SECONDS, seconds_of, trial_seconds
from zipasr.training.memory import Noise, Size, final_loss_scales, noise_batch
from zipasr.training.session import Session, TrainConfigs
from zipasr.training.update import weighted_loss
from zipasr.training.worker import build_session

#: Of the batches of an epoch, ordered by length: the middles of three thirds.
TYPICAL = (1 / 6, 1 / 2, 5 / 6)
#: Updates of each typical batch that are timed.
ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Pace:
    """Time that a process needs for a second of speech while all processes of a run work.

    Attributes:
        update: seconds for forward, backward, reduction of gradients and optimizer.
        validation: seconds for the forward pass alone.
        start: seconds until the processes were ready.
    """

    update: float
    validation: float
    start: float


def measured_pace(
    configs: TrainConfigs, tokenizer: Tokenizer, sizes: Sequence[Size], processes: int
) -> Pace:
    """Train for some updates on noise, in processes of their own where there are several.

    Args:
        configs: of the run.
        tokenizer: of the run.
        sizes: of the batches of an epoch; those that are timed are as long.
        processes: of the run on this machine.

    Raises:
        UserError: as a training does.
    """
    measured: SimpleQueue[tuple[float, float, float]] = get_context("spawn").SimpleQueue()
    begun = time.monotonic()
    launch(_measure, processes, configs.train.master_port, configs, tokenizer, sizes, measured)
    waited = time.monotonic() - begun
    update, validation, busy = measured.get()
    return Pace(update, validation, max(0.0, waited - busy))


def typical_sizes(sizes: Sequence[Size], most_seconds: float) -> list[Size]:
    """Return a short, a usual and a long batch, with fewer rows where they are too large.

    Args:
        sizes: of the batches of an epoch; UTTERANCE_SECONDS long if there is none.
        most_seconds: of speech in a batch, unless a single utterance is longer.
    """
    usual = Size(1, UTTERANCE_SECONDS, int(TOKENS_PER_SECOND * UTTERANCE_SECONDS))
    ordered = sorted(sizes, key=lambda size: size.seconds) or [usual]
    chosen = [ordered[int(place * len(ordered))] for place in TYPICAL]
    return [
        size._replace(rows=max(1, min(size.rows, int(most_seconds / size.seconds))))
        for size in chosen
    ]


def _measure(
    world: World,
    configs: TrainConfigs,
    tokenizer: Tokenizer,
    sizes: Sequence[Size],
    measured: SimpleQueue[tuple[float, float, float]],
) -> None:
    """Hand over the times of a second of speech, in updates and in validation, and of all this."""
    session = build_session(world, configs, tokenizer)
    barrier(world)
    begun = time.monotonic()
    batches = [noise_batch(session, size) for size in typical_sizes(sizes, trial_seconds(session))]
    speech = sum(noise.batch.seconds for noise in batches)
    session.model.train()
    _update(session, batches[1])  # what is compiled or cached at first does not count
    update = seconds_of(_update, session, batches * ROUNDS) / (ROUNDS * speech)
    session.model.eval()
    _validate(session, batches[1])
    validation = seconds_of(_validate, session, batches) / speech
    if world.is_main:
        measured.put((update, validation, time.monotonic() - begun))


def _update(session: Session, noise: Noise) -> None:
    loss, _ = weighted_loss(session, *noise, final_loss_scales(session))
    with session.reducer.last_backward():
        session.precision.backward(loss)
    session.reducer.finish()
    session.precision.measure(session.optimizer)
    session.precision.step(session.optimizer, 0)
    session.optimizer.zero_grad()


def _validate(session: Session, noise: Noise) -> None:
    with torch.no_grad():
        weighted_loss(session, *noise, final_loss_scales(session))
