"""Time the steps of ScaledAdam and of torch's AdamW on the parameters of the small model.

Run from the repository root:

    OMP_NUM_THREADS=2 python -m benchmarks.optimizer
    python -m benchmarks.optimizer --device cuda

The optimizers take turns of four steps, the period in which ScaledAdam looks at the sizes of
the parameters, so a machine that is busy for a while slows all of them. *Plain* is
``plain_scaled_adam.py``, one parameter at a time. Printed are medians and minima, and two ratios:
the median of the ratios to AdamW in the same round, foreach and fused.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.plain_scaled_adam import PlainScaledAdam
from zipasr.optim.scaled_adam import ScaledAdam

SHAPES = Path(__file__).parent / "data" / "small_model_shapes.json"
STEPS_PER_TURN = 4
OURS, PLAIN, FOREACH, FUSED = "ScaledAdam", "ScaledAdam, plain", "AdamW, foreach", "AdamW, fused"


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
        OURS: ScaledAdam(params(), lr=0.045, clipping_scale=2.0).step,
        f"{OURS}, no clipping": ScaledAdam(params(), lr=0.045).step,
        f"{OURS}, torch": ScaledAdam(params(), lr=0.045, clipping_scale=2.0, backend="torch").step,
        PLAIN: PlainScaledAdam(params(), lr=0.045, clipping_scale=2.0).step,
        FOREACH: torch.optim.AdamW(params(), foreach=True).step,
        FUSED: torch.optim.AdamW(params(), fused=True).step,
    }


def measure(
    steps: dict[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Return milliseconds per step, the mean of each turn; the first turn only warms up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(1 + rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(STEPS_PER_TURN):
                step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times[name].append(1000 * (time.perf_counter() - start) / STEPS_PER_TURN)
    return {name: values[1:] for name, values in times.items()}


def table(times: dict[str, list[float]]) -> str:
    """Format median and best time in milliseconds per step, and the ratios to AdamW."""

    def ratio(name: str, reference: str) -> float:
        rounds = zip(times[name], times[reference], strict=True)
        return statistics.median(own / other for own, other in rounds)

    lines = [f"| {'ms per step':23} | median |   best | to foreach | to fused |", "|---" * 5 + "|"]
    for name, values in times.items():
        lines.append(
            f"| {name:23} | {statistics.median(values):6.1f} | {min(values):6.1f} "
            f"| {ratio(name, FOREACH):10.2f} | {ratio(name, FUSED):8.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Compare ScaledAdam with AdamW.")
    parser.add_argument("--rounds", type=int, default=8, help="timed turns of each optimizer")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args()
    # The same gradients in every step make the reports on clipping pointless.
    logging.getLogger("zipasr").setLevel(logging.ERROR)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.device}")
    device = torch.device(args.device)
    print(table(measure(competitors(device), args.rounds, device)))


if __name__ == "__main__":
    main()
