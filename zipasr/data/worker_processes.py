"""Batches from worker processes that are watched: killed, stopped, silent, short of shared memory.

torch's loader alone waits for ever for a worker that cannot answer, and cannot end it either:
workers take no notice of SIGTERM, which a terminal or a scheduler sends to all processes alike.
"""

from __future__ import annotations

import logging
import pickle
import resource
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zipasr.base.distributed import process_state
from zipasr.base.environment import return_free_memory
from zipasr.base.errors import ResourceError, UserError, is_machine_fault

logger = logging.getLogger(__name__)

TICK_SECONDS = 5.0  # between two looks at the workers while none of them answers
STOPPED_SECONDS = 30.0  # that a worker may be stopped
SLOW_SECONDS = 60.0  # of waiting, after which it is said
SILENT_SECONDS = 600.0  # of waiting, after which it ends
JOIN_SECONDS = 1.0  # that workers get to end by themselves
FEW_FILES = 64  # that a process needs to read data at all
NO_ROOM = (
    "shared memory (/dev/shm) has no room for a batch of %.0f MB: batches that do not fit come "
    "through a pipe, which is slower"
)


class LoadingStoppedError(Exception):
    """The program was asked to stop while it waited for a batch."""


class WorkerLostError(Exception):
    """A worker process will not answer any more; says what became of it."""


class Fault(NamedTuple):
    """An exception of a worker, sent instead of raised: torch would raise it with its traceback.

    Attributes:
        kind: of a mistake that the user can act on; None is a fault of the program.
        what: see ``UserError``.
        fix: see ``UserError``.
    """

    kind: type[UserError] | None
    what: str
    fix: str = ""

    @classmethod
    def of(cls, error: Exception) -> Fault:
        """Return what is to be told of an exception."""
        if isinstance(error, UserError):
            return cls(type(error), error.what, error.fix)
        if is_machine_fault(error):
            return cls(
                ResourceError,
                f"data cannot be loaded: {' '.join(str(error).split())}.",
                "raise the limit (ulimit -n 4096), or give a smaller --num-workers or "
                "--max-duration.",
            )
        return cls(None, traceback.format_exc())

    def error(self) -> Exception:
        """Return the exception to raise in the main process."""
        return RuntimeError(self.what) if self.kind is None else self.kind(self.what, self.fix)


class ToldFaults(Dataset[Any]):
    """A dataset whose exceptions become items; see ``Fault``.

    Args:
        dataset: indexed with whatever the sampler gives.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __getitem__(self, index: Any) -> Any:
        """Return the item, or a ``Fault``."""
        try:
            return self._dataset[index]
        except Exception as error:
            return Fault.of(error)


class _Pickled(NamedTuple):
    """An item as bytes, which go through a pipe: no shared memory, no open files."""

    content: bytes


def to_share(item: Any) -> Any:
    """Move the tensors of an item into shared memory here, where a failure can be mended.

    The queue between the processes would do it in a thread, which drops an item that does not fit:
    ``/dev/shm`` has 64 MB in most containers.
    """
    try:
        for value in _tensors(item):
            value.share_memory_()  # type: ignore[no-untyped-call]
    except (RuntimeError, OSError):
        return _Pickled(pickle.dumps(item, protocol=pickle.HIGHEST_PROTOCOL))
    return item


def _tensors(item: Any) -> Iterator[Tensor]:
    if isinstance(item, Tensor):
        if not item.is_meta:
            yield item
        return
    for name in getattr(item, "__slots__", ()):
        yield from _tensors(getattr(item, name))


def check_open_files() -> None:
    """Raise the limit of open files as far as it goes.

    Raises:
        ResourceError: it is too low all the same.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft != hard:
        wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
        if wanted > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if soft != resource.RLIM_INFINITY and soft < FEW_FILES:
        raise ResourceError(
            f"this process may have {soft} open files; loading data needs {FEW_FILES}.",
            "ulimit -n 4096",
        )


def batches_of_workers(
    start: Callable[[int], DataLoader[Any]], interrupted: Callable[[], bool]
) -> Iterator[Any]:
    """Yield the items of worker processes in their order.

    Workers that are lost are replaced, once: an item depends on its place alone.

    Args:
        start: makes a loader that begins with the item of this number; its ``timeout`` is
            ``TICK_SECONDS``.
        interrupted: asked while no item comes.

    Raises:
        LoadingStoppedError: ``interrupted`` said so.
        ResourceError: workers were lost twice, or no item comes.
    """
    check_open_files()
    done, replaced = 0, False
    while True:
        try:
            for item in _watched(start(done), interrupted):
                if isinstance(item, Fault):
                    raise item.error()
                yield item
                done += 1
        except WorkerLostError as lost:
            if replaced:
                raise ResourceError(
                    f"a process that loads data {lost}, for the second time.",
                    "if nobody did that, the system ran out of memory: lower --num-workers or "
                    "--max-duration; then give the same command: it goes on from the last "
                    "checkpoint.",
                ) from lost
            replaced = True
            logger.warning(
                "a process that loads data %s, perhaps for lack of memory: it is replaced, once; "
                "with fewer --num-workers there is more memory for each",
                lost,
            )
        else:
            return


def _watched(loader: DataLoader[Any], interrupted: Callable[[], bool]) -> Iterator[Any]:
    """Yield the items of a loader; see ``batches_of_workers``."""
    iterator: Any = _started(loader)
    workers: list[BaseProcess] = iterator._workers
    # Before multiprocessing's own end, which waits for them without a limit: of the program, and of
    # a process of several that train, which runs nothing of atexit.
    ending = Finalize(None, _end, (workers,), exitpriority=0)
    reader = _Reader(iterator)
    del iterator  # of which the thread lets go when it ends
    is_told = False
    try:
        while True:
            try:
                item = reader.next_item(_Waiting(workers, interrupted))
            except StopIteration:
                return
            if isinstance(item, _Pickled):
                if not is_told:
                    logger.info(NO_ROOM, len(item.content) / 1e6)
                is_told = True
                item = pickle.loads(item.content)
            yield item
    finally:
        ending()
        reader.end()


class _Reader:
    """A thread that takes the items of a loader, so that the program never waits for ever.

    The message of a worker that was stopped has come, but not the memory that it speaks of: to
    fetch that is to ask the worker, which cannot answer.
    """

    def __init__(self, iterator: Any) -> None:
        self._pinning: threading.Thread | None = getattr(iterator, "_pin_memory_thread", None)
        self._wanted: SimpleQueue[bool] = SimpleQueue()
        self._found: SimpleQueue[tuple[Any, Exception | None]] = SimpleQueue()
        self._thread = threading.Thread(
            target=_read, args=(iterator, self._wanted, self._found), daemon=True
        )
        self._thread.start()

    def next_item(self, waiting: _Waiting) -> Any:
        """Return the next item, looking after the workers while none comes.

        Raises:
            StopIteration: there is none.
            WorkerLostError: it will not come, as for all that ``waiting`` raises.
        """
        self._wanted.put(True)
        while True:
            try:
                item, problem = self._found.get(timeout=2 * TICK_SECONDS)
            except Empty:
                waiting.look(2)
                continue
            if problem is None:
                return item
            if not isinstance(problem, (RuntimeError, EOFError, OSError)):
                raise problem
            waiting.look()
            _raise_unless_late(problem)
            if self._pinning is not None and not self._pinning.is_alive():
                raise WorkerLostError("sent what could not be received") from problem
            self._wanted.put(True)

    def end(self) -> None:
        """End the thread, unless what it waits for never comes."""
        self._wanted.put(False)
        self._thread.join(JOIN_SECONDS)


def _read(
    iterator: Iterator[Any],
    wanted: SimpleQueue[bool],
    found: SimpleQueue[tuple[Any, Exception | None]],
) -> None:
    while wanted.get():
        try:
            found.put((next(iterator), None))
        except Exception as problem:
            found.put((None, problem))


def _raise_unless_late(problem: Exception) -> None:
    """Raise what torch's loader raised, unless it only had nothing for ``TICK_SECONDS``.

    Raises:
        WorkerLostError: an item is lost on its way, with the worker that had it.
        ResourceError: this process has no more files or memory to receive it.
    """
    if "timed out" in str(problem):
        return
    if is_machine_fault(problem):
        raise Fault.of(problem).error() from problem
    said = " ".join(str(problem).split()) or type(problem).__name__
    raise WorkerLostError(f"ended while it sent a batch ({said})") from problem


def _started(loader: DataLoader[Any]) -> Any:
    """Start the workers of a loader, without torch's handler for their ends.

    It raises an exception in the middle of whatever the main process does: of an update, say.
    """
    if threading.current_thread() is not threading.main_thread():
        return iter(loader)
    before = signal.getsignal(signal.SIGCHLD)
    iterator = iter(loader)
    signal.signal(signal.SIGCHLD, before)
    return iterator


class _Waiting:
    """How long an item is waited for, and what became of the workers meanwhile."""

    def __init__(self, workers: Sequence[BaseProcess], interrupted: Callable[[], bool]) -> None:
        self._workers, self._interrupted = workers, interrupted
        self._begun = time.monotonic()
        self._stopped = 0
        self._is_told = False

    def look(self, ticks: int = 1) -> None:
        """Look why no item came in so many ticks.

        Raises:
            WorkerLostError: a worker is gone, or was stopped for long.
            LoadingStoppedError: the program was asked to stop.
            ResourceError: it takes too long.
        """
        for worker in self._workers:
            if not worker.is_alive() and worker.exitcode != 0:
                raise WorkerLostError(_end_of(worker.exitcode))
        is_stopped = any(process_state(worker.pid) == "T" for worker in self._workers)
        self._stopped = self._stopped + ticks if is_stopped else 0
        if self._stopped * TICK_SECONDS >= STOPPED_SECONDS:
            raise WorkerLostError("was stopped (SIGSTOP)")
        if self._interrupted():
            raise LoadingStoppedError
        waited = time.monotonic() - self._begun
        if waited >= SILENT_SECONDS:
            raise ResourceError(
                f"no batch came for {waited:.0f} s.",
                "see that the disk with the data answers, then give the same command: it goes on "
                "from the last checkpoint.",
            )
        if waited >= SLOW_SECONDS and not self._is_told:
            self._is_told = True
            logger.warning("waiting for a batch since %.0f s: is the disk slow?", waited)


def _end_of(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"ended with status {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    return f"was killed ({name})"


def _end(workers: Sequence[BaseProcess]) -> None:
    """Kill what does not end by itself."""
    end = time.monotonic() + JOIN_SECONDS
    for worker in workers:
        if process_state(worker.pid) != "T":
            worker.join(timeout=max(0.0, end - time.monotonic()))
        if worker.is_alive():
            worker.kill()
            worker.join(timeout=JOIN_SECONDS)


def prepare_worker(_index: int = 0) -> None:
    """Prepare a worker process: one thread, no signals, none of the free memory of its parent.

    A terminal or a job scheduler signals all processes at once; the parent still needs its data to
    finish the batch and save. A fork keeps what the parent writes over, so gaps in the heap of a
    training, which it fills again and again, would come to hundreds of megabytes in each worker.
    """
    torch.set_num_threads(1)
    return_free_memory()
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
    ):
        signal.signal(number, signal.SIG_IGN)
