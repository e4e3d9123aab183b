"""Ctrl-C and SIGTERM: finish the batch, save, stop; a second Ctrl-C stops at once."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

import torch

from zipasr.base.distributed import World, all_reduce_sum


class StopRequest:
    """Remember, inside a ``with`` block, that a signal asked to stop."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> StopRequest:
        self._previous = {
            number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True

    def agreed(self, world: World) -> bool:
        """Say whether any process was asked to stop; all processes get the same answer.

        The signal may arrive between two different batches in two processes, so they ask each other
        after every batch.
        """
        if world.size == 1:
            return self.requested
        asked = torch.tensor(float(self.requested), device=world.device)
        return float(all_reduce_sum(asked, world)) > 0
