"""Shape of the first Zipformer, under the flags of its recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from zipasr.base.config import check_numbers, flag, flag_name, shown
from zipasr.encoder.chunks import Chunks
from zipasr.encoder.protocol import BuiltElsewhere, Flags, Geometry, HeadStyle, LossStyle

if TYPE_CHECKING:
    from zipasr.encoder.inference import WeightShapes

#: Channels of a position query in each head.
POS_HEAD_DIM = 4

#: Frames of 10 ms that make one frame of 20 ms.
SUBSAMPLING_FACTOR = 2

_PER_STACK = (
    "num_encoder_layers",
    "feedforward_dims",
    "nhead",
    "encoder_dims",
    "attention_dims",
    "encoder_unmasked_dims",
    "cnn_module_kernels",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerConfig:
    """Sizes of a layer; the names are those of ``Zipformer1Config``, for one stack."""

    encoder_dim: int
    attention_dim: int
    nhead: int
    feedforward_dim: int
    cnn_module_kernel: int
    dropout: float
    causal: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Zipformer1Config(BuiltElsewhere):
    """Shape of the first Zipformer; a comma list has one value for each stack."""

    name: ClassVar[str] = "zipformer1"
    construction: ClassVar[str] = "zipasr.encoder.zipformer1.construction"
    schema: ClassVar[str] = "zipformer1"
    former_schemas: ClassVar[tuple[str, ...]] = ("Zipformer1Config",)
    free_when_decoding: ClassVar[tuple[str, ...]] = (
        "decode_chunk_len",
        "num_left_chunks",
        "mask_unfilled_cache",
    )
    #: How the model is trained and streamed: may change between two runs with the same weights.
    free_on_resume: ClassVar[tuple[str, ...]] = (
        "encoder_unmasked_dims",
        "short_chunk_size",
        "dropout",
        *free_when_decoding,
    )
    # The weights of a streaming model are the same, and mean something else.
    not_inferable: ClassVar[tuple[str, ...]] = ("causal", *free_on_resume)
    schedule_clock: ClassVar[Literal["updates", "duration"]] = "updates"
    heads: ClassVar[HeadStyle] = HeadStyle(decoder_balancers=False)
    losses: ClassVar[LossStyle] = LossStyle()
    published_optimizer: ClassVar[str] = "scaled_adam_v1"
    published_batches: ClassVar[Mapping[tuple[str, str], tuple[int, int]]] = {}
    # Where most of the weights of a layer are.
    adapted_layers: ClassVar[tuple[str, ...]] = (
        "*self_attn*.in_proj",
        "*self_attn*.out_proj",
        "*feed_forward*.in_proj",
        "*feed_forward*.out_proj",
    )

    num_encoder_layers: tuple[int, ...] = flag((2, 4, 3, 2, 4), "layers of each stack")
    feedforward_dims: tuple[int, ...] = flag(
        (1024, 1024, 2048, 2048, 1024), "hidden channels of the feed-forward blocks"
    )
    nhead: tuple[int, ...] = flag((8, 8, 8, 8, 8), "attention heads")
    encoder_dims: tuple[int, ...] = flag(
        (384, 384, 384, 384, 384), "channels of each stack, never fewer than of the one before"
    )
    attention_dims: tuple[int, ...] = flag(
        (192, 192, 192, 192, 192), "channels of queries and keys, all heads; values have half"
    )
    encoder_unmasked_dims: tuple[int, ...] = flag(
        (256, 256, 256, 256, 256), "channels that are never masked in training"
    )
    zipformer_downsampling_factors: tuple[int, ...] = flag(
        (1, 2, 4, 8, 2), "frames of 20 ms that make one frame of each stack; sets their number"
    )
    cnn_module_kernels: tuple[int, ...] = flag(
        (31, 31, 31, 31, 31), "frames that a convolution sees, odd"
    )
    causal: bool = flag(False, "the streaming version (pruned_transducer_stateless7_streaming)")
    num_left_chunks: int = flag(4, "causal models: earlier chunks that a chunk sees")
    short_chunk_size: int = flag(
        50, "causal models: frames of 20 ms of the longest chunk but the whole utterance, training"
    )
    decode_chunk_len: int = flag(32, "causal models: frames of 10 ms in a chunk, decoding")
    mask_unfilled_cache: bool = flag(
        False,
        "causal models, chunk by chunk: look at nothing before the beginning, as on whole "
        "utterances; published figures were made without",
    )
    dropout: float = flag(0.1, "dropout rate")

    def __post_init__(self) -> None:
        for name in _PER_STACK:
            if len(getattr(self, name)) != self.num_stacks:
                raise ValueError(
                    f"{flag_name(name)} has {len(getattr(self, name))} values, but "
                    f"--zipformer-downsampling-factors has {self.num_stacks}: give as many"
                )
        sizes = " ".join((*_PER_STACK, "zipformer_downsampling_factors"))
        check_numbers(self, "must be positive", sizes)
        if any(kernel % 2 == 0 for kernel in self.cnn_module_kernels):
            raise ValueError(f"--cnn-module-kernels must be odd, got {self.cnn_module_kernels}")
        check_numbers(self, "must be at least 0 and below 1", "dropout")
        self._check_dims()
        if self.causal:
            self._check_chunks()

    def _check_dims(self) -> None:
        dims, unmasked = self.encoder_dims, self.encoder_unmasked_dims
        if any(kept > dim for kept, dim in zip(unmasked, dims, strict=True)):
            raise ValueError(
                f"--encoder-unmasked-dims {unmasked} must not exceed --encoder-dims {dims}"
            )
        if list(dims) != sorted(dims) or any(dim % 2 for dim in dims):
            raise ValueError(f"--encoder-dims must be even and must not fall, got {dims}")
        factors = self.zipformer_downsampling_factors
        before = (dims[0], *dims)
        if any(f == 1 and d != b for f, d, b in zip(factors, dims, before, strict=False)):
            raise ValueError("--encoder-dims can only grow where a stack lowers the frame rate")
        for attention, heads in zip(self.attention_dims, self.nhead, strict=True):
            if attention % (2 * heads):
                raise ValueError(
                    f"--attention-dims {attention} must be a multiple of 2 x --nhead {heads}"
                )

    def _check_chunks(self) -> None:
        check_numbers(self, "must be at least 1", "num_left_chunks")
        slowest = max(self.zipformer_downsampling_factors)
        if self.short_chunk_size < slowest:
            raise ValueError(
                f"--short-chunk-size must be at least {slowest}, got {self.short_chunk_size}"
            )
        length = self.decode_chunk_len
        factors = (2, *self.zipformer_downsampling_factors)
        if length < 1 or any(length % (SUBSAMPLING_FACTOR * factor) for factor in factors):
            raise ValueError(
                f"--decode-chunk-len must be a multiple of {SUBSAMPLING_FACTOR * slowest}, "
                f"got {length}"
            )

    @property
    def num_stacks(self) -> int:
        """Number of stacks."""
        return len(self.zipformer_downsampling_factors)

    @property
    def output_dim(self) -> int:
        """C of the encoder output."""
        return self.encoder_dims[-1]

    @property
    def chunks(self) -> Chunks:
        """How time is cut when a causal model decodes."""
        return Chunks(self.decode_chunk_len // SUBSAMPLING_FACTOR, self.num_left_chunks)

    def layer_config(self, stack: int) -> LayerConfig:
        """Return the sizes of the layers of one stack."""
        return LayerConfig(
            encoder_dim=self.encoder_dims[stack],
            attention_dim=self.attention_dims[stack],
            nhead=self.nhead[stack],
            feedforward_dim=self.feedforward_dims[stack],
            cnn_module_kernel=self.cnn_module_kernels[stack],
            dropout=self.dropout,
            causal=self.causal,
        )

    def skip_partner(self, stack: int) -> int | None:
        """Return the earlier stack whose output joins the input of ``stack``, if there is one.

        A stack that raises the frame rate takes up the latest stack, the one before it left out,
        that was at least as fast.
        """
        factors = self.zipformer_downsampling_factors
        if stack <= 1 or factors[stack - 1] <= factors[stack]:
            return None
        earlier = range(stack - 2, -1, -1)
        return next((j for j in earlier if factors[j] <= factors[stack]), 0)

    @property
    def geometry(self) -> Geometry:
        """Features in, frames out."""
        return Geometry(look_ahead=7, right_context=0, tail=Geometry().tail if self.causal else 0)

    def choices(self) -> Mapping[str, tuple[int, ...]]:
        """Nothing: decoding has a chunk size of its own."""
        return {}

    def describe(self) -> str:
        """Layers and channels."""
        layers, dims = shown(self.num_encoder_layers), shown(self.encoder_dims)
        return f"first Zipformer with {layers} layers of {dims} channels"

    def result_tag(self) -> str:
        """Chunk size, as published results are named."""
        return f"streaming-chunk-size-{self.decode_chunk_len}"

    @classmethod
    def presets(cls) -> Mapping[str, Mapping[str, Any]]:
        """One size was published: the defaults."""
        return {}

    @classmethod
    def matches(cls, shapes: WeightShapes) -> bool:
        """Whether the front end is inside the encoder."""
        return shapes.has("encoder.encoder_embed.") and shapes.has("encoder.encoders.0.")

    @classmethod
    def settling_flags(cls, typed: Flags) -> Sequence[str]:
        """Published commands say with nothing else that a model is a streaming one."""
        return ("causal", *(cls.free_when_decoding if typed.get("causal", True) else ()))

    @classmethod
    def with_implied(cls, flags: Flags) -> dict[str, Any]:
        """Only the streaming recipe has the flags of streaming."""
        return {**flags, "causal": bool(flags.keys() & {*cls.free_when_decoding})}
