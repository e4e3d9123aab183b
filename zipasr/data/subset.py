"""A few cuts that stand for a set."""

from __future__ import annotations

from lhotse import CutSet


def evenly_spread(cuts: CutSet, count: int) -> CutSet:
    """Return ``count`` of ``cuts`` in their order, evenly spread; all when there are not more.

    Neighbours are often of one speaker, so the first ones alone would not stand for all.
    """
    every = list(cuts)
    if len(every) <= count:
        return cuts
    return CutSet.from_cuts(every[place * len(every) // count] for place in range(count))
