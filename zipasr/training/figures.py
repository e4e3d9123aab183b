"""The progress line of a training: all that one wants to know of it, on one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from zipasr.base.progress import clock

GIB = 2**30


class Field(NamedTuple):
    """A part of the line; where there is no room, those with the highest rank go first."""

    rank: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What there is to say about a training at one moment.

    Attributes:
        epoch: in progress, from 1.
        num_epochs: the last one.
        batch: updates of the epoch that are done.
        num_batches: of the epoch; ``None`` when unknown, then no time to go is known either.
        loss: per frame, of the last update.
        running_loss: smoothed.
        learning_rate: the highest of all parameters.
        grad_norm: of the last update, each gradient weighted with the size of its parameter.
        audio_per_second: seconds of speech that all processes train on in a second.
        loading: share of the time in which the model waits for data.
        memory: bytes at most so far, bytes in all.
        notes: counts of what should not happen, such as ``("skipped", 2)``; zeros are not shown.
        epoch_seconds: until the end of the epoch.
        run_seconds: until the end of the run.
    """

    epoch: int
    num_epochs: int
    batch: int
    num_batches: int | None
    loss: float
    running_loss: float
    learning_rate: float
    grad_norm: float
    audio_per_second: float
    loading: float
    memory: tuple[int, int]
    notes: tuple[tuple[str, int], ...] = ()
    epoch_seconds: float | None = None
    run_seconds: float | None = None

    def fields(self) -> list[Field]:
        """Return the parts of the line in their order."""
        used, total = (count / GIB for count in self.memory)
        found = [
            Field(0, f"epoch {self.epoch}/{self.num_epochs}"),
            Field(0, f"batch {self.batch}/{self.num_batches or '?'}"),
            Field(0, f"loss {self.loss:.3g} (avg {self.running_loss:.3g})"),
            Field(4, f"lr {self.learning_rate:.2e}"),
            Field(5, f"|g| {self.grad_norm:.2g}"),
            Field(3, f"{self.audio_per_second:.0f} s-audio/s"),
            Field(6, f"load {100 * self.loading:.0f}%"),
            Field(7, f"mem {used:.1f}/{total:.1f}G"),
        ]
        found += [Field(1, f"{name} {count}") for name, count in self.notes if count]
        if self.epoch_seconds is not None and self.run_seconds is not None:
            times = f"eta epoch {clock(self.epoch_seconds)} run {clock(self.run_seconds)}"
            found.append(Field(2, times))
        return found

    def line(self, width: int | None = None) -> str:
        """Return the line; in ``width`` characters at most, if given."""
        return fit(self.fields(), width)


def fit(fields: Sequence[Field], width: int | None) -> str:
    """Join the fields, leaving out the least important ones until they fit into ``width``."""
    kept = list(fields)
    while True:
        text = "  ".join(field.text for field in kept)
        if width is None or len(text) <= width:
            return text
        least = max(kept)
        if least.rank == 0:
            return text[:width]
        kept.remove(least)
