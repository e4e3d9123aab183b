"""Shape of the first Zipformer, under the flags of its recipes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from zipasr.base.config import flag, flag_name
from zipasr.encoder.masks import Chunks
from zipasr.encoder.zipformer1.layer import LayerConfig

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
class Zipformer1Config:
    """Shape of the first Zipformer; a comma list has one value for each stack."""

    #: The work of one decoding step: any value can be typed for a causal model.
    STREAMING: ClassVar[tuple[str, ...]] = (
        "decode_chunk_len",
        "num_left_chunks",
        "mask_unfilled_cache",
    )
    #: How the model is trained and streamed: may change between two runs with the same weights.
    CHANGEABLE: ClassVar[tuple[str, ...]] = (
        "encoder_unmasked_dims",
        "short_chunk_size",
        "dropout",
        *STREAMING,
    )
    #: Settings that weights do not show; those of a streaming model mean something else.
    TRACELESS: ClassVar[tuple[str, ...]] = ("causal", *CHANGEABLE)

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
        for name in (*_PER_STACK, "zipformer_downsampling_factors"):
            if min(getattr(self, name)) < 1:
                raise ValueError(f"{flag_name(name)} must be positive, got {getattr(self, name)}")
        if any(kernel % 2 == 0 for kernel in self.cnn_module_kernels):
            raise ValueError(f"--cnn-module-kernels must be odd, got {self.cnn_module_kernels}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"--dropout must be at least 0 and below 1, got {self.dropout}")
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
        if self.num_left_chunks < 1:
            raise ValueError(f"--num-left-chunks must be at least 1, got {self.num_left_chunks}")
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
