"""Shape of the Zipformer, and its published sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from zipasr.base.config import flag
from zipasr.encoder.masks import (
    check_chunks,
)
from zipasr.encoder.zipformer.layer import (
    LayerConfig,
)
from zipasr.nn.schedule import FloatLike, ScheduledFloat

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


def in_full(value: Any, num_stacks: int) -> Any:
    """Return a list with one value for all stacks as one value for each; others as they are."""
    return value * num_stacks if isinstance(value, tuple) and len(value) == 1 else value


@dataclass(frozen=True, slots=True, kw_only=True)
class ZipformerConfig:
    """Shape of the encoder; a comma list has one value for each stack, or one for all."""

    #: The work of one decoding step: any value can be typed for a causal model.
    STREAMING: ClassVar[tuple[str, ...]] = ("chunk_size", "left_context_frames")
    #: How the model is trained and streamed: may change between two runs with the same weights.
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("encoder_unmasked_dim", "dropout", *STREAMING)
    #: Settings that weights do not show.
    TRACELESS: ClassVar[tuple[str, ...]] = CHANGEABLE

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
        for name in _PER_STACK:
            count = len(getattr(self, name))
            if count not in (1, self.num_stacks):
                raise ValueError(
                    f"{_flag_name(name)} has {count} values, but --downsampling-factor has "
                    f"{self.num_stacks}: give one value for each stack, or one for all"
                )
        if len(self.embed_channels) != 3:
            raise ValueError(f"--embed-channels needs 3 values, got {len(self.embed_channels)}")

    def _check_values(self) -> None:
        for name in (*_PER_STACK, "downsampling_factor", "embed_channels"):
            if min(getattr(self, name)) < 1:
                raise ValueError(f"{_flag_name(name)} must be positive, got {getattr(self, name)}")
        if any(kernel % 2 == 0 for kernel in self.cnn_module_kernel):
            raise ValueError(f"--cnn-module-kernel must be odd, got {self.cnn_module_kernel}")
        if self.pos_dim < 2 or self.pos_dim % 2:
            raise ValueError(f"--pos-dim must be even and positive, got {self.pos_dim}")
        if self.dropout is not None and not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"--dropout must be at least 0 and below 1, got {self.dropout}")
        dims, unmasked = self.per_stack("encoder_dim"), self.per_stack("encoder_unmasked_dim")
        if any(kept > dim for kept, dim in zip(unmasked, dims, strict=True)):
            raise ValueError(
                f"--encoder-unmasked-dim {unmasked} must not exceed --encoder-dim {dims}"
            )

    @property
    def num_stacks(self) -> int:
        """Number of stacks."""
        return len(self.downsampling_factor)

    @property
    def output_dim(self) -> int:
        """C of the encoder output."""
        return max(self.encoder_dim)

    def per_stack(self, name: str) -> tuple[int, ...]:
        """Return the values of field ``name``, one for each stack."""
        values: tuple[int, ...] = in_full(getattr(self, name), self.num_stacks)
        return values

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

    def dropout_rate(self) -> FloatLike:
        """Return a new dropout rate for one module: the constant, or the published schedule."""
        if self.dropout is not None:
            return self.dropout
        return ScheduledFloat((0.0, 0.3), (20000.0, 0.1), default=0.0)


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


def _flag_name(field: str) -> str:
    return "--" + field.replace("_", "-")
