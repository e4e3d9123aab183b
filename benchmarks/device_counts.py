"""What a training step, or its features, would launch and move on a CUDA device, without one.

    python -m benchmarks.device_counts [--preset small] [--rows 100] [--frames 1000] [--late 0]
        [--ctc 0]
    python -m benchmarks.device_counts --of features [--rows 100] [--frames 1000]

The shapes of all tensors are followed, their values are not computed; random draws of the host
(which Balancers act, for one) are those of a fixed seed. What is counted, and what is not, stands
in ``tests/pretended_cuda``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

from benchmarks.roofline import KNOWN
from benchmarks.training_step import Step
from zipasr.audio.log_mel import SHIFT, MirroredSounds
from zipasr.base.constants import WINDOW
from zipasr.encoder.zipformer.config import ZipformerConfig
from zipasr.model.config import ModelConfig


def _step(given: argparse.Namespace) -> Callable[[], object]:
    encoder = ZipformerConfig.from_preset(given.preset)
    heads = ModelConfig(use_ctc=bool(given.ctc))
    late = bool(given.late)
    return Step(encoder, given.rows, given.frames, late=late, device="cuda", heads=heads).run


def _features(given: argparse.Namespace) -> Callable[[], object]:
    """Log-mel energies of sounds, as loading hands them over."""
    samples = torch.zeros(given.rows, given.frames * SHIFT + WINDOW).pin_memory()
    sounds = MirroredSounds(samples, torch.full((given.rows,), given.frames))
    return lambda: sounds.log_mel(80, torch.device("cuda", 0), 0.0)


def main() -> None:
    """Print the totals, and what each file of the library launches and moves."""
    from torch.utils.flop_counter import FlopCounterMode

    from tests.pretended_cuda.device import MEMORY, install
    from tests.pretended_cuda.kernels import use_kernels
    from tests.pretended_cuda.record import recorded

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--of", choices=("step", "features"), default="step")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--late", type=int, default=0, help="1: schedules at their ends")
    parser.add_argument("--ctc", type=int, default=0, help="1: with a CTC head")
    parser.add_argument("--device", choices=KNOWN, default="H200", help="whose limits are named")
    parser.add_argument("--lines", type=int, default=0, help="list so many lines of the library")
    given = parser.parse_args()
    install(values=False)
    use_kernels()
    run = {"step": _step, "features": _features}[given.of](given)
    run()  # makes tables and the state of the optimizer
    with recorded() as record, FlopCounterMode(display=False) as flops:
        run()
    total = record.total
    print("| part | launches | GB |")
    print("|---|--:|--:|")
    print(f"| all | {total.launches} | {total.moved / 1e9:.1f} |")
    for file, cost in record.by_file().items():
        if cost.launches >= 20 or cost.moved >= 1e8:
            print(f"| {file} | {cost.launches} | {cost.moved / 1e9:.1f} |")
    waits, copies, memory = record.num_waits, record.num_copies, MEMORY.peak / 1e9
    print(f"\n{waits} waits, {copies} copies from the host, {memory:.1f} GB at most")
    peak = KNOWN[given.device]
    moving = peak.milliseconds(total.moved, 0)
    products = peak.milliseconds(0, flops.get_total_flops())
    print(f"{given.device}: {moving:.0f} ms for the bytes, {products:.0f} ms for the products")
    if given.lines:
        print(record.told(given.lines))
        places = sorted(record.costs.items(), key=lambda item: -item[1].moved)
        for place, cost in places[: given.lines]:
            print(f"{cost.moved / 1e9:8.2f} GB {cost.launches:6}  {' '.join(place)}")


if __name__ == "__main__":
    main()
