"""One batch: from features and texts to the scaled loss and the numbers to report."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from zipasr.base.config import flag
from zipasr.data.dataset import Batch
from zipasr.encoder.masks import output_lens
from zipasr.losses.lattice import RnntType
from zipasr.model.config import ModelConfig
from zipasr.model.inputs import unalignable
from zipasr.model.transducer import AsrLosses, TransducerConfig
from zipasr.training.metrics import Metrics

SUBSAMPLING_FACTOR = 4

#: What the losses are called in logs, in the order of ``AsrLosses``.
LOSS_NAMES = ("simple_loss", "pruned_loss", "ctc_loss", "attn_decoder_loss", "cr_loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Weights of the losses and how they change at the start."""

    simple_loss_scale: float = flag(0.5, "final weight of the simple transducer loss")
    ctc_loss_scale: float = flag(0.2, "weight of the CTC loss; 1 where CTC is the only head")
    attention_decoder_loss_scale: float = flag(0.8, "weight of the attention decoder's loss")
    cr_loss_scale: float = flag(0.2, "final weight of the consistency loss")
    warm_step: int = flag(2000, "batches until the weights of transducer and consistency are final")
    ctc_only_batches: int = flag(0, "batches at the start that train the CTC head alone")

    def __post_init__(self) -> None:
        if self.warm_step < 1 or self.ctc_only_batches < 0:
            raise ValueError("--warm-step must be at least 1, --ctc-only-batches at least 0.")
        for name in ("simple", "ctc", "attention_decoder", "cr"):
            if getattr(self, f"{name}_loss_scale") < 0:
                raise ValueError(f"--{name.replace('_', '-')}-loss-scale must not be negative.")


class LossScales(NamedTuple):
    """Weights at one batch, in the order of ``AsrLosses``."""

    simple: float = 0.0
    pruned: float = 0.0
    ctc: float = 0.0
    attention_decoder: float = 0.0
    cr: float = 0.0


def loss_scales(config: LossConfig, model: ModelConfig, batch: int) -> LossScales:
    """Weights at ``batch`` (from 1).

    Simple falls from 1, pruned rises from 0.1 to 1, consistency rises from 0, the others are
    constant. Early on the pruning bounds come from a model that knows nothing, so the unpruned
    loss has to lead (Kuang et al., arXiv:2206.13236). Batches that train CTC alone do not count.
    """
    has_other_heads = model.use_transducer or model.use_attention_decoder
    ctc = config.ctc_loss_scale if has_other_heads else 1.0
    done = batch - config.ctc_only_batches
    if done <= 0:
        return LossScales(ctc=ctc)
    progress = min(done / config.warm_step, 1.0)
    return LossScales(
        simple=1.0 - progress * (1.0 - config.simple_loss_scale),
        pruned=0.1 + 0.9 * progress,
        ctc=ctc,
        attention_decoder=config.attention_decoder_loss_scale,
        cr=progress * config.cr_loss_scale,
    )


def compute_loss(
    model: nn.Module,
    batch: Batch,
    tokens: Sequence[Sequence[int]],
    scales: LossScales,
    transducer: TransducerConfig,
) -> tuple[Tensor, Metrics]:
    """Run the model and weigh its losses.

    Args:
        model: an ``AsrModel``, possibly wrapped for distributed training.
        batch: features on the model's device.
        tokens: N lists of token ids.
        scales: weights at this batch; while the transducer has none, only CTC is computed.
        transducer: settings of the transducer loss.

    Returns:
        The sum over the batch, to differentiate, and the unscaled sums with the count of frames.
    """
    losses: AsrLosses = model(
        batch.features,
        batch.feature_lens,
        tokens,
        transducer,
        ctc_only=scales.pruned == 0,
        second_view=batch.second_view,
        corpus=batch.corpus,
    )
    weighted = [
        (name, value, scale)
        for name, value, scale in zip(LOSS_NAMES, losses, scales, strict=True)
        if value is not None
    ]
    total = sum((scale * value for _, value, scale in weighted), start=losses_zero(batch))
    _tell_left_out(batch, tokens, transducer.rnnt_type, losses)
    frames = float((batch.feature_lens // SUBSAMPLING_FACTOR).sum())
    sums = {name: float(value.detach()) for name, value, _ in weighted}
    return total, Metrics(frames, loss=float(total.detach()), **sums)


def _tell_left_out(
    batch: Batch, tokens: Sequence[Sequence[int]], rnnt_type: RnntType, losses: AsrLosses
) -> None:
    """Warn of utterances that a lattice cannot align: they count 0, where a sum would be inf."""
    lens = [output_lens(n) for n in batch.feature_lens.tolist()]
    kind = "regular" if losses.pruned is None else rnnt_type
    left_out = unalignable(tokens, lens, kind, ctc=losses.ctc is not None)
    if left_out:
        text = "%d of %d utterances have too few frames for their text and count 0: %s"
        cuts = " ".join(batch.cut_ids[n] for n in left_out)
        logging.warning(text, len(left_out), len(tokens), cuts)


def losses_zero(batch: Batch) -> Tensor:
    """Return a zero on the batch's device to start a sum of losses from."""
    return batch.features.new_zeros(())
