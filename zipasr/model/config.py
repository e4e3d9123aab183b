"""Heads on top of the encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from zipasr.base.config import flag
from zipasr.model.attention_decoder import AttentionDecoderConfig
from zipasr.model.decoder import CHANNELS_PER_GROUP

#: Token id of the blank.
BLANK_ID = 0


#: Id of the token before and after a transcript, which the attention decoder uses.
SENTENCE_ENDS_ID = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """What sits on top of the encoder."""

    #: Name in files.
    schema: ClassVar[str] = "heads"
    former_schemas: ClassVar[tuple[str, ...]] = ("ModelConfig",)
    #: How the model is trained: may change between two runs with the same weights.
    free_on_resume: ClassVar[tuple[str, ...]] = ("use_cr_ctc",)

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
