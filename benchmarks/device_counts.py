"""What one training step would launch and move on a CUDA device, counted without one.

    python -m benchmarks.device_counts [--preset small] [--rows 100] [--frames 1000] [--late 0]

The shapes of all tensors are followed, their values are not computed; random draws of the host
(which Balancers act, for one) are those of a fixed seed. What is counted, and what is not, stands
in ``tests/pretended_cuda``.
"""

from __future__ import annotations

import argparse

from benchmarks.training_step import Step
from zipasr.encoder.zipformer.config import ZipformerConfig


def main() -> None:
    """Print the totals, and what each file of the library launches and moves."""
    from tests.pretended_cuda.device import MEMORY, install
    from tests.pretended_cuda.kernels import use_kernels
    from tests.pretended_cuda.record import recorded

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--late", type=int, default=0, help="1: schedules at their ends")
    parser.add_argument("--lines", type=int, default=0, help="list so many lines of the library")
    given = parser.parse_args()
    install(values=False)
    use_kernels()
    encoder = ZipformerConfig.from_preset(given.preset)
    step = Step(encoder, given.rows, given.frames, late=bool(given.late), device="cuda")
    step.run()  # makes tables and the state of the optimizer
    with recorded() as record:
        step.run()
    total = record.total
    print("| part | launches | GB |")
    print("|---|--:|--:|")
    print(f"| all | {total.launches} | {total.moved / 1e9:.1f} |")
    for file, cost in record.by_file().items():
        if cost.launches >= 20 or cost.moved >= 1e8:
            print(f"| {file} | {cost.launches} | {cost.moved / 1e9:.1f} |")
    waits, copies, peak = record.num_waits, record.num_copies, MEMORY.peak / 1e9
    print(f"\n{waits} waits, {copies} copies from the host, {peak:.1f} GB at most")
    if given.lines:
        print(record.told(given.lines))
        places = sorted(record.costs.items(), key=lambda item: -item[1].moved)
        for place, cost in places[: given.lines]:
            print(f"{cost.moved / 1e9:8.2f} GB {cost.launches:6}  {' '.join(place)}")


if __name__ == "__main__":
    main()
