"""Work on a GPU that is recorded as a CUDA graph and replayed: one launch instead of many."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import torch

logger = logging.getLogger(__name__)

#: Graphs that are kept, with the buffers that they read and write.
MOST_GRAPHS = 16

T = TypeVar("T")


class Replay:
    """Work that reads and writes tensors at fixed places, whatever it is called with.

    The first call runs it as it is, which also compiles what has to be compiled; the second records
    it, as a shape that does not come again is not worth recording; from then on it is replayed.
    Where it cannot be recorded it goes on as it is.

    Args:
        work: operations of fixed shapes, for which the host never waits.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._has_run = False
        #: What it was recorded into, or ``None``.
        self.graph: Any = None

    def __call__(self) -> None:
        """Do the work."""
        if self._has_run and self.graph is None:
            self.graph = _recorded(self._work)
        self._has_run = True
        if self.graph is None:
            self._work()
        else:
            self.graph.replay()


def _recorded(work: Callable[[], None]) -> Any:
    try:
        graph = torch.cuda.CUDAGraph()
        # Others, such as a thread that pins memory, may call CUDA meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            work()
    except RuntimeError as problem:
        reason = (str(problem).strip() or "no message").splitlines()[0]
        logger.warning("decoding on the GPU is not recorded as a CUDA graph: %s", reason)
        return _Unrecorded(work)
    return graph


class _Unrecorded:
    """What takes the place of a graph that could not be recorded."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.replay = work


class Recent(Generic[T]):
    """The things that were used last, by key; older ones are dropped."""

    def __init__(self, most: int = MOST_GRAPHS) -> None:
        self._things: OrderedDict[Hashable, T] = OrderedDict()
        self._most = most

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is there under a key, made if it is not."""
        if key not in self._things:
            while len(self._things) >= self._most:
                self._things.popitem(last=False)
            self._things[key] = make()
        self._things.move_to_end(key)
        return self._things[key]


def power_of_two(size: int) -> int:
    """Return the smallest power of two that is not below ``size``: so shapes are few."""
    return 1 << max(0, size - 1).bit_length()
