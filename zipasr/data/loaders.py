"""Data loaders of training, validation and test sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from lhotse import CutSet
from lhotse.dataset import CutConcatenate, OnTheFlyFeatures
from lhotse.dataset.input_strategies import BatchIO, PrecomputedFeatures
from lhotse.lazy import LazyIteratorChain
from torch.utils.data import DataLoader

from zipasr.audio.quarantine import Quarantine
from zipasr.base.errors import DataError
from zipasr.base.seed import generator_for
from zipasr.data.augment import mix_noise, spec_augment, two_views
from zipasr.data.config import (
    AugmentConfig,
    DataConfig,
    Extra,
)
from zipasr.data.corpus_mixing import mixed_plan
from zipasr.data.cuts import CutSource, TrainCuts
from zipasr.data.dataset import (
    Batch,
    BatchDataset,
    FeatureRecipe,
    JoinCuts,
    PlannedBatches,
    SampledBatch,
    UnreadableCut,
    eval_batches,
)
from zipasr.data.epoch_plan import BatchingConfig, BatchLimits, CutLengths, EpochSegment, Plan
from zipasr.data.fbank import is_left_out
from zipasr.data.feature_store import fbank_extractor, process_context
from zipasr.data.filters import BROKEN_MANIFEST, broken_manifest
from zipasr.data.joined_utterances import pauses_of
from zipasr.data.manifests import manifests_at, manifests_of_split, read_cuts
from zipasr.data.sound_effects import WaveEffect, wave_effects
from zipasr.data.worker_processes import (
    TICK_SECONDS,
    ToldFaults,
    batches_of_workers,
    prepare_worker,
    to_share,
)

# A manifest below this size is read into memory (about 100 000 cuts); a larger one is read from
# disk again in every epoch.
_EAGER_BYTES = 16_000_000


def batching_of(config: DataConfig, world_size: int) -> BatchingConfig:
    """Return how an epoch is cut into batches for ``world_size`` processes, of one copy each."""
    return BatchingConfig(
        budget=BatchLimits(max_duration=float(config.max_duration)),
        world_size=world_size,
        num_buckets=config.num_buckets if config.bucketing_sampler else 1,
        drop_last=config.drop_last,
        shuffle=config.shuffle,
        num_readers=max(1, config.workers),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochPosition:
    """Position of a rank in its training data.

    Attributes:
        layout: how the steps to come are cut.
        seed: of the run.
        epoch: counted from 1.
        rank: of this process.
        start: steps of this epoch that were trained on before.
        legs: what was trained of this epoch in other layouts, in order.
    """

    layout: BatchingConfig
    seed: int
    epoch: int
    rank: int = 0
    start: int = 0
    legs: tuple[EpochSegment, ...] = ()

    def plan(self, lengths: CutLengths) -> Plan:
        """Return the plan of what the ``legs`` have left of the epoch."""
        return mixed_plan(lengths, self.layout, seed=self.seed, epoch=self.epoch, legs=self.legs)


class Loader:
    """An epoch of batches; iterating it starts the worker processes.

    Attributes:
        num_batches: batches of the whole epoch on this rank, skipped ones included.
        plan_digest: of the training batches, over all ranks, that are not in earlier legs.
        interrupted: asked while no batch comes; True ends the loading.
    """

    def __init__(
        self,
        dataset: BatchDataset,
        sampler: Iterable[SampledBatch],
        *,
        num_workers: int,
        num_batches: int,
        plan_digest: str = "",
    ) -> None:
        self.num_batches = num_batches
        self.plan_digest = plan_digest
        self.interrupted: Callable[[], bool] = lambda: False
        self._dataset = dataset
        self._sampler = sampler
        self._num_workers = num_workers

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches in their order.

        Raises:
            DataError: none of the cuts of a batch can be read.
            ResourceError: the worker processes were killed or do not answer.
            LoadingStoppedError: ``interrupted`` said so.
        """
        for item in self._items():
            if isinstance(item, UnreadableCut):
                raise DataError(
                    f"no cut of batch {item.index} can be read; {item.reason}.",
                    "see that the files named in the manifests are in place and whole "
                    "(./prepare.sh --stage 4 lists what is not)",
                )
            yield item

    def _items(self) -> Iterator[Batch | UnreadableCut]:
        if self._num_workers == 0:
            return map(self._dataset.__getitem__, self._sampler)
        return batches_of_workers(self._torch_loader, lambda: self.interrupted())

    def _torch_loader(self, start: int) -> DataLoader[Any]:
        """Return torch's loader from the item number ``start`` on."""
        return DataLoader(
            ToldFaults(self._dataset),
            sampler=_From(self._sampler, start),
            batch_size=None,
            num_workers=self._num_workers,
            collate_fn=to_share,
            worker_init_fn=prepare_worker,
            multiprocessing_context=process_context(),
            timeout=TICK_SECONDS,
            # A thread copies what comes to where a GPU reads it while the host goes on.
            pin_memory=torch.cuda.is_available(),
            # Without one of its own, the loader draws from the generator of the training process.
            generator=generator_for(0),
        )


@dataclass(frozen=True, slots=True)
class _From:
    """A sampler without its first items."""

    sampler: Iterable[SampledBatch]
    start: int

    def __iter__(self) -> Iterator[SampledBatch]:
        return islice(self.sampler, self.start, None)


def train_loader(
    cuts: TrainCuts,
    data: DataConfig,
    augment: AugmentConfig,
    place: EpochPosition,
    *,
    doubled: bool = False,
    late: bool = False,
) -> Loader:
    """Return the batches of one epoch on one rank.

    The batches depend on the cuts, the two configs, ``place``, ``doubled`` and ``late``, bit for
    bit; not on how many batches are skipped, nor on the number of workers but where an epoch of
    cuts in shards is planned, whose layout has it.

    Args:
        cuts: filtered already.
        data: workers, and how features are read.
        augment: SpecAugment and noise.
        place: which epoch, on which rank, from where on, in which layout.
        doubled: give a second view of each batch, for consistency training; see ``two_views``.
        late: SpecAugment is drawn by the loader, and applied where ``Batch.to`` brings the batch;
            so are features of sound computed there.

    Raises:
        DataError: not one batch can be filled.
    """
    plan = place.plan(cuts.lengths)
    first = sum(leg.steps for leg in place.legs)
    if first + len(plan) == 0:
        raise _nothing_to_train(cuts, place.layout)
    seed, epoch, rank = place.seed, place.epoch, place.rank
    recipe = FeatureRecipe(
        read=_input_strategy(cuts.source, data, wave_effects(augment)),
        join=_join_cuts(data),
        noise=mix_noise(augment, data.manifest_dir, allow_commands=data.allow_commands),
        mask=None if doubled else spec_augment(augment, epoch),
        views=two_views(augment, epoch) if doubled else None,
        copies=place.layout.copies,
        pauses=pauses_of(augment, epoch, data.max_cut_duration),
        late=late,
    )
    return Loader(
        BatchDataset(cuts.source, recipe, (seed, epoch, rank)),
        PlannedBatches(
            plan,
            cuts.lengths,
            rank,
            first=first,
            start=place.start,
            copies=place.layout.copies,
        ),
        num_workers=data.workers,
        num_batches=first + len(plan),
        plan_digest=plan.digest(),
    )


def valid_loader(
    cuts: CutSet,
    data: DataConfig,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | None = None,
) -> Loader:
    """Return all cuts in batches of similar length, shared out over the ranks, each cut once.

    Ranks may get numbers of batches that differ by one: do not synchronise within the loop.

    Args:
        cuts: all of them.
        data: workers, and how features are read.
        rank: of this process.
        world_size: number of processes.
        device: that batches are brought to by ``Batch.to``: if it is a GPU, it computes the
            features of sound.
    """
    source = list(cuts)
    seconds = [cut.duration for cut in source]
    batches = eval_batches(seconds, data.max_duration, rank=rank, world_size=world_size)
    late = device is not None and device.type == "cuda"
    recipe = FeatureRecipe(read=_input_strategy(source, data), late=late)
    return Loader(
        BatchDataset(source, recipe, (0, 0, rank)),
        batches,
        num_workers=data.workers,
        num_batches=len(batches),
    )


def test_loader(
    cuts: CutSet,
    data: DataConfig,
    device: torch.device | None = None,  # noqa: PT028 - no test of pytest's
) -> Loader:
    """Return all cuts in batches of similar length, longest first, each cut once.

    Args:
        cuts: all of them.
        data: workers, and how features are read.
        device: see ``valid_loader``.

    Raises:
        DataError: a cut has no transcript, or several, so that nothing can be compared with it.
    """
    for cut in cuts:
        if len(cut.supervisions) != 1:
            raise DataError(
                f"cut {cut.id} has {len(cut.supervisions)} transcripts, not one.",
                "./prepare.sh --stage 4 lists all such cuts; mend or remove them.",
            )
    return valid_loader(cuts, data, device=device)


def load_cuts(
    manifest_dir: Path, corpus: str, splits: Sequence[str], *, allow_commands: bool = False
) -> CutSet:
    """Return the cuts of the given splits, joined in this order.

    Small manifests are read into memory, large ones lazily from disk. What ``quarantine.tsv`` in
    ``manifest_dir`` lists is left out.

    Args:
        manifest_dir: where ``compute_and_store`` wrote.
        corpus: first part of the file names.
        splits: last part of the file names.
        allow_commands: shell commands that the manifests name may run.

    Raises:
        DataError: a manifest is missing, empty or damaged, or names commands that may not run.
    """
    if not splits:
        raise DataError(f"no split of {corpus} was asked for.", "name one in the recipe")
    parts = [
        _load_all(manifests_of_split(manifest_dir, corpus, split), allow_commands=allow_commands)
        for split in splits
    ]
    quarantine = Quarantine.read(manifest_dir)
    if len(quarantine):
        parts = [part.filter(lambda cut: not is_left_out(cut, quarantine)) for part in parts]
    if any(part.is_lazy for part in parts):
        return sum(parts[1:], start=parts[0])
    return CutSet.from_cuts(cut for part in parts for cut in part)


def are_large(paths: Sequence[Path]) -> bool:
    """Say whether manifests are too large, together, to be held in memory as objects."""
    return sum(path.stat().st_size for path in paths) > _EAGER_BYTES


def load_extra(extra: Extra) -> CutSet:
    """Return the cuts of a corpus that is mixed in.

    Raises:
        DataError: its manifest is missing, empty or damaged, or names commands that may not run.
    """
    cuts = _load_all(manifests_at(extra.path), extra.fix, allow_commands=extra.allow_commands)
    quarantine = Quarantine.read(extra.path.parent)
    return cuts.filter(lambda cut: not is_left_out(cut, quarantine))


def _load_all(
    paths: Sequence[Path],
    fix: str = "run ./prepare.sh --stage 2 first",
    *,
    allow_commands: bool = False,
) -> CutSet:
    """Return the cuts of manifests, one after another."""
    for path in paths:
        if not path.is_file():
            raise DataError(f"there are no features: {path} does not exist.", fix)
    lazy = are_large(paths)
    parts = [_load(path, fix, lazy=lazy, allow_commands=allow_commands) for path in paths]
    if len(parts) == 1:
        return parts[0]
    if lazy:
        return CutSet(LazyIteratorChain(*parts))
    return CutSet.from_cuts(cut for part in parts for cut in part)


def _load(path: Path, fix: str, *, lazy: bool, allow_commands: bool) -> CutSet:
    try:
        cuts = read_cuts(path, allow_commands=allow_commands)
        if not lazy:
            cuts = cuts.to_eager()
        first = next(iter(cuts), None)
    except BROKEN_MANIFEST as error:
        raise broken_manifest(path, error) from error
    if first is None:
        raise DataError(f"{path} is empty: it lists no cuts.", fix)
    return cuts


def _nothing_to_train(cuts: TrainCuts, layout: BatchingConfig) -> DataError:
    copies = f" in {layout.copies} copies" if layout.copies > 1 else ""
    return DataError(
        f"{len(cuts)} cuts ({cuts.hours * 3600:.0f} s) do not fill one batch of "
        f"{layout.budget.max_duration:g} s{copies} for each of {layout.world_size} processes.",
        "give a smaller --max-duration, or --drop-last 0",
    )


def _input_strategy(
    cuts: CutSource, data: DataConfig, effects: Sequence[WaveEffect] = ()
) -> BatchIO:
    if data.from_audio:
        # One by one: a batch would be padded first, which changes the last frames of short cuts.
        return OnTheFlyFeatures(fbank_extractor(), [*effects], use_batch_extract=False)
    if len(cuts) and not cuts[0].has_features:
        raise DataError(
            f"cut {cuts[0].id} has no stored features.",
            "run ./prepare.sh --stage 2 first, or give --on-the-fly-feats 1",
        )
    return PrecomputedFeatures()


def _join_cuts(data: DataConfig) -> JoinCuts | None:
    if not data.concatenate_cuts:
        return None
    join: JoinCuts = CutConcatenate(gap=data.gap, duration_factor=data.duration_factor)
    return join
