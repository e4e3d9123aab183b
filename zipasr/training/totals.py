"""Running sums of the losses: of all batches and, where there are several corpora, of each."""

from __future__ import annotations

from collections.abc import Sequence

from zipasr.training.metrics import Metrics
from zipasr.training.update import Measured

DECAY = 1 - 1 / 200  # per update


def tag_of(corpus: str) -> str:
    """Return what a corpus is called in the names of scalars: libri for librispeech."""
    return corpus.removesuffix("speech") or corpus


class Totals:
    """The decayed sums of an epoch, and the sums of its last update.

    The sums of a corpus decay only in the updates that it takes part in.

    Attributes:
        all: of all batches.
        last: of the last update.
        of: corpus -> of its batches; empty where there is only one corpus.
        last_of: the same of the last update, of the corpora in it.
    """

    def __init__(self) -> None:
        self.all = Metrics()
        self.last = Metrics()
        self.of: dict[str, Metrics] = {}
        self.last_of: dict[str, Metrics] = {}

    def add(self, update: Metrics, parts: Sequence[Measured]) -> None:
        """Take note of an update.

        Args:
            update: its sums.
            parts: the batches that it was made of.
        """
        self.last = update
        self.all.add(update, DECAY)
        self.last_of = {}
        for batch, metrics in parts:
            if batch.corpus:
                self.last_of.setdefault(tag_of(batch.corpus), Metrics()).add(metrics)
        for tag, metrics in self.last_of.items():
            self.of.setdefault(tag, Metrics()).add(metrics, DECAY)

    def scalars(self) -> dict[str, Metrics]:
        """Return the beginnings of the names of scalars, as icefall has them -> sums."""
        found = {"current": self.last, "tot": self.all}
        found |= {f"current_{tag}": metrics for tag, metrics in self.last_of.items()}
        return found | {f"{tag}_tot": metrics for tag, metrics in self.of.items()}

    def __str__(self) -> str:
        each = "".join(f"; {tag}: {metrics}" for tag, metrics in sorted(self.of.items()))
        return f"{self.last}; running: {self.all}{each}"
