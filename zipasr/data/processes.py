"""How the helper processes of this room are started."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from multiprocessing.context import BaseContext

import torch


def process_context() -> BaseContext:
    """Return the cheapest safe way to start a process here.

    On Linux a fork costs milliseconds where a fresh interpreter needs seconds to import torch and
    lhotse, and it is safe because the children neither touch the GPU nor use more than one thread
    of torch. Elsewhere the system libraries do not survive a fork.
    """
    return multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")


def quiet_worker(_index: int = 0) -> None:
    """Prepare a helper process: one thread, and signals are left to the parent to act on.

    A terminal or a job scheduler signals all processes at once; the parent still needs its data to
    finish the batch and save.
    """
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
