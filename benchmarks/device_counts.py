"""What one training step would launch and move on a CUDA device, counted without one.

    python -m benchmarks.device_counts [--preset small] [--rows 100] [--frames 1000] [--late 0]

The shapes of all tensors are followed, their values are not computed; random draws of the host
(which Balancers act, for one) are those of a fixed seed. What is counted, and what is not, stands
in ``tests/pretended_cuda``.
"""

from __future__ import annotations

import argparse

import torch

from zipasr.base.seed import fix_seeds
from zipasr.data.dataset import Batch
from zipasr.encoder.zipformer.config import ZipformerConfig
from zipasr.model.build import build_model
from zipasr.model.config import ModelConfig, TransducerConfig
from zipasr.nn.schedule import set_batch_count
from zipasr.optim.build import build_optimizer, parameter_groups
from zipasr.optim.config import OptimizerConfig
from zipasr.training.config import LossConfig
from zipasr.training.update import compute_loss, loss_scales

#: Updates after which the schedules inside the model have come to their ends.
LATE = 50_000.0
VOCAB_SIZE = 500


class Step:
    """A training step of a Zipformer transducer on a made-up batch.

    Args:
        preset: size of the model.
        rows: utterances of the batch.
        frames: feature frames of the longest one.
        late: schedules at their ends, as most of a training has them, instead of at the start.
        device: where it is made.
    """

    def __init__(self, preset: str, rows: int, frames: int, late: bool, device: str) -> None:
        fix_seeds(1)
        self.config, self.heads, self.device = (
            ZipformerConfig.from_preset(preset),
            ModelConfig(),
            device,
        )
        self.model = build_model(self.config, self.heads, VOCAB_SIZE).to(device).train()
        set_batch_count(self.model, LATE if late else 0.0)
        self.optimizer = build_optimizer(OptimizerConfig(), parameter_groups(self.model, 0.045, ()))
        self.batch = Batch(
            features=torch.randn(rows, frames, 80),
            feature_lens=torch.tensor([frames - 7 * n % (frames // 3) for n in range(rows)]),
            texts=[""] * rows,
            cut_ids=[""] * rows,
            seconds=1.0,
        )
        self.tokens = [[1 + n % (VOCAB_SIZE - 1) for n in range(frames // 25)]] * rows

    def losses(self, half: bool, update: bool = False) -> dict[str, float]:
        """Compute the losses, in bfloat16 or float32; and make an update, if asked to."""
        fix_seeds(7)
        scales = loss_scales(LossConfig(), self.heads, 5000)
        with torch.autocast(self.device, torch.bfloat16, enabled=half):
            batch = self.batch.to(self.device)
            settings = (scales, TransducerConfig(), self.config.geometry)
            loss, metrics = compute_loss(self.model, batch, self.tokens, *settings)
        if update:
            loss.backward()
            self.optimizer.measure()
            self.optimizer.step()
            self.optimizer.zero_grad()
        return metrics.sums

    def run(self) -> None:
        """Make one update in bfloat16."""
        self.losses(half=True, update=True)


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
    step = Step(given.preset, given.rows, given.frames, bool(given.late), "cuda")
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
