"""How much memory a process has taken at most, and how much there is."""

from __future__ import annotations

import os
import resource
import sys

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
