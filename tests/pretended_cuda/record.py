"""What happened on the pretended device, by phase of a step and line of the library."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from typing import NamedTuple

import torch

from tests.pretended_cuda.costs import Cost

#: Folder whose files are named; the innermost frame in one of them counts.
LIBRARY = "/zipasr/"
#: It launches for others.
LAUNCHER = "kernels/launch.py"


class Place(NamedTuple):
    """``forward``, ``backward`` or ``optimizer``; a line of the library; an operation."""

    phase: str
    line: str
    what: str

    @property
    def file(self) -> str:
        return self.line.split(":")[0]


class Record:
    """Counts since it was made.

    Attributes:
        costs: launches and bytes.
        waits: how often the host waited until the device had done all that was launched.
        copies: how often something was copied from the host.
    """

    def __init__(self) -> None:
        self.costs: dict[Place, Cost] = {}
        self.waits: Counter[Place] = Counter()
        self.copies: Counter[Place] = Counter()

    @property
    def total(self) -> Cost:
        return reduce(Cost.plus, self.costs.values(), Cost())

    @property
    def num_waits(self) -> int:
        return sum(self.waits.values())

    @property
    def num_copies(self) -> int:
        return sum(self.copies.values())

    def by_file(self) -> dict[str, Cost]:
        sums: dict[str, Cost] = {}
        for place, cost in self.costs.items():
            sums[place.file] = sums.get(place.file, Cost()).plus(cost)
        return dict(sorted(sums.items(), key=lambda item: -item[1].moved))

    def told(self, most: int = 12) -> str:
        """Return the waits and the lines with most launches, for the message of a test."""
        waits = [f"{n:6} waits at {' '.join(p)}" for p, n in self.waits.most_common(most)]
        copies = [f"{n:6} copies at {' '.join(p)}" for p, n in self.copies.most_common(most)]
        costs = sorted(self.costs.items(), key=lambda item: -item[1].launches)[:most]
        lines = [f"{c.launches:6} launches at {' '.join(p)}" for p, c in costs]
        return "\n".join(["", *waits, *copies, *lines])


_records: list[Record] = []
_waits: list[None] = []
#: Line of the forward operation that made an autograd node, by the sequence number of the node.
_lines: dict[int, str] = {}


@contextmanager
def recorded() -> Iterator[Record]:
    """Record what happens on the device inside a ``with`` block."""
    record = Record()
    _records.append(record)
    try:
        yield record
    finally:
        _records.remove(record)
        _lines.clear()


def note_cost(what: str, cost: Cost) -> None:
    if _records and cost.launches:
        place = here(what)
        for record in _records:
            record.costs[place] = record.costs.get(place, Cost()).plus(cost)


def note_wait(what: str) -> None:
    _waits.append(None)
    for record in _records:
        record.waits[here(what)] += 1


def num_waits() -> int:
    """Return how often the host has waited so far, recorded or not."""
    return len(_waits)


def note_copy(what: str) -> None:
    for record in _records:
        record.copies[here(what)] += 1


def note_line() -> None:
    """Remember where the autograd node of the operation that runs now comes from."""
    if _records and torch.is_grad_enabled() and torch._C._current_autograd_node() is None:
        number = torch._C._autograd._get_sequence_nr() - 1
        if number not in _lines:
            _lines[number] = _innermost_line()


def here(what: str) -> Place:
    line = _innermost_line()
    node = torch._C._current_autograd_node()
    if node is not None:
        if not line:  # torch's own backward pass
            line = _lines.get(node._sequence_nr(), node.name())
        return Place("backward", line, what)
    return Place("optimizer" if line.startswith("optim/") else "forward", line or "?", what)


def _innermost_line() -> str:
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        at = name.rfind(LIBRARY)
        if at >= 0 and not name.endswith(LAUNCHER):
            return f"{name[at + len(LIBRARY) :]}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""
