"""What a run will take, before it starts: hours of speech, steps, memory and time."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from zipasr.checkpoint.keeping import BYTES_PER_PARAMETER
from zipasr.data.batch import SECONDS_PER_FRAME, Batch
from zipasr.data.loaders import Place, train_loader
from zipasr.text.tokenizer import Tokenizer
from zipasr.training.session import Session, TrainConfigs
from zipasr.training.sets import TrainData
from zipasr.training.update import try_batch

TRIAL_SECONDS = 40.0  # of noise that the trial batch holds
UTTERANCE_SECONDS = 10.0
TOKENS_PER_SECOND = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a run will take.

    Attributes:
        parameters: number of the model's.
        hours: of training speech that is left after filtering.
        steps: updates per epoch.
        state_bytes: of parameters, gradients, optimizer and running average.
        batch_bytes: of what one batch needs beside that.
        seconds_per_step: forward and backward, without loading.
    """

    parameters: int
    hours: float
    steps: int
    state_bytes: int
    batch_bytes: int
    seconds_per_step: float

    def text(self, configs: TrainConfigs) -> str:
        """Return the lines that ``--dry-run`` prints."""
        world, epochs = configs.train.world_size, configs.train.num_epochs
        run_hours = self.steps * self.seconds_per_step * epochs / 3600
        lines = [
            f"model      {self.parameters:,} parameters",
            f"data       {self.hours:.2f} hours of speech an epoch",
            f"steps      {self.steps} an epoch, {self.steps * epochs} in {epochs} epochs",
            f"batches    up to {configs.data.max_duration:g} s on each of {world} process(es)",
            f"memory     {_gib(self.state_bytes)} GiB for the model and its optimizer, about "
            f"{_gib(self.batch_bytes)} GiB for a batch, in each process",
            f"disk       about {_gib(self._disk_bytes(configs))} GiB of checkpoints",
            f"time       about {self.seconds_per_step:.2f} s a step, loading apart",
            f"           about {run_hours:.1f} hours for the run on this machine",
            f"Memory and time of a batch: measured with {TRIAL_SECONDS:g} s of noise, scaled.",
        ]
        return "\n".join(lines)

    def _disk_bytes(self, configs: TrainConfigs) -> int:
        train = configs.train
        iterations = min(train.keep_last_k, self.steps * train.num_epochs // train.save_every_n)
        return self.parameters * BYTES_PER_PARAMETER * (iterations + train.num_epochs)


def estimate(session: Session, data: TrainData) -> Estimate:
    """Measure a small batch on the device of ``session`` and scale it to the run's batches."""
    configs = session.configs
    parameters = sum(p.numel() for p in session.model.parameters())
    seconds, batch_bytes = _trial(session)
    scale = float(configs.data.max_duration) / TRIAL_SECONDS
    return Estimate(
        parameters=parameters,
        hours=data.train.hours,
        steps=_steps(configs, data),
        # Parameters, gradients and two moments in float32, the average in float64.
        state_bytes=parameters * (4 * 4 + 8),
        batch_bytes=int(batch_bytes * scale),
        seconds_per_step=seconds * scale,
    )


def _steps(configs: TrainConfigs, data: TrainData) -> int:
    return train_loader(
        data.train,
        replace(configs.data, num_workers=0),
        configs.augment,
        Place(
            layout=configs.data.layout(configs.train.world_size),
            seed=configs.train.seed,
            epoch=1,
        ),
        doubled=configs.model.use_cr_ctc,
    ).num_batches


def _trial(session: Session) -> tuple[float, float]:
    """Return seconds and bytes of a batch of noise."""
    batch = _noise(session.tokenizer, session.configs)
    device = session.world.device
    session.model.train()
    before = _peak(device)
    try_batch(session, batch)  # what is compiled or cached at first does not count
    begun = time.monotonic()
    try_batch(session, batch)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic() - begun, max(0.0, _peak(device) - before)


def _noise(tokenizer: Tokenizer, configs: TrainConfigs) -> Batch:
    num_utterances = int(TRIAL_SECONDS / UTTERANCE_SECONDS)
    num_frames = int(UTTERANCE_SECONDS / SECONDS_PER_FRAME)
    features: Tensor = torch.randn(num_utterances, num_frames, 80)
    ids = list(range(1, 1 + int(TOKENS_PER_SECOND * UTTERANCE_SECONDS)))
    (text,) = tokenizer.decode([[i % (tokenizer.vocab_size - 3) + 3 for i in ids]])
    return Batch(
        features=features,
        feature_lens=torch.full((num_utterances,), num_frames),
        texts=[text] * num_utterances,
        cut_ids=["noise"] * num_utterances,
        seconds=TRIAL_SECONDS,
        second_view=features.clone() if configs.model.use_cr_ctc else None,
    )


def _peak(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2g}"
