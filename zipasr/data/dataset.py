"""One batch of cuts to one batch of tensors, the same wherever and whenever it is made."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from random import Random

import torch
from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.dataset import K2SpeechRecognitionDataset
from lhotse.dataset.input_strategies import BatchIO, PrecomputedFeatures

from zipasr.base.seed import seeded
from zipasr.data.augment import MaskFeatures, MixNoise, TwoViews
from zipasr.data.batch import Batch, batch_from_lhotse
from zipasr.data.cuts import CutSource
from zipasr.data.failures import reason_of
from zipasr.data.sampling import SampledBatch

JoinCuts = Callable[[CutSet], CutSet]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A batch of which no cut could be read; sent to the main process instead of an exception."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How cuts become features.

    Args:
        read: lhotse's input strategy, from stored features or from audio.
        join: joins short cuts; None leaves them alone.
        noise: mixes noise in; None leaves it out.
        mask: SpecAugment; None leaves it out.
        views: doubles the batch, with masks of its own; None leaves it single.
    """

    read: BatchIO
    join: JoinCuts | None = None
    noise: MixNoise | None = None
    mask: MaskFeatures | None = None
    views: TwoViews | None = None


class BatchDataset(torch.utils.data.Dataset["Batch | Unreadable"]):
    """Make the batch that the sampler chose.

    Every random draw comes from ``keys`` and the index of the batch. So it does not matter which
    process makes it, in which order, or what was made before.

    Args:
        source: the cuts by number.
        recipe: how cuts become features.
        keys: seed, epoch and rank.
    """

    def __init__(self, source: CutSource, recipe: Recipe, keys: tuple[int, ...]) -> None:
        self._source = source
        self._recipe = recipe
        self._keys = keys

    def __getitem__(self, sampled: SampledBatch) -> Batch | Unreadable:
        """Read, mix, pad and mask; cuts that cannot be read are left out with a warning."""
        cuts = CutSet.from_cuts(self._source[number] for number in sampled.members)
        try:
            return self._made(sampled, cuts)
        except Exception as error:
            readable, reasons = self._separated(cuts)
            if not reasons:
                # All cuts are readable: the fault is elsewhere, and is not ours to hide.
                raise
            for cut_id, reason in reasons.items():
                logging.warning("cut %s is left out of its batch: %s", cut_id, reason)
            if not readable:
                return Unreadable(sampled.index, f"{next(iter(reasons))}: {reason_of(error)}")
            made = self._made(sampled, CutSet.from_cuts(readable))
            return replace(made, dropped=tuple(reasons))

    def _made(self, sampled: SampledBatch, cuts: CutSet) -> Batch:
        # The sum of a mean depends on the number of threads; a worker has one.
        transforms = [t for t in (self._recipe.mask, self._recipe.views) if t is not None]
        with seeded(*self._keys, sampled.index), _one_thread():
            dataset = K2SpeechRecognitionDataset(
                return_cuts=True,
                cut_transforms=self._cut_transforms(),
                input_transforms=transforms,
                input_strategy=self._recipe.read,
            )
            num_views = 2 if self._recipe.views is not None else 1
            batch = batch_from_lhotse(dataset[cuts], num_views)
        return replace(
            batch,
            index=sampled.index,
            step_seconds=sampled.step_seconds,
            corpus=sampled.corpus,
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
                reasons[cut.id] = reason_of(error)
        return readable, reasons

    def _cut_transforms(self) -> list[JoinCuts]:
        # Cuts are joined first, so that noise fills the gaps too.
        transforms = [self._recipe.join] if self._recipe.join else []
        noise = self._recipe.noise
        if noise is not None:
            rng = Random(random.getrandbits(64))
            transforms.append(lambda cuts: noise(cuts, rng))
        return transforms


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
