"""Settings of the heads on top of the encoder, and of the transducer loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypedDict, get_args

from zipasr.base.config import check_numbers, flag
from zipasr.losses.config import RnntBackend, RnntType

#: Input and output channels of each group in the convolution over tokens.
CHANNELS_PER_GROUP = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Model heads."""

    #: Name in files.
    schema: ClassVar[str] = "heads"
    former_schemas: ClassVar[tuple[str, ...]] = ("ModelConfig",)
    #: How the model is trained: may change between two runs with the same weights.
    free_on_resume: ClassVar[tuple[str, ...]] = ("use_cr_ctc",)

    decoder_dim: int = flag(512, "channels of the prediction network, a multiple of 4")
    joiner_dim: int = flag(512, "channels of the joiner")
    context_size: int = flag(2, "tokens of context of the prediction network")
    use_transducer: bool = flag(True, "transducer head")
    use_ctc: bool = flag(False, "CTC head")
    own_heads: str = flag(
        "",
        "name of an --extra-manifest whose batches train a transducer head of their own, such "
        "as giga",
    )
    use_attention_decoder: bool = flag(False, "attention-decoder head")
    use_cr_ctc: bool = flag(
        False,
        "consistency regularisation (CR-CTC) over two masked views of each utterance",
    )
    attention_decoder_dim: int = flag(512, "channels of the attention decoder, even")
    attention_decoder_num_layers: int = flag(6, "layers of the attention decoder")
    attention_decoder_attention_dim: int = flag(
        512,
        "channels of its attention, all heads together",
    )
    attention_decoder_num_heads: int = flag(8, "attention heads of the attention decoder")
    attention_decoder_feedforward_dim: int = flag(
        2048,
        "hidden channels of its feed-forward modules",
    )

    def __post_init__(self) -> None:
        if not (self.use_transducer or self.use_ctc):
            raise ValueError("--use-transducer 0 and --use-ctc 0 leave no head: turn one on")
        if self.use_cr_ctc and not self.use_ctc:
            raise ValueError("--use-cr-ctc 1 needs --use-ctc 1: it compares the CTC head's outputs")
        check_numbers(self, "must be positive", "decoder_dim joiner_dim context_size")
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


class HeadFields(TypedDict, total=False):
    """Fields of ``ModelConfig`` as keyword arguments; those left out have its defaults."""

    decoder_dim: int
    joiner_dim: int
    context_size: int
    use_transducer: bool
    use_ctc: bool
    own_heads: str
    use_attention_decoder: bool
    use_cr_ctc: bool
    attention_decoder_dim: int
    attention_decoder_num_layers: int
    attention_decoder_attention_dim: int
    attention_decoder_num_heads: int
    attention_decoder_feedforward_dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionDecoderConfig:
    """Sizes of the attention decoder.

    Attributes:
        dim: C between the layers, even.
        num_layers: at least 1.
        attention_dim: channels of all heads together, a multiple of ``num_heads``.
        num_heads: H.
        feedforward_dim: hidden channels of the feed-forward blocks.
    """

    dim: int
    num_layers: int
    attention_dim: int
    num_heads: int
    feedforward_dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransducerConfig:
    """Transducer loss."""

    prune_range: int = flag(5, "symbol positions per frame in the pruned loss")
    lm_scale: float = flag(0.25, "share of the decoder-only scores in the simple loss")
    am_scale: float = flag(0.0, "share of the encoder-only scores in the simple loss")
    rnnt_type: RnntType = flag(
        "regular",
        "lattice; modified: one token or blank per frame; constrained: token and blank share a "
        "frame",
    )
    rnnt_backend: RnntBackend = flag("auto", "implementation of the transducer losses")

    def __post_init__(self) -> None:
        if self.prune_range < 2:
            raise ValueError(f"--prune-range must be at least 2, got {self.prune_range}")
        if min(self.lm_scale, self.am_scale) < 0 or self.lm_scale + self.am_scale >= 1:
            raise ValueError(
                "--lm-scale and --am-scale must be at least 0 and add up to less than 1, "
                f"got {self.lm_scale} and {self.am_scale}"
            )
        if self.rnnt_type not in get_args(RnntType):
            raise ValueError(
                f"--rnnt-type must be one of {get_args(RnntType)}, got {self.rnnt_type}"
            )
        if self.rnnt_backend not in get_args(RnntBackend):
            raise ValueError(
                f"--rnnt-backend must be one of {get_args(RnntBackend)}, got {self.rnnt_backend}"
            )
