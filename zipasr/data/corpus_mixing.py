"""More training corpora beside the main one: which step takes a batch of which.

As in the published recipe with GigaSpeech, a batch never mixes corpora, all ranks take the same
choice, and the epoch ends when the first corpus runs out. What an epoch takes of the others is
drawn anew from all they have, so the plan still follows from seed, epoch and layout alone.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from lhotse.cut import Cut
from numpy.typing import NDArray

from zipasr.base.errors import DataError
from zipasr.base.seed import derive_seed
from zipasr.data.config import Extra
from zipasr.data.cuts import CutSource, TrainCuts
from zipasr.data.epoch_plan import (
    BatchingConfig,
    CutLengths,
    EpochSegment,
    Plan,
    PlanPart,
)
from zipasr.data.shard_plan import plan_for_readers

Choices = NDArray[np.int64]

_BLOCK = 4096
_CHOICES = 1 << 40  # keeps the seeds of the choices apart from those of the plans


@dataclass(frozen=True, slots=True)
class MixedSources:
    """Cuts by number, set after set.

    Attributes:
        sets: of cuts.
        ends: number after the last cut of each.
    """

    sets: tuple[CutSource, ...]
    ends: tuple[int, ...]

    def __len__(self) -> int:
        """N, the number of cuts."""
        return self.ends[-1]

    def __getitem__(self, number: int) -> Cut:
        """Return a cut."""
        part = bisect_right(self.ends, number)
        return self.sets[part][number - (self.ends[part - 1] if part else 0)]


def combine_sources(
    main: TrainCuts, extras: Sequence[tuple[Extra, TrainCuts]], name: str = "the first corpus"
) -> TrainCuts:
    """Return all cuts as one set that knows its parts; the first part counts the epochs.

    Args:
        main: the corpus of the recipe.
        extras: what is mixed in.
        name: of ``main``.

    Raises:
        DataError: one that is mixed in has the name of the first.
    """
    if not extras:
        return main
    if name in [extra.name for extra, _ in extras]:
        raise DataError(
            f"--extra-manifest: {name} is the recipe's own corpus.", "call it otherwise"
        )
    sets = [main, *(cuts for _, cuts in extras)]
    share = 1.0 - sum(extra.weight for extra, _ in extras)
    parts = (
        PlanPart(name, len(main), share),
        *(PlanPart(extra.name, len(cuts), extra.weight) for extra, cuts in extras),
    )
    lengths = CutLengths(
        np.concatenate([cuts.lengths.seconds for cuts in sets]),
        np.concatenate([cuts.lengths.tokens for cuts in sets]),
        parts,
        shards_of([cuts.lengths for cuts in sets]),
    )
    source = MixedSources(
        tuple(cuts.source for cuts in sets), tuple(np.cumsum([len(cuts) for cuts in sets]).tolist())
    )
    said = repr([(cuts.names, part.weight) for cuts, part in zip(sets, parts, strict=True)])
    return TrainCuts(source, lengths, hashlib.blake2b(said.encode(), digest_size=8).hexdigest())


def shards_of(sets: Sequence[CutLengths]) -> NDArray[np.int64] | None:
    """Number the shards of all sets; a set without any counts as one."""
    if all(lengths.shards is None for lengths in sets):
        return None
    numbered, first = [], 0
    for lengths in sets:
        shards = np.zeros(len(lengths), np.int64) if lengths.shards is None else lengths.shards
        numbered.append(shards + first)
        first += int(shards.max(initial=0)) + 1
    return np.concatenate(numbered)


def mixed_plan(
    lengths: CutLengths,
    layout: BatchingConfig,
    *,
    seed: int,
    epoch: int,
    legs: Sequence[EpochSegment] = (),
) -> Plan:
    """Plan an epoch of one corpus (see ``plan_for_readers``) or of several.

    Args:
        lengths: of all cuts, part after part.
        layout: of the steps to come.
        seed: of the run.
        epoch: counted from 1.
        legs: what was trained of this epoch in other layouts, in order.

    Raises:
        DataError: a corpus does not fill one batch.
    """
    if not lengths.parts:
        return plan_for_readers(lengths, layout, seed=seed, epoch=epoch, legs=legs)
    # Steps of other corpora come between: whose turn it is then, no plan of one corpus knows.
    layout = replace(layout, num_readers=1)
    legs = [replace(leg, layout=replace(leg.layout, num_readers=1)) for leg in legs]
    weights = np.array([part.weight for part in lengths.parts])
    own_legs = []
    for number, leg in enumerate(legs):
        key = (seed, epoch if leg.layout.shuffle else 0, number)
        chosen = _choices(weights, key, num_steps=leg.steps)
        own_legs.append(EpochSegment(leg.layout, int((chosen == 0).sum())))
    first = plan_for_readers(lengths.part(0), layout, seed=seed, epoch=epoch, legs=own_legs)
    key = (seed, epoch if layout.shuffle else 0, len(legs))
    chosen = _choices(weights, key, num_first=len(first))
    counts = np.bincount(chosen, minlength=len(weights))
    plans = [first]
    for number in range(1, len(weights)):
        plans.append(_repeated(lengths, number, layout, key, int(counts[number])))
    return _interleaved(lengths, plans, chosen)


def _choices(
    weights: NDArray[np.float64],
    key: tuple[int, ...],
    *,
    num_steps: int | None = None,
    num_first: int = 0,
) -> Choices:
    """Draw the part of each step: so many steps, or until the first part had so many."""
    stream = np.random.PCG64(derive_seed(*key, _CHOICES))
    edges = np.cumsum(weights)[:-1]
    drawn = np.empty(0, np.int64)
    while True:
        enough = len(drawn) if num_steps is not None else int((drawn == 0).sum())
        if enough >= (num_first if num_steps is None else num_steps):
            break
        uniform = stream.random_raw(_BLOCK) / 2.0**64
        drawn = np.concatenate([drawn, np.searchsorted(edges, uniform, side="right")])
    if num_steps is not None:
        return drawn[:num_steps]
    last = np.flatnonzero(drawn == 0)[num_first - 1] + 1 if num_first else 0
    return drawn[:last]


def _repeated(
    lengths: CutLengths, number: int, layout: BatchingConfig, key: tuple[int, ...], num_steps: int
) -> Plan:
    """Plan so many steps of a part: as many passes as that takes."""
    part = lengths.part(number)
    plans: list[Plan] = []
    while sum(map(len, plans)) < num_steps:
        seed = derive_seed(*key, number, len(plans))
        plans.append(plan_for_readers(part, layout, seed=seed, epoch=key[1]))
        if not len(plans[-1]):
            raise DataError(
                f"--extra-manifest: {lengths.parts[number].name} does not fill one batch of "
                f"{layout.budget.max_duration:g} s for each of {layout.world_size} processes.",
                "give a smaller --max-duration, or leave it out",
            )
    begins = _stacked([plan.begins for plan in plans], plans, layout.world_size)
    ends = _stacked([plan.ends for plan in plans], plans, layout.world_size)
    members = np.concatenate([np.empty(0, np.int64), *(plan.members for plan in plans)])
    return Plan(members, begins[:num_steps], ends[:num_steps])


def _stacked(
    bounds: Sequence[NDArray[np.int64]], plans: Sequence[Plan], world_size: int
) -> NDArray[np.int64]:
    """Join begins or ends, each counted from where the members of its plan begin."""
    offsets = np.cumsum([0, *(len(plan.members) for plan in plans)])
    moved = [rows + offset for rows, offset in zip(bounds, offsets, strict=False)]
    return np.concatenate([np.empty((0, world_size), np.int64), *moved])


def _interleaved(lengths: CutLengths, plans: Sequence[Plan], chosen: Choices) -> Plan:
    """Put the steps of all parts into the order that was drawn."""
    world_size = plans[0].begins.shape[1]
    begins = _stacked([plan.begins for plan in plans], plans, world_size)
    ends = _stacked([plan.ends for plan in plans], plans, world_size)
    members = np.concatenate(
        [plan.members + lengths.offset(number) for number, plan in enumerate(plans)]
    )
    rows = np.empty(len(chosen), np.int64)
    first_row = 0
    for number, plan in enumerate(plans):
        mine = chosen == number
        rows[mine] = first_row + np.arange(int(mine.sum()))
        first_row += len(plan)
    return Plan(members, begins[rows], ends[rows])
