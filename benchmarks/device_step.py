"""One training step on a real CUDA device: values against the CPU, time, waits and the roofline.

    python -m benchmarks.device_step [--preset small] [--rows 100] [--frames 1000]

Prints a row for RESULTS.md. The bytes of the roofline are those of ``benchmarks.device_counts``,
counted in a process of its own; a step that takes many times longer is bound by launches.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time

import torch

from benchmarks.device_counts import Step

#: Bytes per second of the memory that devices have.
MEMORY = {"H200": 4.8e12, "H100": 3.35e12, "A100": 2.0e12, "L40": 0.86e12, "4090": 1.0e12}


def counted(preset: str, rows: int, frames: int) -> tuple[int, float]:
    """Return launches and bytes of the step, counted without a device."""
    words = ["--preset", preset, "--rows", str(rows), "--frames", str(frames), "--late", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.device_counts", *words],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"\| all \| (\d+) \| ([\d.]+) \|", done.stdout)
    assert found is not None, done.stdout
    return int(found[1]), 1e9 * float(found[2])


def check_values(preset: str) -> None:
    """Compare losses of a small batch with those of the CPU, nothing drawn at random."""
    losses = []
    for device in ("cpu", "cuda"):
        small = Step(preset, rows=2, frames=200, late=True, device=device)
        small.model.eval()
        losses.append(small.losses(half=False))
    print("losses on the CPU and here:", *losses)
    for name, value in losses[0].items():
        difference = abs(losses[1][name] - value) / abs(value)
        assert difference < 1e-3, f"{name} differs by {difference:.1e}"


def main() -> None:
    """Check values, then time steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--frames", type=int, default=1000)
    given = parser.parse_args()
    check_values(given.preset)
    step = Step(given.preset, given.rows, given.frames, late=True, device="cuda")
    for _ in range(3):
        step.run()
    torch.cuda.set_sync_debug_mode("warn")  # names each wait
    step.run()
    torch.cuda.set_sync_debug_mode("default")
    times = []
    for _ in range(10):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        step.run()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    launches, moved = counted(given.preset, given.rows, given.frames)
    name, best = torch.cuda.get_device_name(), min(times)
    speed = next((value for key, value in MEMORY.items() if key in name), None)
    roofline = "?" if speed is None else f"{1e3 * moved / speed:.0f} ms"
    peak = torch.cuda.max_memory_allocated() / 1e9
    print("| device | model | step, best of 10 | launches | GB | memory roofline | GB at most |")
    print(
        f"| {name} | {given.preset} | {1e3 * best:.0f} ms | {launches} | {moved / 1e9:.0f} | "
        f"{roofline} | {peak:.1f} |"
    )


if __name__ == "__main__":
    main()
