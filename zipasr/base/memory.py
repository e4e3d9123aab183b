"""How much memory a process has taken at most, how much there is, and how much is left."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import torch


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
