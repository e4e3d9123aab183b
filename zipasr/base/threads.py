"""Independent pieces of work on all threads that torch may use, for loops that free the GIL."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch


def in_threads(work: Callable[[int], None], num_items: int) -> None:
    """Call ``work(0)`` to ``work(num_items - 1)``, on ``torch.get_num_threads()`` threads.

    Each item runs on one thread, so results do not depend on the number of threads.
    """
    helpers = min(torch.get_num_threads(), num_items) - 1
    items = iter(range(num_items))  # shared: a thread that is done takes the next item

    def take() -> None:
        for item in items:
            work(item)

    if helpers <= 0:
        take()
        return
    pending = [_pool(torch.get_num_threads(), os.getpid()).submit(take) for _ in range(helpers)]
    try:
        take()
    finally:
        for future in pending:
            future.result()


@functools.cache
def _pool(num_threads: int, _process: int) -> ThreadPoolExecutor:
    # Of one process: a fork has the object, but not the threads.
    return ThreadPoolExecutor(
        num_threads, "zipasr", initializer=torch.set_flush_denormal, initargs=(True,)
    )
