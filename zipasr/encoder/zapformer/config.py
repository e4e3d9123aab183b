"""Shape of the Zapformer, under the flags of its recipe, and its published sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from zipasr.base.config import check_numbers, flag, shown
from zipasr.encoder.chunks import ChunkedConfig, check_chunks, settings_of_preset
from zipasr.encoder.protocol import Flags, Geometry, HeadStyle, LossStyle

if TYPE_CHECKING:
    from zipasr.encoder.inference import WeightShapes

#: Number of frames at 20 ms that make one output frame.
OUTPUT_FACTOR = 2

_PER_STACK = (
    "num_encoder_layers",
    "encoder_multiple",
    "feedforward_multiple",
    "num_heads",
    "query_head_dim",
    "value_head_dim",
    "pos_head_dim",
    "conv_params",
)

_HEAD_MULTIPLES = (
    "decoder_multiple",
    "joiner_multiple",
    "attention_decoder_multiple",
    "attention_decoder_attention_multiple",
    "attention_decoder_feedforward_multiple",
)

_SINGLE = ("base_dim", "embed_multiple", *_HEAD_MULTIPLES)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerConfig:
    """Sizes of a layer."""

    encoder_dim: int
    feedforward_dim: int
    num_heads: int
    query_head_dim: int
    value_head_dim: int
    pos_head_dim: int
    conv_params: int
    causal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ZapformerConfig(ChunkedConfig):
    """Shape of the Zapformer; a comma list has one value for each stack, or one for all."""

    name: ClassVar[str] = "zapformer"
    construction: ClassVar[str] = "zipasr.encoder.zapformer.construction"
    schema: ClassVar[str] = "zapformer"
    former_schemas: ClassVar[tuple[str, ...]] = ()
    free_when_decoding: ClassVar[tuple[str, ...]] = ("chunk_size", "left_context_frames")
    #: How the model is trained and streamed: may change between two runs with the same weights.
    free_on_resume: ClassVar[tuple[str, ...]] = ("aux_loss_scale", *free_when_decoding)
    # The multiples of the heads only say what their sizes are when nothing else does.
    not_inferable: ClassVar[tuple[str, ...]] = (*free_on_resume, *_HEAD_MULTIPLES)
    schedule_clock: ClassVar[Literal["updates", "duration"]] = "updates"
    heads: ClassVar[HeadStyle] = HeadStyle(
        decoder_balancers=False,
        decoder_gain=20.0,
        decoder_init=0.1,
        joiner_gain=2.0,
        simple_init=0.1,
        ctc_dropout=None,
        ctc_init=0.1,
        bias_init=0.01,
    )
    losses: ClassVar[LossStyle] = LossStyle(simple_start=None, pruned_start=0.05)
    published_optimizer: ClassVar[str] = "rubik"
    # Source: icefall's ``RESULTS.md``; the seconds count the copies of an utterance as well.
    published_batches: ClassVar[Mapping[tuple[str, str], tuple[int, int]]] = {
        ("base-64", "transducer"): (4, 1200)
    }
    # Where most of the weights of a layer are.
    adapted_layers: ClassVar[tuple[str, ...]] = (
        "*self_attn.qkp_in_proj",
        "*self_attn.vg_in_proj",
        "*self_attn.out_proj",
        "*feed_forward*.in_proj",
        "*feed_forward*.out_proj",
    )

    base_dim: int = flag(64, "unit of all widths, which the multiples multiply")
    num_encoder_layers: tuple[int, ...] = flag((6, 8, 14, 8), "layers of each stack")
    downsampling_factor: tuple[int, ...] = flag(
        (1, 2, 4, 2), "frames of 20 ms that make one frame of each stack; sets their number"
    )
    embed_channels: tuple[int, ...] = flag((16, 64, 128), "channels of the front end, three values")
    embed_multiple: int = flag(6, "width between the stacks, for a frame of 20 ms")
    encoder_multiple: tuple[int, ...] = flag((5, 8, 12, 8), "width of each stack")
    feedforward_multiple: tuple[int, ...] = flag(
        (4, 4, 3, 4), "hidden channels of the feed-forward blocks, as multiples of the width"
    )
    num_heads: tuple[int, ...] = flag((4,), "attention heads")
    query_head_dim: tuple[int, ...] = flag((64,), "channels of a query or key, per head")
    value_head_dim: tuple[int, ...] = flag((96,), "channels of a value, per head")
    pos_head_dim: tuple[int, ...] = flag((4,), "channels of a position query, per head")
    conv_params: tuple[int, ...] = flag((31, 31, 15, 31), "frames that a convolution sees")
    causal: bool = flag(False, "train a model that can work on speech as it comes")
    chunk_size: tuple[int, ...] = flag(
        (16, 32, 64, -1), "causal models: frames of 20 ms in a chunk, -1 for all"
    )
    left_context_frames: tuple[int, ...] = flag(
        (64, 128, 256, -1), "causal models: frames of 20 ms before a chunk, -1 for all"
    )
    aux_loss_scale: float = flag(
        0.05, "weight of the penalties in the gradients; a quarter of it after 2000 updates"
    )
    decoder_multiple: int = flag(8, "width of the prediction network, where no --decoder-dim is")
    joiner_multiple: int = flag(12, "width of the joiner, where no --joiner-dim is")
    attention_decoder_multiple: int = flag(8, "width of the attention decoder, likewise")
    attention_decoder_attention_multiple: int = flag(8, "width of its attention, likewise")
    attention_decoder_feedforward_multiple: int = flag(
        4, "hidden channels of its feed-forward modules, as a multiple of the attention's width"
    )

    def __post_init__(self) -> None:
        self.check_counts(_PER_STACK)
        if len(self.embed_channels) != 3:
            raise ValueError(f"--embed-channels needs 3 values, got {len(self.embed_channels)}")
        sizes = " ".join((*_PER_STACK, *_SINGLE, "downsampling_factor", "embed_channels"))
        check_numbers(self, "must be positive", sizes)
        check_numbers(self, "must not be negative", "aux_loss_scale")
        self._check_time()

    def _check_time(self) -> None:
        factors = self.downsampling_factor
        if any(max(factors) % factor for factor in (OUTPUT_FACTOR, *factors)):
            raise ValueError(
                "the largest --downsampling-factor must be a multiple of 2 and of all others, got "
                f"{factors}"
            )
        if self.causal:
            # Convolutions look back by themselves, whatever the left context is.
            kernels = (1,) * self.num_stacks
            check_chunks(self.chunk_size, self.left_context_frames, factors, kernels)
        elif any(kernel % 2 == 0 for kernel in self.conv_params):
            raise ValueError(f"--conv-params must be odd without --causal, got {self.conv_params}")

    @property
    def embed_dim(self) -> int:
        """Channels between the stacks, for a frame of 20 ms."""
        return self.embed_multiple * self.base_dim

    @property
    def output_dim(self) -> int:
        """C of the encoder output."""
        return OUTPUT_FACTOR * self.embed_dim

    @property
    def encoder_dims(self) -> tuple[int, ...]:
        """Width of each stack."""
        return tuple(self.base_dim * multiple for multiple in self.per_stack("encoder_multiple"))

    def layer_config(self, stack: int) -> LayerConfig:
        """Return the sizes of the layers of one stack."""
        dim = self.encoder_dims[stack]
        return LayerConfig(
            encoder_dim=dim,
            feedforward_dim=dim * self.per_stack("feedforward_multiple")[stack],
            num_heads=self.per_stack("num_heads")[stack],
            query_head_dim=self.per_stack("query_head_dim")[stack],
            value_head_dim=self.per_stack("value_head_dim")[stack],
            pos_head_dim=self.per_stack("pos_head_dim")[stack],
            conv_params=self.per_stack("conv_params")[stack],
            causal=self.causal,
        )

    @property
    def geometry(self) -> Geometry:
        """Features in, frames out; the front end looks ahead by what its convolutions lose."""
        return Geometry(look_ahead=7, right_context=0, tail=Geometry().tail if self.causal else 0)

    def describe(self) -> str:
        """Preset, or layers and channels."""
        mine = _sizes_of(self)
        for name, sizes in self.presets().items():
            if mine == sizes:
                return f"Zapformer {name}"
        layers, dims = shown(self.per_stack("num_encoder_layers")), shown(self.encoder_dims)
        return f"Zapformer with {layers} layers of {dims} channels"

    @classmethod
    def from_preset(
        cls,
        preset: ZapformerPreset,
        *,
        causal: bool = False,
        chunk_size: int | Sequence[int] | None = None,
        left_context_frames: int | Sequence[int] | None = None,
    ) -> ZapformerConfig:
        """Return the settings of a published size.

        Args:
            preset: size.
            causal: see the fields of this name, as the following ones.
            chunk_size: one for streaming, several for training; the default if omitted.
            left_context_frames: likewise.

        Raises:
            UserError: there is no such size.
            ValueError: the chunks do not fit.
        """
        return settings_of_preset(PRESETS, preset, chunk_size, left_context_frames, causal=causal)

    @classmethod
    def presets(cls) -> Mapping[str, Mapping[str, Any]]:
        """Sizes of the published encoders."""
        return {name: _sizes_of(preset) for name, preset in PRESETS.items()}

    @classmethod
    def matches(cls, shapes: WeightShapes) -> bool:
        """Whether stacks have a projection of their own."""
        return shapes.has("encoder_embed.") and shapes.has("encoder.encoders.0.proj.")

    @classmethod
    def settling_flags(cls, _typed: Flags) -> Sequence[str]:
        """Which of the possible units the multiples are of."""
        return ("base_dim",)

    @classmethod
    def defaults_of_others(cls, flags: Flags) -> dict[str, Any]:
        """What the published training has: a CTC head, optimizer and masks; sizes of the heads.

        The sizes are in units of ``base_dim``.
        """
        known = {field: flags.get(field, default) for field, default in _HEAD_DEFAULTS.items()}
        base = known["base_dim"]
        attention = base * known["attention_decoder_attention_multiple"]
        return {
            "use_ctc": True,
            "optimizer": cls.published_optimizer,
            "spec_augment": "alternating",
            "decoder_dim": base * known["decoder_multiple"],
            "joiner_dim": base * known["joiner_multiple"],
            "attention_decoder_dim": base * known["attention_decoder_multiple"],
            "attention_decoder_attention_dim": attention,
            "attention_decoder_feedforward_dim": (
                attention * known["attention_decoder_feedforward_multiple"]
            ),
        }


#: Published sizes.
ZapformerPreset = Literal["base-64", "base-32", "base-16"]

PRESETS: dict[str, ZapformerConfig] = {
    f"base-{size}": ZapformerConfig(base_dim=size) for size in (64, 32, 16)
}

_HEAD_DEFAULTS = {
    name: getattr(PRESETS["base-64"], name) for name in ("base_dim", *_HEAD_MULTIPLES)
}


def _sizes_of(config: ZapformerConfig) -> dict[str, Any]:
    """Return the fields that are sizes of the encoder: all that ``--preset`` sets."""
    single = ("base_dim", "embed_multiple", "embed_channels", "downsampling_factor")
    sizes: dict[str, Any] = {name: getattr(config, name) for name in single}
    return sizes | {name: config.per_stack(name) for name in _PER_STACK}
