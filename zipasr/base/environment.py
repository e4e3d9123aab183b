"""The machine: versions, revision and device; memory of the process; worker threads."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import torch

from zipasr import __version__
from zipasr.base.constants import GIB

PACKAGES = ("torch", "torchaudio", "lhotse", "sentencepiece", "kaldialign", "k2")


def environment_report() -> dict[str, str]:
    """Return what is needed to repeat a run; names no machine, user or path."""
    report = {"zipasr": __version__, "python": platform.python_version()}
    report |= {"machine": platform.machine(), "cuda": torch.version.cuda or "absent"}
    report |= {name: _version(name) for name in PACKAGES}
    report["revision"] = _revision()
    if torch.cuda.is_available():
        report["device"] = torch.cuda.get_device_name()
    else:
        report["device"] = f"cpu, {torch.get_num_threads()} threads a process"
    return report


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _revision() -> str:
    here = Path(__file__).parent
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def peak_and_total(device: torch.device) -> tuple[int, int]:
    """Return bytes: the most that this process held so far, and what ``device`` has in all.

    Of a GPU it is what the allocator reserved there; of a CPU, the resident memory.
    """
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return torch.cuda.max_memory_reserved(device), total
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return peak, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def memory_of(pids: Iterable[int | str], proc: Path = Path("/proc")) -> int:
    """Return the bytes that processes hold; a page that n of them share counts 1/n for each.

    A process that has ended, or of which the system does not tell, counts 0.
    """
    total = 0
    for pid in pids:
        with suppress(OSError):
            lines = (proc / str(pid) / "smaps_rollup").read_text(encoding="ascii").splitlines()
            total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def gpu_text(number: int) -> str:
    """Return the number of a GPU with its memory and how much of it no program holds."""
    try:
        free, total = (count / GIB for count in torch.cuda.mem_get_info(number))
    except (RuntimeError, AssertionError):  # a driver that lists it and cannot use it
        return f"{number}: not usable"
    return f"{number}: {free:.1f} of {total:.1f} GiB free"


def free_bytes(device: torch.device) -> int:
    """Return how much more this process can take on ``device``.

    Of a GPU, what the allocator holds in reserve counts as free. Of a CPU, it is what the system
    can give without swapping, or what the limit of the container leaves, whichever is less.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + reserve
    return min([peak_and_total(device)[1], *_available(), *_left_in_container()])


def _available(meminfo: Path = Path("/proc/meminfo")) -> list[int]:
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return []
    return [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]


def _left_in_container(folder: Path = Path("/sys/fs/cgroup")) -> list[int]:
    try:
        limit = int((folder / "memory.max").read_text(encoding="ascii"))
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):  # not in a container, or without a limit
        return []
    # Pages of files are given back when they are needed.
    files = sum(int(line.split()[1]) for line in lines if line.startswith("file "))
    return [max(0, limit - used + files)]


def return_free_memory() -> None:
    """Give the system the pages that are free inside the heap of this process.

    Batches of many lengths leave gaps that later ones do not fit into, so that the heap of a long
    training grows, though what is in use does not. Only glibc can be asked to; elsewhere nothing
    happens.
    """
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


@functools.cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None)


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
