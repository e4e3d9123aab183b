"""A training step of a transducer on a batch that is made up, for what times or counts it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zipasr.base.seed import fix_seeds
from zipasr.data.dataset import Batch
from zipasr.encoder.protocol import SECONDS_PER_FEATURE_FRAME, EncoderConfig
from zipasr.model.build import build_model
from zipasr.model.config import ModelConfig, TransducerConfig
from zipasr.nn.schedule import set_batch_count
from zipasr.optim.build import build_optimizer, parameter_groups
from zipasr.optim.config import OptimizerConfig
from zipasr.training.config import LossConfig
from zipasr.training.metrics import Metrics
from zipasr.training.update import compute_loss, loss_scales

#: Updates after which the schedules inside the model have come to their ends.
LATE = 50_000.0
VOCAB_SIZE = 500


class Step:
    """A training step.

    Args:
        encoder: settings of the encoder.
        rows: utterances of the batch.
        frames: feature frames of the longest one.
        late: schedules at their ends, as most of a training has them, instead of at the start.
        device: where it is made.
        heads: beside the encoder; a transducer if none are given.

    Attributes:
        seconds: of speech in the batch.
    """

    def __init__(
        self,
        encoder: EncoderConfig,
        rows: int,
        frames: int,
        *,
        late: bool,
        device: str,
        heads: ModelConfig | None = None,
    ) -> None:
        fix_seeds(1)
        self.encoder, self.heads, self.device = encoder, heads or ModelConfig(), device
        self.model: nn.Module = build_model(encoder, self.heads, VOCAB_SIZE).to(device).train()
        set_batch_count(self.model, LATE if late else 0.0)
        self.optimizer = build_optimizer(OptimizerConfig(), parameter_groups(self.model, 0.045, ()))
        lens = torch.tensor([frames - 7 * n % (frames // 3) for n in range(rows)])
        self.seconds = int(lens.sum()) * SECONDS_PER_FEATURE_FRAME
        self.batch = Batch(
            features=torch.randn(rows, frames, 80),
            feature_lens=lens,
            texts=[""] * rows,
            cut_ids=[""] * rows,
            seconds=self.seconds,
        ).to(device)  # as trainings have it, which copy a batch while another is computed
        self.tokens = [[1 + n % (VOCAB_SIZE - 1) for n in range(frames // 25)]] * rows

    def losses(self, half: bool) -> tuple[Tensor, Metrics]:
        """Return the sum to differentiate and the losses, in bfloat16 or float32."""
        fix_seeds(7)
        scales = loss_scales(LossConfig(), self.heads, 5000)
        with torch.autocast(self.device, torch.bfloat16, enabled=half):
            settings = (scales, TransducerConfig(), self.encoder.geometry)
            loss, metrics = compute_loss(self.model, self.batch, self.tokens, *settings)
        return loss, metrics

    def gradients(self) -> tuple[dict[str, float], Tensor]:
        """Return losses, and all gradients in one row; in float32, without random draws."""
        self.model.eval()
        loss, metrics = self.losses(half=False)
        loss.backward()
        found = [p.grad.flatten() for p in self.model.parameters() if p.grad is not None]
        return metrics.sums, torch.cat(found).cpu()

    def run(self) -> None:
        """Make one update; in bfloat16, but on a CPU, where few have it."""
        self.losses(half=self.device != "cpu")[0].backward()
        self.optimizer.measure()
        self.optimizer.step()
        self.optimizer.zero_grad()
