"""Text as numbers: the ids of many sentences in one array."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]
Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sentences:
    """Sequences of ids, 4 bytes an id however many sentences there are.

    Attributes:
        ids: of all sentences, one after the other.
        ends: (N,), where each sentence ends in ``ids``.
    """

    ids: Ids
    ends: Places

    @classmethod
    def of(cls, sequences: Iterable[Sequence[int]]) -> Sentences:
        """Gather sequences; they may be more than memory holds as lists."""
        ids, ends = array("i"), array("q")
        for sequence in sequences:
            ids.extend(sequence)
            ends.append(len(ids))
        return cls(np.array(ids, dtype=np.int32), np.array(ends, dtype=np.int64))

    @property
    def starts(self) -> Places:
        """(N,), where each sentence starts in ``ids``."""
        return np.concatenate((np.zeros(min(1, len(self.ends)), dtype=np.int64), self.ends[:-1]))

    @property
    def lens(self) -> Places:
        """(N,), length of each sentence."""
        return self.ends - self.starts

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> list[int]:
        start = int(self.ends[index - 1]) if index else 0
        ids: list[int] = self.ids[start : int(self.ends[index])].tolist()
        return ids
