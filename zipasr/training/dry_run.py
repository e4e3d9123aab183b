"""Time, memory and disk of a run, also from the statistics of a corpus that is not there yet."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from lhotse import CutSet, MonoCut
from numpy.typing import NDArray

from zipasr.base.constants import GIB
from zipasr.base.lock import check_unused
from zipasr.base.progress import clock, two_digits
from zipasr.base.recipe import Recipe
from zipasr.checkpoint.retention import BYTES_PER_PARAMETER, bytes_to_come, most_epoch_files
from zipasr.data.cuts import TrainCuts
from zipasr.data.epoch_plan import CutLengths, RowCost
from zipasr.data.fbank import SPEEDS
from zipasr.data.loaders import EpochPosition, train_loader
from zipasr.data.real_epochs import RealEpochs
from zipasr.text.config import BpeConfig
from zipasr.text.tokenizer import BLANK, SENTENCE_ENDS, PieceTokenizer, Tokenizer
from zipasr.training.data_setup import TrainData
from zipasr.training.feeding import UTTERANCE_SECONDS, Feed, loading_cores, loading_pace
from zipasr.training.memory import (
    MARGIN,
    NOTHING_FITS,
    Size,
    batch_sizes,
    fitting_duration,
    largest,
    predicted_bytes,
    room_for_batch,
    row_cost,
)
from zipasr.training.session import Session, TrainConfigs
from zipasr.training.trial import measured_pace
from zipasr.training.worker import choose_checkpoint, restore


def has_statistics(recipe: Recipe) -> bool:
    """Say whether a recipe tells how much training speech there will be."""
    parts = recipe.statistics.get("parts", {})
    return bool(parts) and {*recipe.parts(["train"])} <= {*parts}


def expected_data(recipe: Recipe, configs: TrainConfigs) -> TrainData:
    """Return a training set of the lengths that the recipe tells, without cuts.

    Args:
        recipe: with statistics; flags of its preparation say whether speeds are varied.
        configs: of the run, with the longest and the shortest utterance that it takes.
    """
    seconds = np.concatenate([_seconds(recipe.statistics, p) for p in recipe.parts(["train"])])
    if recipe.flags.get("perturb-speed"):
        seconds = np.concatenate([seconds / speed for speed in SPEEDS])
    data = configs.data
    kept = seconds[(seconds >= data.min_cut_duration) & (seconds <= data.max_cut_duration)]
    tokens = np.rint(kept * recipe.statistics["tokens-per-second"]).astype(np.int64)
    nothing: Sequence[Any] = ()
    valid = [
        MonoCut(f"{part}-{n}", 0, float(duration), 0)
        for part in recipe.parts(["valid"])
        if part in recipe.statistics["parts"]
        for n, duration in enumerate(_seconds(recipe.statistics, part))
    ]
    train = TrainCuts(nothing, CutLengths(kept, tokens), names="")
    return TrainData(train, CutSet.from_cuts(valid))


def _seconds(statistics: Mapping[str, Any], part: str) -> NDArray[np.float64]:
    """Return a duration for each utterance of a part, by its hours and the percentiles."""
    utterances, hours = (statistics["parts"][part][name] for name in ("utterances", "hours"))
    places = (np.arange(utterances) + 0.5) / utterances
    shares, values = zip(*statistics["percentiles"], strict=True)
    seconds = np.interp(100 * places, shares, values)
    return np.asarray(seconds * (3600 * hours / seconds.sum()), np.float64)


def stand_in(recipe: Recipe) -> Tokenizer:
    """Return a table of as many tokens as the recipe's tokenizer will have."""
    size = recipe.flags.get("vocab-size", BpeConfig().vocab_size)
    return PieceTokenizer([BLANK, SENTENCE_ENDS, "<unk>", *(f"token{n}" for n in range(3, size))])


def preparation_lines(recipe: Recipe) -> list[str]:
    """Say what the stages of the preparation take, as the recipe tells."""
    needs = [(stage, recipe.needs_of(stage)) for stage in range(recipe.stages[1] + 1)]
    return [f"stage {stage}    {said}" for stage, said in needs if said]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Estimated steps, memory, disk space and time of a run.

    Attributes:
        parameters: number of the model's.
        trained: how many of them are not frozen.
        hours: of training speech that is left after filtering.
        epochs: of the run.
        steps: number of copies -> updates of an epoch whose batches have so many.
        state_bytes: of parameters, gradients, optimizer and running average.
        batch_bytes: of what the largest batch needs beside that.
        fit: whether it fits into the memory of this machine, and what would.
        first: epoch to begin or to go on with.
        updates: of the run so far.
        updates_of_epoch: of ``first`` so far.
        seconds_per_step: of an update, without loading.
        seconds_per_validation: after each epoch, with the decoding of dev utterances.
        start: seconds until all processes are ready.
        feed: what the device takes and what loading gives; None without data.
        device: of a process, GPU or CPU.
    """

    parameters: int
    trained: int
    hours: float
    epochs: RealEpochs
    steps: Mapping[int, int]
    state_bytes: int
    batch_bytes: int
    fit: str
    first: int
    updates: int
    updates_of_epoch: int
    seconds_per_step: float
    seconds_per_validation: float
    start: float
    feed: Feed | None
    device: str

    def text(self, configs: TrainConfigs, machine: str = "", run: str = "") -> str:
        """Return the lines that ``--dry-run`` prints.

        Args:
            configs: of the run.
            machine: what ``--gpu-memory`` chose; empty without.
            run: what happens to the run in the folder; empty where there is none.
        """
        lines = [
            f"model      {self.parameters:,} parameters{self._trained_text()}",
            f"data       {self.hours:.2f} hours of speech an epoch",
            *([f"run        {run}"] if run else []),
            *self._step_lines(),
            *([f"machine    {machine}"] if machine else []),
            *_update_lines(configs),
            f"memory     {_gib(self.state_bytes)} GiB for the model and its optimizer, about "
            f"{_gib(self.batch_bytes)} GiB for a batch, in each process",
            f"           {self.fit}",
            self._disk_line(configs),
            *self._time_lines(configs),
            *([] if self.feed is None else [f"loading    {self.feed.text(self.device)}"]),
            "Memory is scaled from one utterance, time from some updates on noise.",
        ]
        return "\n".join(lines)

    @property
    def all_steps(self) -> int:
        """Updates that are to come; finished epochs do not count."""
        to_come = sum(self.steps[copies] for copies in self.epochs.copies[self.first - 1 :])
        return max(0, to_come - self.updates_of_epoch)

    def _time_lines(self, configs: TrainConfigs) -> list[str]:
        epochs = max(0, len(self.epochs) - self.first + 1)
        validations = epochs + self.all_steps // configs.train.valid_interval
        seconds = self.all_steps * self.seconds_per_step
        seconds += self.start + validations * self.seconds_per_validation
        hours = seconds * configs.train.world_size / 3600
        return [
            f"time       about {two_digits(self.seconds_per_step)} s a step, loading apart, and "
            f"{two_digits(self.seconds_per_validation)} s a validation",
            f"           about {clock(seconds)} for the run on this machine, "
            f"{two_digits(hours)} {self.device}-hours",
        ]

    def _span(self) -> str:
        last = len(self.epochs)
        if self.first > last:
            return "0 to come"
        if self.updates == 0:
            return f"{self.all_steps} in {last} epochs"
        return f"{self.all_steps} to come until the end of epoch {last}"

    def _step_lines(self) -> list[str]:
        each = [f"{count} an epoch" for count in self.steps.values()]
        if self.epochs.total == len(self.epochs):
            return [f"steps      {each[0]}, {self._span()}"]
        each = [
            f"{text} of {copies} {'copy' if copies == 1 else 'copies'}"
            for copies, text in zip(self.steps, each, strict=True)
        ]
        in_all = f"{self.all_steps} in all" if self.updates == 0 else self._span()
        return [
            f"epochs     {len(self.epochs)}, which count as {self.epochs.total} real ones; copies "
            f"of each utterance in a batch: {' '.join(map(str, self.epochs.copies))}",
            f"steps      {'; '.join([each[0], *each[1:][-1:]])}",
            f"           {in_all}",
        ]

    def _trained_text(self) -> str:
        return "" if self.trained == self.parameters else f", {self.trained:,} of them are trained"

    def _disk_line(self, configs: TrainConfigs) -> str:
        """Say how much the checkpoints to come take, and how much room there is for them."""
        train = configs.train
        iterations = min(train.keep_last_k, (self.updates + self.all_steps) // train.save_every_n)
        epochs = most_epoch_files(train.epoch_files_from(self.first), train.keep_last_epochs)
        each = self.parameters * BYTES_PER_PARAMETER
        need = bytes_to_come(each, train.exp_dir, iterations=iterations, epochs=epochs)
        folders = (train.exp_dir.absolute(), *train.exp_dir.absolute().parents)
        free = shutil.disk_usage(next(folder for folder in folders if folder.exists())).free
        room = f", and {_gib(free)} GiB are free"
        if need > free:
            room += ": make room, or lower --keep-last-k or --keep-last-epochs"
        return f"disk       about {_gib(need)} GiB of checkpoints{room}"


def going_on(session: Session) -> str:
    """Take over what the run in the folder would go on from, and say so; empty for a new run.

    Raises:
        UserError: the start of the run would be refused with it.
    """
    train, alone = session.configs.train, session.world
    check_unused(train.exp_dir)
    found = choose_checkpoint(session.configs)
    if found is None:
        return ""
    # An epoch in progress is compared with how all processes will cut it.
    session.world = replace(alone, size=train.world_size)
    epoch, last = restore(session, *found), len(train.epochs)
    session.world = alone
    if epoch > last:
        return f"is at its end: {found[0]} is of epoch {last}; --num-epochs can be more"
    return f"goes on from epoch {epoch} of {last}, after {found[0]}"


def _fit(
    configs: TrainConfigs, sizes: Sequence[Size], cost: RowCost, room: float, gpu: bool
) -> str:
    """Say whether the largest batch fits into the memory that is free here, and what would."""
    found = largest(sizes, cost)[:1]
    if not found or predicted_bytes(found[0], cost) * (MARGIN if gpu else 1) <= room:
        return f"fits here: {_gib(room)} GiB are free for a batch"
    what = f"does not fit here, where {_gib(max(0, room))} GiB are free for a batch: "
    fitting = fitting_duration(found[0], cost, room)
    if fitting == 0:
        return what + NOTHING_FITS
    update = float(configs.data.max_duration) * configs.train.accumulate
    accumulate = math.ceil(update / fitting)
    return what + f"--max-duration {int(update / accumulate)} --accumulate {accumulate}"


def estimate(session: Session, data: TrainData, processes: int = 1) -> Estimate:
    """Measure a small batch on the device of ``session`` and scale it to the run's batches.

    Args:
        session: at its start, or with what the run goes on from.
        data: of the training.
        processes: of the run on this machine.
    """
    configs, state = session.configs, session.state
    gpu = session.world.device.type == "cuda"
    room = room_for_batch(session, 1 if gpu else processes)
    parameters = sum(p.numel() for p in session.model.parameters())
    trained = sum(p.numel() for p in session.model.parameters() if p.requires_grad)
    has_cuts = len(data.train.source) > 0
    sizes = batch_sizes(session, data.train.lengths)
    padded = sum(size.rows * size.seconds for size in sizes) / max(1, len(sizes))
    pace = measured_pace(configs, session.tokenizer, sizes, processes)
    cores = loading_cores(configs.train.world_size, session.world.device)
    feed = Feed(1 / pace.update, loading_pace(session, data), cores) if has_cuts else None
    cost = row_cost(session, max((size.seconds for size in sizes), default=UTTERANCE_SECONDS))
    return Estimate(
        parameters=parameters,
        trained=trained,
        hours=data.train.hours,
        epochs=configs.train.epochs,
        steps={
            copies: math.ceil(_batches(session, data, epoch) / configs.train.accumulate)
            for copies, epoch in configs.train.epochs.first_of_each().items()
        },
        # Parameters in float32, the average in float64; gradients and two moments in float32.
        state_bytes=parameters * (4 + 8) + trained * 3 * 4,
        fit=_fit(configs, sizes, cost, room, gpu),
        first=state.cur_epoch,
        updates=state.batch_idx_train,
        updates_of_epoch=math.ceil(state.batches_done / configs.train.accumulate),
        batch_bytes=int(max((predicted_bytes(size, cost) for size in sizes), default=0)),
        seconds_per_step=padded * configs.train.accumulate * pace.update,
        seconds_per_validation=_speech_of_validation(data.valid, configs) * pace.validation,
        start=pace.start,
        feed=feed,
        device=session.world.device_kind,
    )


def _speech_of_validation(cuts: CutSet, configs: TrainConfigs) -> float:
    """Return the seconds of speech that each process computes after an epoch: loss, then words."""
    seconds = [cut.duration for cut in cuts]
    decoded = min(1.0, configs.train.valid_wer_cuts / max(1, len(seconds)))
    return float(sum(seconds)) * (1 + decoded) / configs.train.world_size


def _batches(session: Session, data: TrainData, epoch: int) -> int:
    configs = session.configs
    return train_loader(
        data.train,
        replace(configs.data, num_workers=0),
        configs.augment,
        EpochPosition(
            layout=replace(session.layout_of(epoch), world_size=configs.train.world_size),
            seed=configs.train.seed,
            epoch=epoch,
        ),
        doubled=configs.model.use_cr_ctc,
    ).num_batches


def _update_lines(configs: TrainConfigs) -> list[str]:
    """Say how much speech makes an update, and how much it was in the published trainings."""
    train, seconds = configs.train, float(configs.data.max_duration)
    ours = seconds * train.world_size * train.accumulate
    lines = [
        f"update     {ours:g} s of speech: {train.world_size} process(es) x {seconds:g} s"
        f" x --accumulate {train.accumulate}"
    ]
    published = published_batch(configs)
    if published is not None:
        gpus, limit = published
        theirs = gpus * limit
        fitting = max(1, round(theirs / (seconds * train.world_size)))
        advice = f"; --accumulate {fitting} comes closest" if fitting != train.accumulate else ""
        lines.append(
            f"           published for this model: {gpus} x {limit} s = {theirs} s{advice}"
        )
    return lines


def published_batch(configs: TrainConfigs) -> tuple[int, int] | None:
    """Return GPUs and seconds per GPU of the published training of this model; None for others."""
    encoder, model = configs.encoder, configs.model
    heads = "transducer" if model.use_transducer else "attention"
    if model.use_cr_ctc:
        heads = "consistency"
    for name, sizes in encoder.presets().items():
        if all(getattr(encoder, field) == value for field, value in sizes.items()):
            return encoder.published_batches.get((name, heads))
    return None


def _gib(num_bytes: float) -> str:
    return two_digits(num_bytes / GIB)
