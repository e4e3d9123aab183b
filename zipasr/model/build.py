"""From configurations to a model with fresh weights."""

from __future__ import annotations

from dataclasses import dataclass

from zipasr.base.config import flag
from zipasr.encoder.subsampling import Conv2dSubsampling
from zipasr.encoder.zipformer import Zipformer2, ZipformerConfig
from zipasr.model.decoder import CHANNELS_PER_GROUP, Decoder
from zipasr.model.joiner import Joiner
from zipasr.model.transducer import AsrModel

#: Number of mel bins of the features.
FEATURE_DIM = 80

#: Token id of the blank.
BLANK_ID = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """What sits on top of the encoder."""

    decoder_dim: int = flag(512, "channels of the prediction network, a multiple of 4")
    joiner_dim: int = flag(512, "channels in which encoder and prediction network meet")
    context_size: int = flag(2, "tokens that the prediction network sees")
    use_transducer: bool = flag(True, "whether the model has a transducer head")
    use_ctc: bool = flag(False, "whether the model has a CTC head")

    def __post_init__(self) -> None:
        if not (self.use_transducer or self.use_ctc):
            raise ValueError("--use-transducer 0 and --use-ctc 0 leave no head: turn one on")
        if min(self.decoder_dim, self.joiner_dim, self.context_size) < 1:
            raise ValueError("--decoder-dim, --joiner-dim and --context-size must be positive")
        if self.context_size > 1 and self.decoder_dim % CHANNELS_PER_GROUP:
            raise ValueError(
                f"--decoder-dim must be a multiple of {CHANNELS_PER_GROUP}, got {self.decoder_dim}"
            )


def build_model(zipformer: ZipformerConfig, model: ModelConfig, vocab_size: int) -> AsrModel:
    """Build a model with fresh weights on the default device.

    Args:
        zipformer: shape of the encoder.
        model: heads.
        vocab_size: V, the blank included.

    Returns:
        The model, in training mode.
    """
    layer1, layer2, layer3 = zipformer.embed_channels
    encoder_embed = Conv2dSubsampling(
        FEATURE_DIM,
        zipformer.encoder_dim[0],
        layer1_channels=layer1,
        layer2_channels=layer2,
        layer3_channels=layer3,
        dropout=zipformer.dropout_rate(),
    )
    decoder = joiner = None
    if model.use_transducer:
        decoder = Decoder(vocab_size, model.decoder_dim, BLANK_ID, model.context_size)
        joiner = Joiner(zipformer.output_dim, model.decoder_dim, model.joiner_dim, vocab_size)
    return AsrModel(
        encoder_embed=encoder_embed,
        encoder=Zipformer2(zipformer),
        decoder=decoder,
        joiner=joiner,
        encoder_dim=zipformer.output_dim,
        vocab_size=vocab_size,
        use_ctc=model.use_ctc,
    )
