"""Memory of the process."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

from zipasr.base.environment import memory_of, return_free_memory


def resident() -> float:
    """Megabytes that the process holds now."""
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line
    )
    return int(line.split()[1]) / 1024


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives free pages back")
def test_gaps_in_the_heap_are_given_back() -> None:
    return_free_memory()
    # Blocks too small to be mapped each for itself; those that stay keep the heap from shrinking.
    blocks = [torch.ones(25_000) for _ in range(4000)]
    kept = blocks[::50]
    full = resident()
    blocks.clear()
    return_free_memory()
    assert len(kept) == 80
    assert full - resident() > 300


def test_memory_of_processes(tmp_path: Path) -> None:
    for pid, share in ((7, 300), (8, 20)):
        (tmp_path / str(pid)).mkdir()
        text = f"00400000-7ffd [rollup]\nRss:   900 kB\nPss:   {share} kB\nPss_Anon:  11 kB\n"
        (tmp_path / str(pid) / "smaps_rollup").write_text(text)
    assert memory_of([7, 8, 9], tmp_path) == 1024 * 320
    assert memory_of([], tmp_path) == 0
