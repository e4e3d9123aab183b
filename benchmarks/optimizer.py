"""Time one step of ScaledAdam and of torch's AdamW on the parameters of the small model.

Run from the repository root, with nothing else running; the steps are interleaved, so a machine
that slows down slows all of them, and the ratios stay usable:

    OMP_NUM_THREADS=1 python -m benchmarks.optimizer --rounds 24
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from zipasr.optim.scaled_adam import ScaledAdam

SHAPES = Path(__file__).parent / "data" / "small_model_shapes.json"
# The first steps allocate; the rounds are a multiple of the period of the scale updates.
WARMUP_ROUNDS = 4


def small_model_parameters(device: torch.device) -> list[nn.Parameter]:
    """Make the 567 parameters of the small transducer, with gradients, from a fixed seed."""
    generator = torch.Generator().manual_seed(42)

    def random(shape: list[int], scale: float) -> Tensor:
        return (scale * torch.randn(shape, generator=generator)).to(device)

    params = []
    for shape, count in json.loads(SHAPES.read_text())["shapes"]:
        for _ in range(count):
            params.append(nn.Parameter(random(shape, 0.1)))
            params[-1].grad = random(shape, 0.01)
    return params


def competitors(device: torch.device) -> dict[str, Callable[[], object]]:
    """Return a function that makes one step, for each optimizer."""

    def params() -> list[nn.Parameter]:
        return small_model_parameters(device)

    return {
        "ScaledAdam, clipping 2.0": ScaledAdam(params(), lr=0.045, clipping_scale=2.0).step,
        "ScaledAdam, no clipping": ScaledAdam(params(), lr=0.045).step,
        "AdamW, foreach": torch.optim.AdamW(params(), foreach=True).step,
        "AdamW, fused": torch.optim.AdamW(params(), fused=True).step,
    }


def measure(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of each step; the optimizers take turns."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_index in range(WARMUP_ROUNDS + rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if round_index >= WARMUP_ROUNDS:
                times[name].append(1000 * (time.perf_counter() - start))
    return times


def table(times: dict[str, list[float]]) -> str:
    """Format mean, median and best time, and the ratio of the means to AdamW foreach."""
    reference = statistics.mean(times["AdamW, foreach"])
    lines = [f"{'optimizer':26} {'mean ms':>8} {'median':>8} {'best':>8} {'ratio':>6}"]
    for name, values in times.items():
        mean = statistics.mean(values)
        lines.append(
            f"{name:26} {mean:8.1f} {statistics.median(values):8.1f} {min(values):8.1f} "
            f"{mean / reference:6.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Compare ScaledAdam with AdamW.")
    parser.add_argument("--rounds", type=int, default=24, help="timed steps of each optimizer")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.device}")
    print(table(measure(competitors(torch.device(args.device)), args.rounds)))


if __name__ == "__main__":
    main()
