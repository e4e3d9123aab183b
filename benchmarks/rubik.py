"""Time the steps of BatchedRubik beside its own matrix products, torch's Muon, and two Adams.

Run from the repository root:

    OMP_NUM_THREADS=1 python -m benchmarks.rubik
    python -m benchmarks.rubik --device cuda

The parameters are those of the small Zipformer transducer. All take turns of one step, so a machine
that is busy for a while slows all of them; on a CPU, what is printed are the processor's
milliseconds of this process, which others on the same cores do not count into. The ratios are
medians of those to Muon in the same round. *Products* is nothing but the matrix products of a step
of BatchedRubik. Muon takes matrices alone: what has not two axes is left to AdamW, fused.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from zipasr.model.build import build_model
from zipasr.optim.rubik import BatchedRubik, Stack
from zipasr.optim.rubik_rules import COEFFICIENTS, RUBIK_LAYOUT, is_matrix, matrix_shape
from zipasr.optim.scaled_adam import ScaledAdam

VOCAB_SIZE = 500
MUON = "Muon and AdamW"


def small_model_parameters(device: torch.device) -> list[nn.Parameter]:
    """Return the parameters of the small transducer, with gradients of noise."""
    torch.manual_seed(42)
    params = list(build_model(preset="small", vocab_size=VOCAB_SIZE).to(device).parameters())
    for param in params:
        param.grad = 0.01 * torch.randn_like(param)
    return params


def products(params: list[nn.Parameter], dtype: torch.dtype) -> Callable[[], object]:
    """Return a function that makes the matrix products of a step, on numbers that stay."""
    pieces: list[Tensor] = []
    for bucket in RUBIK_LAYOUT.buckets(params):
        if is_matrix(bucket[0].shape):
            rows, cols = matrix_shape(bucket[0].shape)
            stack = torch.randn(len(bucket), rows, cols, device=bucket[0].device).to(dtype)
            pieces += [stack[piece] for piece in Stack(list(bucket), {}, 0).pieces(dtype)]

    def multiply() -> None:
        for x in pieces:
            is_tall = x.size(1) > x.size(2)
            for _ in COEFFICIENTS:
                gram = torch.bmm(x.mT, x) if is_tall else torch.bmm(x, x.mT)
                square = torch.bmm(gram, gram)
                torch.bmm(x, square) if is_tall else torch.bmm(square, x)

    return multiply


def muon(params: list[nn.Parameter]) -> Callable[[], object]:
    """Return a step of Muon for what has two axes, and of AdamW for the rest."""
    matrices = torch.optim.Muon([p for p in params if p.dim() == 2])
    others = torch.optim.AdamW([p for p in params if p.dim() != 2], fused=True)

    def step() -> None:
        matrices.step()
        others.step()

    return step


def competitors(device: torch.device) -> dict[str, Callable[[], object]]:
    """Return a function that makes one step, for each optimizer."""

    def params() -> list[nn.Parameter]:
        return small_model_parameters(device)

    found: dict[str, Callable[[], object]] = {
        "AdamW, fused": torch.optim.AdamW(params(), fused=True).step,
        "ScaledAdam": ScaledAdam(params(), lr=0.045, clipping_scale=2.0).step,
        MUON: muon(params()),
    }
    for dtype in (torch.bfloat16, torch.float32):
        name = str(dtype).removeprefix("torch.")
        found[f"BatchedRubik, {name}"] = BatchedRubik(params(), lr=0.02, work_dtype=dtype).step
        found[f"products, {name}"] = products(params(), dtype)
    return found


def measure(
    steps: dict[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Return milliseconds of each step; the first two rounds only warm up."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(2 + rounds):
        for name, step in steps.items():
            start = clock()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times[name].append(1000 * (clock() - start))
    return {name: values[2:] for name, values in times.items()}


def ratio(times: dict[str, list[float]], name: str, reference: str) -> float:
    """Return the median of the ratios in the same round."""
    rounds = zip(times[name], times[reference], strict=True)
    return statistics.median(own / other for own, other in rounds)


def table(times: dict[str, list[float]]) -> str:
    """Format median and best time in milliseconds per step, and the ratios."""
    lines = [f"| {'ms per step':22} | median |   best | to Muon | to products |", "|---" * 5 + "|"]
    for name, values in times.items():
        own = f"products, {name.partition(', ')[2]}"
        to_products = f"{ratio(times, name, own):.2f}" if "Rubik" in name else ""
        lines.append(
            f"| {name:22} | {statistics.median(values):6.0f} | {min(values):6.0f} "
            f"| {ratio(times, name, MUON):7.2f} | {to_products:11} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Compare BatchedRubik with Muon and with Adam.")
    parser.add_argument("--rounds", type=int, default=10, help="timed steps of each")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args()
    logging.getLogger("zipasr").setLevel(logging.ERROR)  # the same gradients are clipped always
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.device}; "
        f"load of the machine {load}"
    )
    device = torch.device(args.device)
    print(table(measure(competitors(device), args.rounds, device)))


if __name__ == "__main__":
    main()
