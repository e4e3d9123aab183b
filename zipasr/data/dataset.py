"""Batches: which cuts a rank is given, and those cuts as padded tensors."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any

import numpy as np
import torch
from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.dataset import K2SpeechRecognitionDataset
from lhotse.dataset.input_strategies import BatchIO, OnTheFlyFeatures, PrecomputedFeatures
from lhotse.utils import LOG_EPSILON
from torch import Tensor

from zipasr.audio.log_mel import MirroredSounds
from zipasr.base.errors import is_machine_fault
from zipasr.base.seed import seeded
from zipasr.data.augment import MixNoise, TwoViews
from zipasr.data.batch_inputs import CopiedInputs, HeldSounds, with_whole_features
from zipasr.data.cuts import CutSource
from zipasr.data.epoch_plan import BatchingConfig, BatchLimits, CutLengths, Plan, make_plan
from zipasr.data.filters import reason_of_error, text_of
from zipasr.data.joined_utterances import InputsWithPauses, Pauses
from zipasr.data.late_augment import Drawn, FeatureTransform, Late, applied
from zipasr.encoder.protocol import SECONDS_PER_FEATURE_FRAME
from zipasr.nn.numerics import to_device

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """Utterances that are processed together, longest first.

    Attributes:
        features: (N, T, 80) float32 log-mel energies; padding is log(1e-10). Beside ``sounds`` it
            is a shape alone, on the device "meta".
        feature_lens: (N,) int64, frames of each utterance before padding.
        texts: the N transcripts.
        cut_ids: the N names.
        seconds: length of the speech, padding not counted.
        index: position of the batch in its epoch on this rank, from 0; to go on after this batch,
            ask the loader to skip ``index + 1``.
        dropped: names of the utterances that could not be read and are missing here.
        step_seconds: length of the batches at this position over all ranks, padding and copies
            included.
        second_view: (N, T, 80), the same utterances as ``features`` under other masks; None
            without consistency training.
        corpus: that the utterances are from, where several are trained on; else empty.
        drawn: what SpecAugment has yet to do to the features, see ``to``; None if nothing.
        sounds: of which ``to`` computes the features; None if they are computed.
    """

    features: Tensor
    feature_lens: Tensor
    texts: list[str]
    cut_ids: list[str]
    seconds: float
    index: int = 0
    dropped: tuple[str, ...] = ()
    step_seconds: float = 0.0
    second_view: Tensor | None = None
    corpus: str = ""
    drawn: Drawn | None = None
    sounds: MirroredSounds | None = None

    def __len__(self) -> int:
        """N, the number of utterances."""
        return len(self.texts)

    def part(self, start: int, stop: int) -> Batch:
        """Return the utterances ``start`` to ``stop - 1``.

        Their padding stays, although they may be shorter: convolutions see it, so the losses of
        the parts add up to the loss of the whole.
        """
        if self.sounds is not None:
            return self.to("cpu").part(start, stop)
        if self.drawn is not None:
            return self.to(self.features.device).part(start, stop)
        lens, second = self.feature_lens[start:stop], self.second_view
        return replace(
            self,
            features=self.features[start:stop],
            feature_lens=lens,
            texts=self.texts[start:stop],
            cut_ids=self.cut_ids[start:stop],
            seconds=int(lens.sum()) * SECONDS_PER_FEATURE_FRAME,
            second_view=None if second is None else second[start:stop],
        )

    def pin_memory(self) -> Batch:
        """Return the batch with its features where a GPU reads them without the processor.

        torch's loader calls it by this name, in a thread.
        """
        if self.sounds is not None:
            samples = self.sounds.samples.pin_memory()
            return replace(self, sounds=replace(self.sounds, samples=samples))
        second = self.second_view
        return replace(
            self,
            features=self.features.pin_memory(),
            second_view=None if second is None else second.pin_memory(),
        )

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on ``device``, where features are computed and masked if they are not.

        The lengths stay on the host: who reads them there does not wait for a device.
        """
        if self.sounds is not None:
            bins, place = self.features.size(2), torch.device(device)
            features = self.sounds.log_mel(bins, place, LOG_EPSILON)
            return replace(self, features=features, sounds=None).to(device)
        features, second = to_device(self.features, device), self.second_view
        if self.drawn is not None:
            features, *views = applied(features, self.drawn).chunk(self.drawn.views)
            return replace(
                self, features=features, second_view=views[0] if views else None, drawn=None
            )
        second = None if second is None else to_device(second, device)
        return replace(self, features=features, second_view=second)


def batch_from_lhotse(raw: Mapping[str, Any], num_views: int = 1) -> Batch:
    """Take the batch dictionary of ``K2SpeechRecognitionDataset`` apart.

    Args:
        raw: made with ``return_cuts=True``; ``inputs`` are features.
        num_views: 2 when ``TwoViews`` doubled the features.
    """
    features, *other_views = raw["inputs"].float().chunk(num_views)
    supervisions = raw["supervisions"]
    rows = supervisions["sequence_idx"].long()
    ends = (supervisions["start_frame"] + supervisions["num_frames"]).long()
    # Joined cuts have several supervisions in one row: the last end counts.
    lens = torch.zeros(features.size(0), dtype=torch.int64)
    lens = lens.scatter_reduce(0, rows, ends, reduce="amax").clamp(max=features.size(1))
    cuts = _cut_of_each_row(rows.tolist(), supervisions["cut"])
    return Batch(
        features=features,
        feature_lens=lens,
        texts=[text_of(cut) for cut in cuts],
        cut_ids=[_name(cut) for cut in cuts],
        seconds=int(lens.sum()) * SECONDS_PER_FEATURE_FRAME,
        second_view=other_views[0] if other_views else None,
    )


def _cut_of_each_row(rows: list[int], cut_of_each_supervision: list[Cut]) -> list[Cut]:
    return list(dict(zip(rows, cut_of_each_supervision, strict=True)).values())


def _name(cut: Cut) -> str:
    # lhotse names joined cuts at random; their supervisions keep their names.
    supervisions = cut.supervisions
    return cut.id if len(supervisions) == 1 else "+".join(s.id for s in supervisions)


@dataclass(frozen=True, slots=True)
class SampledBatch:
    """The cuts of one batch and its place in the epoch.

    Attributes:
        index: position in the epoch, the same number on every rank.
        members: numbers of the cuts.
        step_seconds: length of the batches of this position over all ranks, padding and copies
            included.
        corpus: that the cuts are from, where several are trained on; else empty.
    """

    index: int
    members: tuple[int, ...]
    step_seconds: float = 0.0
    corpus: str = ""


class PlannedBatches:
    """The batches of one rank, from any of them on.

    Args:
        plan: of the epoch, or of what is left of it.
        lengths: of all cuts.
        rank: of this process.
        first: position in the epoch of the first step of ``plan``.
        start: position in the epoch to start from.
        copies: of each cut in a batch.
    """

    def __init__(
        self,
        plan: Plan,
        lengths: CutLengths,
        rank: int,
        *,
        first: int = 0,
        start: int = 0,
        copies: int = 1,
    ) -> None:
        self._plan, self._lengths, self._rank = plan, lengths, rank
        self._first, self._start, self._copies = first, start, copies

    def __iter__(self) -> Iterator[SampledBatch]:
        """Yield the batches from ``start`` on."""
        for step in range(self._start - self._first, len(self._plan)):
            members = tuple(self._plan.batch(step, self._rank).tolist())
            yield SampledBatch(
                step + self._first,
                members,
                self._copies * self._plan.step_seconds(step, self._lengths.seconds),
                self._lengths.corpus_of(members[0]) if members else "",
            )


def eval_batches(
    seconds: Sequence[float], max_duration: float, *, rank: int = 0, world_size: int = 1
) -> list[SampledBatch]:
    """Share out all cuts over the ranks, longest first, each cut once.

    A loss or an error rate would count a cut twice that is repeated to give all ranks equally
    many batches. Here the numbers of batches may differ by one.

    Args:
        seconds: (N,) durations of the cuts of the validation or test set.
        max_duration: seconds of a batch, padding included.
        rank: of this process.
        world_size: number of processes.
    """
    longest_first = np.argsort(-np.asarray(seconds, np.float64), kind="stable")
    lengths = CutLengths(
        np.asarray(seconds, np.float64)[longest_first], np.zeros(len(seconds), int)
    )
    layout = BatchingConfig(budget=BatchLimits(max_duration=max_duration), num_buckets=1)
    plan = make_plan(lengths, layout, seed=0, epoch=0)
    batches = [
        SampledBatch(step, tuple(longest_first[plan.batch(step, 0)].tolist()))
        for step in range(len(plan))
    ]
    return batches[rank::world_size]


JoinCuts = Callable[[CutSet], CutSet]


@dataclass(frozen=True, slots=True)
class UnreadableCut:
    """A batch of which no cut could be read; sent to the main process instead of an exception."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureRecipe:
    """How cuts become features.

    Args:
        read: lhotse's input strategy, from stored features or from audio.
        join: joins short cuts; None leaves them alone.
        noise: mixes noise in; None leaves it out.
        mask: SpecAugment; None leaves it out.
        views: doubles the batch, with masks of its own; None leaves it single.
        copies: of each cut in the batch, with noise and masks of their own.
        pauses: joins utterances, and puts pauses around them; None leaves them alone.
        late: masks are drawn here, and applied by ``Batch.to``, which also computes the features of
            sounds that were read, unless there are pauses, whose frames are chosen by features.
    """

    read: BatchIO
    join: JoinCuts | None = None
    noise: MixNoise | None = None
    mask: FeatureTransform | None = None
    views: TwoViews | None = None
    copies: int = 1
    pauses: Pauses | None = None
    late: bool = False


class BatchDataset(torch.utils.data.Dataset["Batch | UnreadableCut"]):
    """Dataset that turns the cuts of a batch into tensors.

    Every random draw comes from ``keys`` and the index of the batch. So it does not matter which
    process makes it, in which order, or what was made before.

    Args:
        source: the cuts by number.
        recipe: how cuts become features.
        keys: seed, epoch and rank.
    """

    def __init__(self, source: CutSource, recipe: FeatureRecipe, keys: tuple[int, ...]) -> None:
        self._source = source
        self._recipe = recipe
        self._keys = keys

    def __getitem__(self, sampled: SampledBatch) -> Batch | UnreadableCut:
        """Read, mix, pad and mask; cuts that cannot be read are left out with a warning."""
        cuts = with_whole_features(
            CutSet.from_cuts(self._source[number] for number in sampled.members)
        )
        try:
            return self._made(sampled, cuts)
        except Exception as error:
            if is_machine_fault(error):  # no fault of the cuts
                raise
            readable, reasons = self._separated(cuts)
            if not reasons:
                # All cuts are readable: the fault is elsewhere, and is not ours to hide.
                raise
            for cut_id, reason in reasons.items():
                logger.warning("cut %s is left out of its batch: %s", cut_id, reason)
            if not readable:
                return UnreadableCut(
                    sampled.index, f"{next(iter(reasons))}: {reason_of_error(error)}"
                )
            made = self._made(sampled, CutSet.from_cuts(readable))
            return replace(made, dropped=tuple(reasons))

    def _made(self, sampled: SampledBatch, cuts: CutSet) -> Batch:
        # The sum of a mean depends on the number of threads; a worker has one.
        recipe, held = self._recipe, None
        transform = recipe.mask or recipe.views
        late = Late(transform) if recipe.late and transform is not None else None
        transforms = [t for t in (late or transform,) if t is not None]
        if recipe.late and recipe.pauses is None and isinstance(recipe.read, OnTheFlyFeatures):
            held = HeldSounds(recipe.read.extractor)
            recipe = replace(recipe, read=held.read_by(recipe.read))
        with seeded(*self._keys, sampled.index), _one_thread():
            dataset = K2SpeechRecognitionDataset(
                return_cuts=True, input_transforms=transforms, **_reading(recipe)
            )
            raw = dataset[cuts]
            drawn = None if late is None else late.drawn
            num_views = 2 if recipe.views is not None and drawn is None else 1
            batch = batch_from_lhotse(raw, num_views)
        if held is not None:
            shape = batch.features.to("meta")
            batch = replace(batch, features=shape, sounds=held.mirrored())
        return replace(
            batch,
            index=sampled.index,
            step_seconds=sampled.step_seconds,
            corpus=sampled.corpus,
            drawn=drawn,
        )

    def _separated(self, cuts: CutSet) -> tuple[list[Cut], dict[str, str]]:
        """Try each cut: return the readable ones, and the reason for each of the others."""
        stored = isinstance(self._recipe.read, PrecomputedFeatures)
        readable, reasons = [], {}
        for cut in cuts:
            try:
                cut.load_features() if stored else cut.load_audio()
                readable.append(cut)
            except Exception as error:
                if is_machine_fault(error):
                    raise
                reasons[cut.id] = reason_of_error(error)
        return readable, reasons


def _reading(recipe: FeatureRecipe) -> dict[str, Any]:
    """Return how the dataset changes and reads its cuts, with a fresh draw of the noise."""
    # Cuts are joined first, so that noise fills the gaps too.
    transforms = [recipe.join] if recipe.join else []
    mix: JoinCuts | None = None
    if recipe.noise is not None:
        mix = partial(recipe.noise, rng=Random(random.getrandbits(64)))
    if recipe.copies > 1:
        # Beyond the dataset's transforms, after which it would sort copies side by side.
        copied = CopiedInputs(recipe.read, recipe.copies, mix)
        return {"cut_transforms": transforms, "input_strategy": copied}
    if mix is not None:
        transforms.append(mix)
    read = recipe.read
    if recipe.pauses is not None:
        draws = np.random.default_rng(random.getrandbits(64))
        read = InputsWithPauses(read, recipe.pauses, draws)
    return {"cut_transforms": transforms, "input_strategy": read}


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
