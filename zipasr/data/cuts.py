"""Training cuts by number: their lengths in small arrays, the cuts themselves on demand."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from lhotse.cut import Cut

from zipasr.data.epoch_plan import CutLengths
from zipasr.data.filters import DropReport, JudgedCut, TrainFilter
from zipasr.data.shards import shard_of


class CutSource(Protocol):
    """Cuts by number, in memory or on disk; can be sent to another process."""

    def __getitem__(self, number: int, /) -> Cut:
        """Return a cut."""

    def __len__(self) -> int:
        """N, the number of cuts."""


@dataclass(frozen=True, slots=True)
class DataIdentity:
    """Fingerprint of the training data, to compare two runs.

    Attributes:
        cuts: number of cuts.
        hours: of speech.
        names: digest of their ids, in order.
        seconds: digest of their durations.
        tokens: digest of the lengths of their transcripts in tokens.
    """

    cuts: int
    hours: float
    names: str
    seconds: str
    tokens: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DataIdentity:
        """Read back what ``to_dict`` gave."""
        return cls(**values)

    def differences(
        self, other: DataIdentity, when: tuple[str, str] = ("then", "now")
    ) -> list[str]:
        """Say in words what is different in ``other``; nothing when the data are the same.

        Args:
            other: to compare with.
            when: what to call these data and the others.
        """
        found = []
        if (self.cuts, self.seconds) != (other.cuts, other.seconds):
            mine, others = (f"{d.cuts} cuts of {d.hours:.2f} h" for d in (self, other))
            found.append(f"{mine} {when[0]}, {others} {when[1]}")
        if self.names != other.names:
            found.append("other names, or another order")
        if self.tokens != other.tokens:
            found.append("other transcripts, or another tokenizer")
        return found


@dataclass(frozen=True, slots=True)
class TrainCuts:
    """The cuts of a training set that can be trained on.

    Attributes:
        source: the cuts by number.
        lengths: what the plan of an epoch needs to know of each.
        names: digest of the ids of the cuts, in order.
    """

    source: CutSource
    lengths: CutLengths
    names: str

    def __len__(self) -> int:
        """N, the number of cuts."""
        return len(self.lengths)

    @property
    def hours(self) -> float:
        """Speech in all, in hours."""
        return float(self.lengths.seconds.sum()) / 3600

    def identity(self) -> DataIdentity:
        """Return what tells these data from others."""
        return DataIdentity(
            cuts=len(self),
            hours=self.hours,
            names=self.names,
            seconds=_digest(self.lengths.seconds.tobytes()),
            tokens=_digest(self.lengths.tokens.tobytes()),
        )


def judge_cuts(cuts: Sequence[Cut], wanted: TrainFilter) -> list[JudgedCut]:
    """Return what is to be noted of cuts.

    Args:
        cuts: that may be trained on.
        wanted: the filter of the training.
    """
    return [
        JudgedCut(cut.id, cut.duration, reason, tokens, shard_of(cut) if reason is None else "")
        for cut, (reason, tokens) in zip(cuts, wanted.judge_all(cuts), strict=True)
    ]


class TrainCutsBuilder:
    """Note cuts one by one: lengths and names of those that are kept, counts of all."""

    def __init__(self) -> None:
        self.report = DropReport()
        self._seconds = array("d")
        self._tokens = array("q")
        self._names = hashlib.blake2b(digest_size=8)
        self._shards = array("q")
        self._known: dict[str, int] = {"": -1}

    def add(self, cut: JudgedCut) -> bool:
        """Note a cut; say whether it is kept."""
        self.report.add(cut, cut.reason)
        if cut.reason is not None:
            return False
        self._seconds.append(cut.duration)
        self._tokens.append(cut.tokens)
        self._shards.append(self._known.setdefault(cut.shard, len(self._known) - 1))
        self._names.update(f"{cut.id}\n".encode())
        return True

    def lengths(self) -> CutLengths:
        """Return the lengths of the cuts that were kept."""
        shards = np.asarray(self._shards, np.int64)
        return CutLengths(
            np.asarray(self._seconds, np.float64),
            np.asarray(self._tokens, np.int64),
            shards=shards if len(shards) and shards.min() >= 0 else None,
        )

    def names(self) -> str:
        """Return the digest of the names of the cuts that were kept."""
        return self._names.hexdigest()


def in_memory(
    cuts: Iterable[Cut], wanted: TrainFilter | None = None
) -> tuple[TrainCuts, DropReport]:
    """Keep the cuts that can be trained on, as objects.

    Args:
        cuts: all cuts.
        wanted: the filter; None keeps all, and does not count their tokens.
    """
    wanted = wanted or TrainFilter(min_duration=0.0, max_duration=float("inf"))
    register = TrainCutsBuilder()
    kept = [cut for cut in cuts if register.add(judge_cuts([cut], wanted)[0])]
    return TrainCuts(kept, register.lengths(), register.names()), register.report


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
