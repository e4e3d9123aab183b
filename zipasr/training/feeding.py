"""Batches on their way to a device, and whether loading keeps up with what trains on them."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import torch

from zipasr.base.distributed import all_gather
from zipasr.base.seed import seeded
from zipasr.data.config import MEASURED_WORKERS, DataConfig
from zipasr.data.dataset import Batch
from zipasr.data.loaders import EpochPosition, train_loader
from zipasr.training.data_setup import TrainData
from zipasr.training.memory import Noise, Size, final_loss_scales, noise_batch
from zipasr.training.session import Session
from zipasr.training.update import weighted_loss

logger = logging.getLogger(__name__)

UTTERANCE_SECONDS = 10.0
TOKENS_PER_SECOND = 3
#: Of noise in the batch that a device is timed with: on a GPU as much as keeps it busy.
TRIAL_SECONDS = {"cpu": 40.0, "cuda": 400.0}
#: Loaders are to give more than is taken: batches differ, and other programs want cores too.
MARGIN = 1.3


class _Copied(NamedTuple):
    batch: Batch
    arrived: torch.cuda.Event


def copied_ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield batches on a GPU; each is copied there while the one before is computed.

    For a CPU there is nothing to copy, and batches are handed on as they come.
    """
    if device.type != "cuda":
        yield from batches
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    current = torch.cuda.current_stream(device)
    waiting: _Copied | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            following = _Copied(batch.to(device), stream.record_event())
        if waiting is not None:
            yield _usable(waiting, current)
        waiting = following
    if waiting is not None:
        yield _usable(waiting, current)


def _usable(copied: _Copied, stream: torch.cuda.Stream) -> Batch:
    """Let a stream wait for a copy, and the memory of the copy for the stream."""
    stream.wait_event(copied.arrived)
    for tensor in (copied.batch.features, copied.batch.second_view):
        if tensor is not None:
            tensor.record_stream(stream)
    return copied.batch


@dataclass(frozen=True, slots=True)
class Feed:
    """What a device takes and what loading gives, in seconds of speech a second.

    Attributes:
        taken: by the device of a process.
        given: by one loading process.
        cores: of this machine, for the loading processes of one device.
    """

    taken: float
    given: float
    cores: int

    @property
    def needed(self) -> int:
        """Loading processes that one device needs."""
        return math.ceil(MARGIN * self.taken / self.given)

    @property
    def workers(self) -> int:
        """Loading processes that one device gets."""
        return max(1, min(self.needed, self.cores))

    def text(self, device: str) -> str:
        """Say whether the cores can feed a device, which is called so."""
        keeps_up = f"--num-workers {self.needed}"
        if self.needed > self.cores:
            share = self.cores * self.given / self.taken
            keeps_up = f"{self.needed} are needed, and {self.cores} cores feed {share:.0%} of it"
        return (
            f"a process gives {self.given:.0f} s of speech a second, a {device} takes "
            f"{self.taken:.0f}: {keeps_up}"
        )


def loading_cores(world_size: int, device: torch.device) -> int:
    """Return the cores that this process may load with, besides its own beside a GPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    here = min(world_size, torch.cuda.device_count()) if device.type == "cuda" else world_size
    return max(1, (cores or 1) // max(1, here) - int(device.type == "cuda"))


def trial_seconds(session: Session) -> float:
    """Return how much noise a device is timed with."""
    return min(
        TRIAL_SECONDS[session.world.device.type],
        max(UTTERANCE_SECONDS, float(session.configs.data.max_duration)),
    )


def device_pace(session: Session) -> float:
    """Return the seconds of speech that go forward and backward in a second on the device.

    The statistics of the model and its gradients are as before.
    """
    device, own = session.world.device, session.own_state()
    rows, tokens = int(trial_seconds(session) / UTTERANCE_SECONDS), TOKENS_PER_SECOND
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus), seeded(session.configs.train.seed):
        size = Size(rows, UTTERANCE_SECONDS, int(tokens * UTTERANCE_SECONDS))
        noise = [noise_batch(session, size)]
        seconds_of(_gradients, session, noise)  # what is compiled or cached at first does not count
        seconds = seconds_of(_gradients, session, noise)
    session.load_own_state(own)
    session.optimizer.zero_grad()
    return rows * UTTERANCE_SECONDS / seconds


def _gradients(session: Session, noise: Noise) -> None:
    loss, _ = weighted_loss(session, *noise, final_loss_scales(session))
    loss.backward()  # type: ignore[no-untyped-call]


def seconds_of(
    run: Callable[[Session, Noise], None], session: Session, batches: Sequence[Noise]
) -> float:
    """Return how long a device works on batches, one after the other."""
    begun = time.monotonic()
    for noise in batches:
        run(session, noise)
    if session.world.device.type == "cuda":
        torch.cuda.synchronize(session.world.device)
    return time.monotonic() - begun


def augments_late(device: torch.device) -> bool:
    """Say whether SpecAugment is applied by the device: by a GPU, which spares the cores."""
    return device.type == "cuda"


def loading_pace(session: Session, data: TrainData) -> float:
    """Return the seconds of speech that one process loads and augments in a second."""
    configs = session.configs
    loader = train_loader(
        data.train,
        replace(configs.data, num_workers=0),
        configs.augment,
        EpochPosition(
            layout=session.layout_of(1), seed=configs.train.seed, epoch=1, rank=session.world.rank
        ),
        doubled=configs.model.use_cr_ctc,
        late=augments_late(session.world.device),
    )
    begun, pace = time.monotonic(), 0.0
    for batch in islice(loader, 2):  # the first opens files
        now = time.monotonic()
        begun, pace = now, batch.seconds / max(now - begun, 1e-6)
    return pace


def measured_feed(session: Session, data: TrainData, world_size: int) -> Feed:
    """Measure device and loading on this machine.

    Args:
        session: nothing in it changes.
        data: of the training.
        world_size: processes that share the cores of this machine.
    """
    cores = loading_cores(world_size, session.world.device)
    return Feed(device_pace(session), loading_pace(session, data), cores)


def choose_workers(session: Session, data: TrainData) -> DataConfig:
    """Return the settings of the data; with ``--num-workers -1``, as many as a GPU needs.

    Beside a CPU, whose cores train, there are as many as usual.
    """
    world, config = session.world, session.configs.data
    augment = session.configs.augment
    masks = augment.enable_spec_aug or session.configs.model.use_cr_ctc
    if masks and augments_late(world.device):
        logger.info("SpecAugment: loading draws warps and masks, the GPU applies them")
    if config.from_audio and augments_late(world.device):
        pauses = augment.join_prob or augment.silence_prob
        but = f"; with pauses, from epoch {augment.pause_start_epoch} on, loading does"
        logger.info("features: the GPU computes them%s", but if pauses else "")
    if config.num_workers != MEASURED_WORKERS or world.device.type != "cuda":
        return config
    feed = measured_feed(session, data, int(os.environ.get("LOCAL_WORLD_SIZE", world.size)))
    workers = max(all_gather(feed.workers, world))
    logger.info("%s", feed.text(world.device_kind))
    if feed.needed > feed.cores:
        logger.warning("loading will be the brake: this machine has too few cores for its GPUs")
    return replace(config, num_workers=workers)
