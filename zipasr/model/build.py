"""From configurations to a model with fresh weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from zipasr.base.config import flag
from zipasr.encoder.streaming import Zipformer2Chunks
from zipasr.encoder.subsampling import Conv2dSubsampling
from zipasr.encoder.zipformer import Zipformer2, ZipformerConfig
from zipasr.model.attention_decoder import AttentionDecoderConfig, AttentionDecoderModel
from zipasr.model.decoder import CHANNELS_PER_GROUP, Decoder
from zipasr.model.inputs import FEATURE_DIM
from zipasr.model.joiner import Joiner
from zipasr.model.transducer import AsrModel, EncoderParts
from zipasr.zipformer1.config import Zipformer1Config
from zipasr.zipformer1.encoder import Zipformer
from zipasr.zipformer1.streaming import Zipformer1Chunks

#: Shape of an encoder; its class says which one.
EncoderConfig: TypeAlias = ZipformerConfig | Zipformer1Config

#: Values of --encoder-type, the default first.
ENCODER_TYPES: dict[str, type[EncoderConfig]] = {
    "zipformer": ZipformerConfig,
    "zipformer1": Zipformer1Config,
}

#: Token id of the blank.
BLANK_ID = 0

#: Id of the token before and after a transcript, which the attention decoder uses.
SENTENCE_ENDS_ID = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """What sits on top of the encoder."""

    #: How the model is trained: may change between two runs with the same weights.
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("use_cr_ctc",)

    decoder_dim: int = flag(512, "channels of the prediction network, a multiple of 4")
    joiner_dim: int = flag(512, "channels in which encoder and prediction network meet")
    context_size: int = flag(2, "tokens that the prediction network sees")
    use_transducer: bool = flag(True, "whether the model has a transducer head")
    use_ctc: bool = flag(False, "whether the model has a CTC head")
    own_heads: str = flag(
        "",
        "name of an --extra-manifest whose batches train a transducer of their own, such as giga",
    )
    use_attention_decoder: bool = flag(False, "whether the model has an attention decoder")
    use_cr_ctc: bool = flag(
        False, "train CTC to be consistent over two masked views of each utterance"
    )
    attention_decoder_dim: int = flag(512, "channels of the attention decoder, even")
    attention_decoder_num_layers: int = flag(6, "layers of the attention decoder")
    attention_decoder_attention_dim: int = flag(512, "channels of its attention, all heads")
    attention_decoder_num_heads: int = flag(8, "heads of its attention")
    attention_decoder_feedforward_dim: int = flag(2048, "hidden channels of its feed-forward")

    def __post_init__(self) -> None:
        if not (self.use_transducer or self.use_ctc):
            raise ValueError("--use-transducer 0 and --use-ctc 0 leave no head: turn one on")
        if self.use_cr_ctc and not self.use_ctc:
            raise ValueError("--use-cr-ctc 1 needs --use-ctc 1: it compares the CTC head's outputs")
        if min(self.decoder_dim, self.joiner_dim, self.context_size) < 1:
            raise ValueError("--decoder-dim, --joiner-dim and --context-size must be positive")
        if self.context_size > 1 and self.decoder_dim % CHANNELS_PER_GROUP:
            raise ValueError(
                f"--decoder-dim must be a multiple of {CHANNELS_PER_GROUP}, got {self.decoder_dim}"
            )
        if self.own_heads and not (self.use_transducer and self.own_heads.isidentifier()):
            raise ValueError(
                f"--own-heads {self.own_heads} needs --use-transducer 1 and a name of letters, "
                "digits and underscores"
            )
        self._check_attention_decoder()

    def _check_attention_decoder(self) -> None:
        sizes = self.attention_decoder
        for name in sizes.__slots__:
            if getattr(sizes, name) < 1:
                raise ValueError(f"--attention-decoder-{name.replace('_', '-')} must be positive")
        if sizes.dim % 2:
            raise ValueError(f"--attention-decoder-dim must be even, got {sizes.dim}")
        if sizes.attention_dim % sizes.num_heads:
            raise ValueError(
                "--attention-decoder-attention-dim must be a multiple of "
                f"--attention-decoder-num-heads, got {sizes.attention_dim} and {sizes.num_heads}"
            )

    @property
    def attention_decoder(self) -> AttentionDecoderConfig:
        """Sizes of the attention decoder, whether or not there is one."""
        return AttentionDecoderConfig(
            dim=self.attention_decoder_dim,
            num_layers=self.attention_decoder_num_layers,
            attention_dim=self.attention_decoder_attention_dim,
            num_heads=self.attention_decoder_num_heads,
            feedforward_dim=self.attention_decoder_feedforward_dim,
        )


#: Class of settings -> its fields that may change while the weights keep their meaning.
CHANGEABLE: dict[str, tuple[str, ...]] = {
    cls.__name__: cls.CHANGEABLE for cls in (*ENCODER_TYPES.values(), ModelConfig)
}


def build_model(zipformer: EncoderConfig, model: ModelConfig, vocab_size: int) -> AsrModel:
    """Build a model with fresh weights on the default device.

    Args:
        zipformer: shape of the encoder, of either generation.
        model: heads.
        vocab_size: V, the blank included.

    Returns:
        The model, in training mode.
    """
    decoder = joiner = None
    if model.use_transducer:
        decoder, joiner = _build_transducer(zipformer, model, vocab_size)
    attention_decoder = None
    if model.use_attention_decoder:
        attention_decoder = AttentionDecoderModel(
            vocab_size, zipformer.output_dim, model.attention_decoder, SENTENCE_ENDS_ID
        )
    built = AsrModel(
        encoder=_build_encoder(zipformer),
        decoder=decoder,
        joiner=joiner,
        encoder_dim=zipformer.output_dim,
        vocab_size=vocab_size,
        use_ctc=model.use_ctc,
        attention_decoder=attention_decoder,
    )
    if model.own_heads:
        built.add_own_heads(model.own_heads, *_build_transducer(zipformer, model, vocab_size))
    return built


def _build_transducer(
    zipformer: EncoderConfig, model: ModelConfig, vocab_size: int
) -> tuple[Decoder, Joiner]:
    decoder = Decoder(
        vocab_size,
        model.decoder_dim,
        BLANK_ID,
        model.context_size,
        # The first recipes trained it without.
        balanced=isinstance(zipformer, ZipformerConfig),
    )
    return decoder, Joiner(zipformer.output_dim, model.decoder_dim, model.joiner_dim, vocab_size)


def _build_encoder(zipformer: EncoderConfig) -> EncoderParts:
    """Return front end and encoder; the first Zipformer has its front end inside."""
    if isinstance(zipformer, Zipformer1Config):
        first = Zipformer(zipformer, FEATURE_DIM)
        return EncoderParts(None, first, Zipformer1Chunks(first))
    layer1, layer2, layer3 = zipformer.embed_channels
    embed = Conv2dSubsampling(
        FEATURE_DIM,
        zipformer.encoder_dim[0],
        layer1_channels=layer1,
        layer2_channels=layer2,
        layer3_channels=layer3,
        dropout=zipformer.dropout_rate(),
    )
    encoder = Zipformer2(zipformer)
    return EncoderParts(embed, encoder, Zipformer2Chunks(embed, encoder))
