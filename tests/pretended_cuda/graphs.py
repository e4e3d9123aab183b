"""CUDA graphs of the pretended device: operations are recorded, and done again in their places.

As on a device, nothing is done while it is recorded: what the operations wrote is put back. A wait,
or a copy from the host, is an error then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tests.pretended_cuda.costs import Cost, leaves
from tests.pretended_cuda.record import note_cost

_recording: list[Graph] = []


class Graph:
    """What ``torch.cuda.CUDAGraph`` is; a replay counts as one launch.

    Attributes:
        num_kernels: launches that a replay takes the place of.
    """

    def __init__(self, *_: Any, **__: Any) -> None:
        self._work: list[Callable[[], None]] = []
        self._cost = Cost()
        self._saved: dict[int, tuple[Any, Any]] = {}

    @property
    def num_kernels(self) -> int:
        return self._cost.launches

    def replay(self) -> None:
        note_cost("graph", Cost(1, self._cost.moved))
        with torch.utils._python_dispatch._disable_current_modes():
            for work in self._work:
                work()

    def save(self, tensors: Iterable[Tensor]) -> None:
        """Keep what tensors on the host hold, before it is written over."""
        for x in tensors:
            storage = x.untyped_storage()
            if storage._cdata not in self._saved:
                self._saved[storage._cdata] = storage, storage.clone()

    def put_back(self) -> None:
        for storage, content in self._saved.values():
            storage.copy_(content)
        self._saved.clear()

    def add(self, work: Callable[[], Any], out: Any, cost: Cost) -> None:
        """Record an operation, which puts its result where it was put the first time."""

        def again() -> None:
            for old, new in zip(leaves(out), leaves(work()), strict=True):
                if isinstance(old, Tensor) and old is not new:
                    old.copy_(new)

        self._work.append(again)
        self._cost = self._cost.plus(cost)


@contextmanager
def recording_into(graph: Graph, *_: Any, **__: Any) -> Iterator[None]:
    """What ``torch.cuda.graph`` is."""
    _recording.append(graph)
    try:
        yield
    finally:
        _recording.remove(graph)
        graph.put_back()


def recording() -> Graph | None:
    """Return the graph that operations are recorded into, if any."""
    return _recording[-1] if _recording else None


def refuse_while_recording(what: str) -> None:
    if _recording:
        raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing: {what}")


def note_or_record(what: str, work: Callable[[], Any], out: Any, cost: Cost) -> None:
    """Note what an operation costs, or record it if it costs something."""
    graph = recording()
    if graph is None:
        note_cost(what, cost)
    elif cost.launches:
        graph.add(work, out, cost)
