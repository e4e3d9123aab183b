"""Who works through independent tasks: this process, several of this machine, or other machines."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from zipasr.base.errors import ResourceError
from zipasr.data.processes import process_context, quiet_worker

T = TypeVar("T")
R = TypeVar("R")
ExecutorName = Literal["local", "dask"]

_SECONDS_TO_CONNECT = 10


def work_through(
    work: Callable[[T], R], tasks: Sequence[T], *, num_jobs: int, scheduler: str | None = None
) -> Iterator[R]:
    """Yield the results in the order of the tasks.

    Args:
        work: a function that other processes can import.
        tasks: arguments, one for each call.
        num_jobs: processes on this machine.
        scheduler: address of a Dask scheduler, whose workers do the work instead; they need the
            same files under the same paths, and the same packages.

    Raises:
        ResourceError: a process was killed, or the scheduler cannot be reached.
    """
    if scheduler is not None:
        with dask_executor(scheduler) as executor:
            yield from executor.map(partial(_in_folder, work, Path.cwd()), tasks)
        return
    jobs = min(num_jobs, len(tasks))
    if jobs <= 1:
        yield from map(work, tasks)
        return
    try:
        with ProcessPoolExecutor(jobs, process_context(), initializer=quiet_worker) as pool:
            yield from pool.map(work, tasks)
    except BrokenProcessPool as error:
        raise ResourceError(
            "a process that computed features was killed, perhaps for lack of memory.",
            "run the stage again with a smaller --num-jobs",
        ) from error


@contextmanager
def dask_executor(scheduler: str) -> Iterator[Executor]:
    """Connect to a Dask scheduler; give the executor of its workers.

    Raises:
        ResourceError: the package is missing, or nobody answers.
    """
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError as problem:
        raise ResourceError(
            "--executor dask needs the package distributed, which is not installed.",
            "pip install distributed",
        ) from problem
    try:
        client = distributed.Client(scheduler, timeout=_SECONDS_TO_CONNECT)
    except (OSError, TimeoutError, ValueError) as problem:
        raise ResourceError(
            f"--scheduler {scheduler}: no Dask scheduler answers there.",
            "start one (dask scheduler), and workers (dask worker ADDRESS)",
        ) from problem
    with client:
        yield client.get_executor()


def _in_folder(work: Callable[[T], R], folder: Path, task: T) -> R:
    # Relative paths count from where the command was started, on every machine.
    os.chdir(folder)
    torch.set_num_threads(1)
    return work(task)
