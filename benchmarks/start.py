"""One file from the command line: seconds of the processor and memory, against other programs.

Run from the repository root, when a recipe is trained and exported:

    ./export.py --recipe espeak --epoch 11 --avg 2
    OMP_NUM_THREADS=1 python -m benchmarks.start --run exp/espeak --exported FOLDER --sound a.wav

Each program runs in a process of its own, and all take turns. The ratios are to a bare ``import
torch`` and to the program of sherpa-onnx (``pip install sherpa-onnx-bin``), which reads WAV files;
seconds are the least of all turns, of the processor, and by the clock.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from zipasr.recognition.config import PARTS
from zipasr.recognition.exported_files import files_in


class Cost(NamedTuple):
    """Of one process: seconds of the processor, seconds by the clock, MB of memory."""

    busy: float
    wall: float
    memory: float


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of a training run")
    parser.add_argument("--exported", type=Path, required=True, help="folder from export.py")
    parser.add_argument("--sound", type=Path, required=True, help="WAV file of a few seconds")
    parser.add_argument("--turns", type=int, default=7)
    args = parser.parse_args(argv)
    programs = commands(args.run, args.exported, args.sound)
    costs: dict[str, list[Cost]] = {name: [] for name in programs}
    for _ in range(args.turns):
        for name, words in programs.items():
            costs[name].append(cost_of(words))
    best = {name: Cost(*map(min, zip(*found, strict=True))) for name, found in costs.items()}
    torch, client = best["import torch"], best.get("sherpa-onnx")
    print("| program | CPU s | clock s | MB | x import torch | MB above it | x sherpa-onnx |")
    print("|---|---|---|---|---|---|---|")
    for name, cost in best.items():
        shares = f"{cost.busy / torch.busy:.2f} | {cost.memory - torch.memory:.0f}"
        other = f"{cost.busy / client.busy:.2f}" if client else ""
        cells = f"{cost.busy:.2f} | {cost.wall:.2f} | {cost.memory:.0f} | {shares} | {other}"
        print(f"| {name} | {cells} |")


def commands(run: Path, exported: Path, sound: Path) -> dict[str, list[str]]:
    """Return what is run, by name."""
    program = [sys.executable, "transcribe.py"]
    found = {
        "import torch": [sys.executable, "-c", "import torch"],
        "transcribe.py, run folder": [*program, "--exp-dir", str(run), str(sound)],
        "transcribe.py, exported folder": [*program, "--model", str(exported), str(sound)],
    }
    beside = Path(sys.executable).with_name("sherpa-onnx-offline")
    client = shutil.which("sherpa-onnx-offline") or (str(beside) if beside.is_file() else None)
    if client:
        files = zip(PARTS, files_in(exported, prefers_ctc=False), strict=True)
        flags = [f"--{part}={path}" for part, path in files]
        tokens = f"--tokens={exported / 'tokens.txt'}"
        found["sherpa-onnx"] = [client, "--num-threads=1", *flags, tokens, str(sound)]
    return found


def cost_of(words: Sequence[str]) -> Cost:
    """Run a program to its end."""
    begun = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    busy = usage.ru_utime + usage.ru_stime
    return Cost(busy, time.monotonic() - begun, usage.ru_maxrss / 1024)


if __name__ == "__main__":
    main()
