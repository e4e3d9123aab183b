"""Epochs whose batches hold several copies of each utterance: how many copies, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@lru_cache(maxsize=8)
def copies_per_epoch(min_copies: int, max_copies: int, num_real_epochs: int) -> tuple[int, ...]:
    """Return how many copies of each utterance the batches of each epoch hold, in rising order.

    An epoch of n copies counts as n real epochs. Each number of copies gets about the same number
    of real epochs, so most epochs are of few copies, and they come first.

    Args:
        min_copies: smallest number of copies, at least 1.
        max_copies: largest number of copies, not below ``min_copies``.
        num_real_epochs: real epochs in all; the sum of the result may be up to ``max_copies - 1``
            larger.

    Source: icefall, pull request 2082, whose float sums are kept, so that the lists are the same.
    """
    share = 1.0 / (max_copies + 1 - min_copies)
    copies: list[int] = []
    progress = done = 0.0
    for number in range(max_copies, min_copies - 1, -1):
        progress += share
        is_last = number == min_copies
        target = num_real_epochs if is_last else int(0.5 + progress * num_real_epochs)
        while done < target:
            copies.append(number)
            done += number
    return tuple(reversed(copies))


@dataclass(frozen=True, slots=True)
class RealEpochs:
    """The epochs of a run.

    Attributes:
        copies: of each utterance in the batches of each epoch.
    """

    copies: tuple[int, ...]

    def __len__(self) -> int:
        """Number of the last epoch."""
        return len(self.copies)

    @property
    def total(self) -> int:
        """Real epochs in all."""
        return sum(self.copies)

    def copies_of(self, epoch: int) -> int:
        """Return the copies of an epoch, counted from 1; after the end, those of the last one."""
        return self.copies[min(epoch, len(self.copies)) - 1]

    def before(self, epoch: int) -> int:
        """Return the real epochs that are done when ``epoch`` begins."""
        return sum(self.copies[: epoch - 1])

    def ahead(self, epoch: int) -> int:
        """Return the real epochs that are to come when ``epoch`` has ended."""
        return sum(self.copies[epoch:])

    def text(self, epoch: int) -> str:
        """Return a line for the log about an epoch."""
        copies, done = self.copies_of(epoch), self.before(epoch)
        return (
            f"epoch {epoch} of {len(self)}: batches of {copies} copies of each utterance, "
            f"{done} of {self.total} real epochs done"
        )

    def first_of_each(self, start: int = 1) -> dict[int, int]:
        """Return each number of copies from epoch ``start`` on -> the first epoch that has it."""
        found: dict[int, int] = {}
        for epoch in range(start, len(self.copies) + 1):
            found.setdefault(self.copies[epoch - 1], epoch)
        return found
