"""What the heads of a model ask of the settings of its training."""

from __future__ import annotations

import math

from zipasr.base.errors import UserError
from zipasr.data.augment import AugmentConfig
from zipasr.model.config import ModelConfig
from zipasr.training.step import LossConfig


def check_heads(model: ModelConfig, loss: LossConfig, augment: AugmentConfig) -> None:
    """Compare the heads with the weights of their losses and with the augmentation.

    Raises:
        UserError: they do not go together; the sentence says which flags to change.
    """
    if loss.ctc_only_batches > 0 and not model.use_ctc:
        raise UserError(
            f"--ctc-only-batches {loss.ctc_only_batches} needs a CTC head.",
            "--use-ctc 1, or --ctc-only-batches 0.",
        )
    if model.use_cr_ctc and augment.enable_spec_aug:
        raise UserError(
            "--use-cr-ctc 1 masks two views of each utterance by itself: it takes no other masks.",
            "add --enable-spec-aug 0.",
        )
    if model.use_attention_decoder and not model.use_transducer:
        ctc, attention = loss.ctc_loss_scale, loss.attention_decoder_loss_scale
        if not math.isclose(ctc + attention, 1.0):
            raise UserError(
                f"--ctc-loss-scale {ctc:g} and --attention-decoder-loss-scale {attention:g} must "
                "add up to 1 in a model without transducer.",
                "for example --ctc-loss-scale 0.1 --attention-decoder-loss-scale 0.9.",
            )
