"""Shape of the Zipformer, and its published sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from zipasr.base.config import check_numbers, flag, shown
from zipasr.encoder.chunks import ChunkedConfig, check_chunks, in_full, settings_of_preset
from zipasr.encoder.protocol import Flags, Geometry, HeadStyle, LossStyle

if TYPE_CHECKING:
    from zipasr.encoder.inference import WeightShapes

#: Published sizes.
PresetName = Literal["small", "medium", "large"]

#: Number of frames at 20 ms that make one output frame.
OUTPUT_FACTOR = 2

_PER_STACK = (
    "num_encoder_layers",
    "feedforward_dim",
    "num_heads",
    "encoder_dim",
    "query_head_dim",
    "value_head_dim",
    "pos_head_dim",
    "encoder_unmasked_dim",
    "cnn_module_kernel",
)

#: Fields that describe attention heads: their number, and channels of each.
HEAD_FLAGS = ("num_heads", "query_head_dim", "value_head_dim", "pos_head_dim")

# Source: the training commands in icefall's ``RESULTS.md`` of the Zipformer on LibriSpeech.
PUBLISHED_BATCHES = {
    ("small", "transducer"): (2, 1500),
    ("medium", "transducer"): (4, 1000),
    ("large", "transducer"): (4, 1000),
    ("small", "attention"): (2, 1700),
    ("medium", "attention"): (4, 1200),
    ("large", "attention"): (4, 1200),
    ("small", "consistency"): (2, 850),
    ("medium", "consistency"): (4, 700),
    ("large", "consistency"): (2, 1400),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerConfig:
    """Sizes of a layer; the names are those of ``ZipformerConfig``, for one stack."""

    encoder_dim: int
    pos_dim: int
    num_heads: int
    query_head_dim: int
    pos_head_dim: int
    value_head_dim: int
    feedforward_dim: int
    cnn_module_kernel: int
    causal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ZipformerConfig(ChunkedConfig):
    """Shape of the encoder; a comma list has one value for each stack, or one for all."""

    name: ClassVar[str] = "zipformer"
    construction: ClassVar[str] = "zipasr.encoder.zipformer.construction"
    schema: ClassVar[str] = "zipformer"
    former_schemas: ClassVar[tuple[str, ...]] = ("ZipformerConfig",)
    free_when_decoding: ClassVar[tuple[str, ...]] = ("chunk_size", "left_context_frames")
    #: How the model is trained and streamed: may change between two runs with the same weights.
    free_on_resume: ClassVar[tuple[str, ...]] = (
        "encoder_unmasked_dim",
        "dropout",
        *free_when_decoding,
    )
    not_inferable: ClassVar[tuple[str, ...]] = free_on_resume
    schedule_clock: ClassVar[Literal["updates", "duration"]] = "duration"
    heads: ClassVar[HeadStyle] = HeadStyle()
    losses: ClassVar[LossStyle] = LossStyle()
    published_optimizer: ClassVar[str] = "scaled_adam"
    published_batches: ClassVar[Mapping[tuple[str, str], tuple[int, int]]] = PUBLISHED_BATCHES
    # Where most of the weights of a layer are.
    adapted_layers: ClassVar[tuple[str, ...]] = (
        "*self_attn*.in_proj",
        "*self_attn*.out_proj",
        "*feed_forward*.in_proj",
        "*feed_forward*.out_proj",
    )

    num_encoder_layers: tuple[int, ...] = flag((2, 2, 3, 4, 3, 2), "layers of each stack")
    downsampling_factor: tuple[int, ...] = flag(
        (1, 2, 4, 8, 4, 2), "frames of 20 ms that make one frame of each stack; sets their number"
    )
    feedforward_dim: tuple[int, ...] = flag(
        (512, 768, 1024, 1536, 1024, 768), "hidden channels of the feed-forward blocks"
    )
    num_heads: tuple[int, ...] = flag((4, 4, 4, 8, 4, 4), "attention heads")
    encoder_dim: tuple[int, ...] = flag((192, 256, 384, 512, 384, 256), "channels of each stack")
    query_head_dim: tuple[int, ...] = flag((32,), "channels of a query or key, per head")
    value_head_dim: tuple[int, ...] = flag((12,), "channels of a value, per head")
    pos_head_dim: tuple[int, ...] = flag((4,), "channels of a position query, per head")
    pos_dim: int = flag(48, "channels of the positional encoding, even")
    encoder_unmasked_dim: tuple[int, ...] = flag(
        (192, 192, 256, 256, 256, 192), "channels that are never masked in training"
    )
    cnn_module_kernel: tuple[int, ...] = flag(
        (31, 31, 15, 15, 15, 31), "frames that a convolution sees, odd"
    )
    causal: bool = flag(False, "train a model that can work on speech as it comes")
    chunk_size: tuple[int, ...] = flag(
        (16, 32, 64, -1), "causal models: frames of 20 ms in a chunk, -1 for all"
    )
    left_context_frames: tuple[int, ...] = flag(
        (64, 128, 256, -1), "causal models: frames of 20 ms before a chunk, -1 for all"
    )
    embed_channels: tuple[int, ...] = flag(
        (8, 32, 128), "channels of the three convolutions in the front end"
    )
    dropout: float | None = flag(
        None, "constant dropout rate; by default 0.3, falling to 0.1 over 20000 batches"
    )

    def __post_init__(self) -> None:
        self._check_counts()
        self._check_values()
        if self.causal:
            check_chunks(
                self.chunk_size,
                self.left_context_frames,
                self.downsampling_factor,
                self.per_stack("cnn_module_kernel"),
            )

    def _check_counts(self) -> None:
        self.check_counts(_PER_STACK)
        if len(self.embed_channels) != 3:
            raise ValueError(f"--embed-channels needs 3 values, got {len(self.embed_channels)}")

    def _check_values(self) -> None:
        sizes = " ".join((*_PER_STACK, "downsampling_factor", "embed_channels"))
        check_numbers(self, "must be positive", sizes)
        if any(kernel % 2 == 0 for kernel in self.cnn_module_kernel):
            raise ValueError(f"--cnn-module-kernel must be odd, got {self.cnn_module_kernel}")
        if self.pos_dim < 2 or self.pos_dim % 2:
            raise ValueError(f"--pos-dim must be even and positive, got {self.pos_dim}")
        check_numbers(self, "must be at least 0 and below 1", "dropout")
        dims, unmasked = self.per_stack("encoder_dim"), self.per_stack("encoder_unmasked_dim")
        if any(kept > dim for kept, dim in zip(unmasked, dims, strict=True)):
            raise ValueError(
                f"--encoder-unmasked-dim {unmasked} must not exceed --encoder-dim {dims}"
            )

    @property
    def output_dim(self) -> int:
        """C of the encoder output."""
        return max(self.encoder_dim)

    def layer_config(self, stack: int) -> LayerConfig:
        """Return the sizes of the layers of one stack."""
        return LayerConfig(
            encoder_dim=self.per_stack("encoder_dim")[stack],
            pos_dim=self.pos_dim,
            num_heads=self.per_stack("num_heads")[stack],
            query_head_dim=self.per_stack("query_head_dim")[stack],
            pos_head_dim=self.per_stack("pos_head_dim")[stack],
            value_head_dim=self.per_stack("value_head_dim")[stack],
            feedforward_dim=self.per_stack("feedforward_dim")[stack],
            cnn_module_kernel=self.per_stack("cnn_module_kernel")[stack],
            causal=self.causal,
        )

    @property
    def geometry(self) -> Geometry:
        """Features in, frames out."""
        return Geometry(tail=Geometry().tail if self.causal else 0)

    def describe(self) -> str:
        """Preset, or layers and channels."""
        if name := preset_name(self):
            return f"Zipformer {name}"
        layers, dims = (shown(self.per_stack(n)) for n in ("num_encoder_layers", "encoder_dim"))
        return f"Zipformer with {layers} layers of {dims} channels"

    @classmethod
    def from_preset(
        cls,
        preset: PresetName,
        *,
        causal: bool = False,
        chunk_size: int | Sequence[int] | None = None,
        left_context_frames: int | Sequence[int] | None = None,
        dropout: float | None = None,
    ) -> ZipformerConfig:
        """Return the settings of a published size.

        Args:
            preset: size.
            causal: see the fields of this name, as the following ones.
            chunk_size: one for streaming, several for training; the default if omitted.
            left_context_frames: likewise.
            dropout: constant rate; the published schedule if omitted.

        Raises:
            UserError: there is no such size.
            ValueError: the chunks do not fit.
        """
        return settings_of_preset(
            PRESETS, preset, chunk_size, left_context_frames, causal=causal, dropout=dropout
        )

    @classmethod
    def presets(cls) -> Mapping[str, Mapping[str, Any]]:
        """Sizes of the published encoders."""
        return {name: preset_sizes(name) for name in PRESETS}

    @classmethod
    def matches(cls, shapes: WeightShapes) -> bool:
        """Whether front end and stacks, averaged at the end, stand side by side."""
        return shapes.has("encoder_embed.") and shapes.has("encoder.downsample_output.")

    @classmethod
    def settling_flags(cls, _typed: Flags) -> Sequence[str]:
        """Heads and their channels are a product in the weights."""
        return (*HEAD_FLAGS, "causal")


PRESETS: dict[str, ZipformerConfig] = {
    "small": ZipformerConfig(
        num_encoder_layers=(2, 2, 2, 2, 2, 2),
        feedforward_dim=(512, 768, 768, 768, 768, 768),
        encoder_dim=(192, 256, 256, 256, 256, 256),
        encoder_unmasked_dim=(192, 192, 192, 192, 192, 192),
    ),
    "medium": ZipformerConfig(),
    "large": ZipformerConfig(
        num_encoder_layers=(2, 2, 4, 5, 4, 2),
        feedforward_dim=(512, 768, 1536, 2048, 1536, 768),
        encoder_dim=(192, 256, 512, 768, 512, 256),
        encoder_unmasked_dim=(192, 192, 256, 320, 256, 192),
    ),
}


def preset_sizes(name: str) -> dict[str, Any]:
    """Return the fields of ``PRESETS[name]`` that are sizes: all that ``--preset`` sets."""
    fields = (*_PER_STACK, "downsampling_factor", "pos_dim", "embed_channels")
    return {field: getattr(PRESETS[name], field) for field in fields}


def preset_name(config: ZipformerConfig) -> str | None:
    """Return the preset with the same weights, but for causal convolutions; None if there is none.

    Settings that leave no trace in the weights are not compared.
    """
    free = {"causal", *ZipformerConfig.not_inferable}
    return next((n for n, preset in PRESETS.items() if {*differing(config, preset)} <= free), None)


def differing(left: ZipformerConfig, right: ZipformerConfig) -> list[str]:
    """Return the fields in which two configurations differ, however their lists are written."""
    return [
        field.name
        for field in fields(ZipformerConfig)
        if in_full(getattr(left, field.name), left.num_stacks)
        != in_full(getattr(right, field.name), right.num_stacks)
    ]
