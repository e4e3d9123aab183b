"""Processes that train together: ranks, start, sums over all, and a common end when one fails."""

from __future__ import annotations

import ctypes
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous
from torch.multiprocessing.spawn import (
    ProcessContext,
    ProcessExitedException,
    ProcessRaisedException,
    start_processes,
)

from zipasr.base.environment import gpu_text
from zipasr.base.errors import ResourceError, UserError

FAULT = "fault"
WATCH_SECONDS = 1.0
STOPPED_SECONDS = 30  # that a process may be stopped (SIGSTOP) while the others wait for it
# How long a process waits for another one. Between two updates one process alone may transcribe
# the dev set or index manifests.
GROUP_TIMEOUT = timedelta(minutes=30)
# A process whose neighbour failed gives it this long to be the first to end: the parent, and
# torchrun, take the first for the cause.
PATIENCE_SECONDS = 3.0
# One that does not notice by itself, because it waits on a GPU for the neighbour, gets longer.
HANGING_SECONDS = 6.0


@contextmanager
def propagate_failure(store: Store) -> Iterator[None]:
    """Tell the other processes of a failure in this block; end this one after a failure elsewhere.

    The first process that fails lets its exception out, to be told. In the others an exception is
    most likely a consequence, such as a connection that broke, so they end without a word; and
    those that wait for an answer that will not come are ended from a thread.

    Args:
        store: shared by the group.
    """
    over = threading.Event()
    threading.Thread(target=_watch, args=(store, over), daemon=True).start()
    try:
        yield
    except Exception as error:
        over.set()
        if not _is_first_fault(store):
            time.sleep(PATIENCE_SECONDS)
            os._exit(error.exit_code if isinstance(error, UserError) else 1)
        raise
    except KeyboardInterrupt:
        _is_first_fault(store)
        raise
    finally:
        over.set()


@contextmanager
def rank0_errors() -> Iterator[None]:
    """Let only the first process on each machine speak of a user's mistake in this block.

    For what all find alike before there is a group; a launcher such as ``torchrun`` numbers them.
    """
    try:
        yield
    except UserError as error:
        if os.environ.get("LOCAL_RANK", "0") != "0":
            raise SystemExit(error.exit_code) from None
        raise


def _is_first_fault(store: Store) -> bool:
    try:
        return store.add(FAULT, 1) == 1
    except RuntimeError:  # the process that kept the store is gone: so it was the first
        return False


def _watch(store: Store, over: threading.Event) -> None:
    while not over.wait(WATCH_SECONDS):
        try:
            failed = store.check([FAULT])
        except RuntimeError:
            failed = True
        if failed and not over.wait(HANGING_SECONDS):
            os._exit(1)


LOOPBACK = "127.0.0.1"
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux
INTERRUPTED = 130  # exit status, as shells report SIGINT

GRACE_SECONDS = 5.0  # that the other processes get to end when one has failed

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")

# Of oneDNN and of torch, read with the first product or convolution: how many of them are kept
# ready, each for tensors of one size. Batches are of ever other sizes; with the 1024 of both, a
# training on a CPU grew by gigabytes, and took no less time.
CACHE_ENVIRONMENT = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256", "LRU_CACHE_CAPACITY": "256"}
# Read by the C libraries when a process starts. Threads that spin while they wait steal the core of
# their neighbour; and memory that goes back to the system after every large tensor has to be
# cleared by it again, page by page, in every step.
CHILD_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
    **CACHE_ENVIRONMENT,
}


@dataclass(frozen=True, slots=True)
class World:
    """One process among ``size``: its rank over all machines, its device on this one."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and speaks to the user."""
        return self.rank == 0

    @property
    def device_kind(self) -> str:
        """What the user is told that the device is."""
        return "GPU" if self.device.type == "cuda" else "CPU"


def launch(work: Callable[..., None], world_size: int, master_port: int, *args: Any) -> None:
    """Run ``work(world, *args)`` in ``world_size`` processes and wait for them.

    Under ``torchrun`` the processes exist already: this one joins them, and the launcher's
    numbers win over ``world_size``. With one process no group is made.

    Raises:
        ResourceError: more processes than GPUs (or, without GPUs, than CPU cores).
        UserError: a process found a fault, which may be of any kind; the first that failed says
            it, and the others end within seconds.
        SystemExit: a process ended with that status.
    """
    for name, value in CACHE_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if all(name in os.environ for name in TORCHRUN):
        rank, size, local = (_number_of(name) for name in TORCHRUN)
        if not 0 <= rank < size or local < 0:
            raise UserError(
                f"RANK={rank}, WORLD_SIZE={size} and LOCAL_RANK={local} do not go together.",
                "let torchrun set them, or unset them.",
            )
        store, _, _ = next(iter(rendezvous("env://", rank, size, timeout=GROUP_TIMEOUT)))
        _work_in_group(store, local, rank, size, work, args)
        return
    check_world_size(world_size)
    if world_size == 1:
        work(World(0, 1, device_for(0)), *args)
        return
    for name, value in CHILD_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # gloo would connect over the address that the name of the machine has.
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    _spawn(work, world_size, listening_at(master_port), args)


def _number_of(name: str) -> int:
    """Return a number that a launcher set.

    Raises:
        UserError: it is none.
    """
    word = os.environ[name]
    if not word.lstrip("-").isdecimal():
        raise UserError(
            f"the environment has {name}={word!r}, which is no number.",
            f"let torchrun set it, or unset {name}.",
        )
    return int(word)


def check_world_size(world_size: int, accumulate: int | None = None) -> None:
    """Refuse more processes than there are devices, before anything is spent.

    Args:
        world_size: number of processes.
        accumulate: batches per update of a training: the advice keeps its updates as large as
            they are; None where there is no such flag.

    Raises:
        ResourceError: says what was asked for and what there is.
    """
    if torch.cuda.is_available():
        have = torch.cuda.device_count()
        kind = f"GPUs ({', '.join(map(gpu_text, range(have)))})"
    else:
        have, kind = os.cpu_count() or 1, "CPU cores (there is no GPU)"
    if world_size > have:
        fix = f"--world-size {have}"
        if accumulate is not None:
            fix += f" --accumulate {math.ceil(world_size / have) * accumulate}"
        raise ResourceError(f"--world-size {world_size}, but this machine has {have} {kind}.", fix)
    if world_size < 1:
        raise UserError(f"--world-size {world_size} must be at least 1.")


def device_for(local_rank: int) -> torch.device:
    """Return the device of the process number ``local_rank`` on this machine."""
    if torch.cuda.is_available():
        return torch.device("cuda", local_rank)
    return torch.device("cpu")


def all_reduce_sum(values: Tensor, world: World) -> Tensor:
    """Return the sum of ``values`` over all processes; the tensor itself with one process."""
    if world.size > 1:
        dist.all_reduce(values)
    return values


def broadcast_from_main(values: Iterable[Tensor], world: World) -> None:
    """Put in the place of each tensor the one of rank 0."""
    if world.size > 1:
        for value in values:
            dist.broadcast(value, 0)


def all_gather_rows(rows: Tensor, world: World) -> None:
    """Put in row r of a tensor (size, ...) what process r has there; all must call it."""
    if world.size > 1:
        # As bytes: not every back end knows every type.
        every = [row.view(torch.uint8) for row in rows.unbind()]
        dist.all_gather(every, every[world.rank].clone())


def all_gather(value: Any, world: World) -> list[Any]:
    """Return the ``value`` of every process, in the order of ranks; all must call it."""
    if world.size == 1:
        return [value]
    gathered: list[Any] = [None] * world.size
    dist.all_gather_object(gathered, value)
    return gathered


@contextmanager
def main_first(world: World) -> Iterator[None]:
    """Let the first process run the block before the others do; all must enter it."""
    if not world.is_main:
        barrier(world)
    yield
    if world.is_main:
        barrier(world)


def barrier(world: World) -> None:
    """Wait until all processes are here."""
    if world.size > 1:
        dist.barrier()


def _work_in_group(
    store: Store,
    local_rank: int,
    rank: int,
    size: int,
    work: Callable[..., None],
    args: tuple[Any, ...],
) -> None:
    device = device_for(local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        cores = os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", size))))
    backend = "nccl" if device.type == "cuda" else "gloo"
    own, of_group = (PrefixStore(name, store) for name in ("zipasr", "group"))
    with _group(backend, of_group, rank, size), propagate_failure(own):
        work(World(rank, size, device), *args)
        dist.barrier()  # nobody leaves while another still needs the store


@contextmanager
def _group(backend: str, store: Store, rank: int, size: int) -> Iterator[None]:
    """Join the group for the block.

    After a failure the group is left as it is: to leave it in peace, NCCL would wait for what the
    others were asked. They hear of the failure from the store, and all processes end.
    """
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=GROUP_TIMEOUT)
    try:
        yield
    except BaseException:
        if backend != "nccl":
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def _store_of_machine(listening: socket.socket, rank: int, size: int) -> Store:
    """Return what processes of one machine share: only those of this machine reach it."""
    port = listening.getsockname()[1]
    if rank != 0:
        listening.close()
        return TCPStore(LOOPBACK, port, size, is_master=False, timeout=GROUP_TIMEOUT)
    # By itself it would listen at all addresses of the machine. libuv takes no open socket in torch
    # 2.6.
    return TCPStore(
        LOOPBACK,
        port,
        size,
        is_master=True,
        timeout=GROUP_TIMEOUT,
        wait_for_workers=False,
        master_listen_fd=listening.detach(),
        use_libuv=False,
    )


def _spawned(
    rank: int,
    size: int,
    listening: socket.socket,
    work: Callable[..., None],
    args: tuple[Any, ...],
    faults: SimpleQueue[UserError],
) -> None:
    end_with_parent(signal.SIGTERM)
    try:
        _work_in_group(_store_of_machine(listening, rank, size), rank, rank, size, work, args)
    except UserError as error:
        faults.put(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:  # torch would call this a success
        sys.exit(INTERRUPTED)


def end_with_parent(number: signal.Signals) -> None:
    """Have this process sent a signal where the parent is killed.

    torch arranges the same with SIGINT, which processes in the background of a script ignore.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, number)


def _spawn(
    work: Callable[..., None], size: int, listening: socket.socket, args: tuple[Any, ...]
) -> None:
    # torch tells at length how it ends the other processes; the one that failed has told why.
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    faults: SimpleQueue[UserError] = get_context("spawn").SimpleQueue()
    context = start_processes(  # type: ignore[no-untyped-call]
        _spawned,
        (size, listening, work, args, faults),
        nprocs=size,
        join=False,
        start_method="spawn",
    )
    listening.close()  # the processes have it

    asked: list[int] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        # A terminal tells the children too, kill tells only us. SIGTERM for both: to be asked twice
        # to end in peace is harmless, a second SIGINT ends a child at once.
        if number == signal.SIGUSR1:  # to save and go on
            for process in context.processes:
                if process.is_alive() and process.pid is not None:
                    os.kill(process.pid, number)
            return
        for process in context.processes:
            if number == signal.SIGINT and signal.SIGINT in asked:
                process.kill()
            else:
                process.terminate()
        asked.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)
    previous = {
        number: signal.signal(number, forward)
        for number in numbers
        if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        _wait_for(context, faults, asked)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _stopped_for(context: ProcessContext, seconds: int) -> int:
    """Return for how long others wait for a stopped process, looked at once a second.

    Where all are stopped, somebody pauses the run, and none waits for another.

    Raises:
        ResourceError: for too long; all are ended.
    """
    states = [process_state(process.pid) for process in context.processes]
    if "T" not in states or set(states) == {"T"}:
        return 0
    if seconds < STOPPED_SECONDS:
        return seconds + 1
    for process in context.processes:
        process.kill()
    raise ResourceError(
        f"process {states.index('T')} was stopped from outside (SIGSTOP), and the others waited "
        "for it: all are ended.",
        "give the same command: it goes on from the last checkpoint.",
    )


def _wait_for(
    context: ProcessContext, faults: SimpleQueue[UserError], asked: Sequence[int]
) -> None:
    stopped = 0
    try:
        while not context.join(timeout=1.0, grace_period=GRACE_SECONDS):
            stopped = _stopped_for(context, stopped)
    except (ProcessExitedException, ProcessRaisedException) as ended:
        if not faults.empty():
            raise faults.get() from None  # what all processes found is told once
        if isinstance(ended, ProcessRaisedException):
            raise
        if ended.signal_name is not None and asked:
            # It was not listening yet, or the second Ctrl-C would not wait.
            sys.exit(INTERRUPTED)
        if ended.signal_name is not None:
            raise ResourceError(
                f"process {ended.error_index} was ended from outside ({ended.signal_name}), and "
                "the others with it.",
                "if nobody did that, the system ran out of memory: lower --max-duration or "
                "--num-workers; then give the same command.",
            ) from None
        sys.exit(ended.exit_code)


def process_state(pid: int | None) -> str:
    """Return the letter for the state of a process of this machine, T when it is stopped.

    Empty where the system does not tell.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return status.rpartition(")")[2].split()[0]


def listening_at(wanted: int) -> socket.socket:
    """Listen at a port when it is free, else at any: two runs on a machine are normal.

    From here on the port is taken, so no other run can take it until the processes have started.

    Raises:
        ResourceError: no port is free.
    """
    for port in (wanted, 0):
        listening = socket.socket()
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((LOOPBACK, port))
            listening.listen()
        except OSError:
            listening.close()
            continue
        return listening
    raise ResourceError(f"no free port for the process group (--master-port {wanted}).")
