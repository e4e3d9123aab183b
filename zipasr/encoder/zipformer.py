"""Stacks of layers at several frame rates, in the shape of a U."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from zipasr.base.config import flag
from zipasr.encoder.channels import fit_channels, widest_output
from zipasr.encoder.chunks import (
    WHOLE,
    Chunks,
    check_chunks,
    choose_chunks,
    chunk_mask,
    chunks_of,
)
from zipasr.encoder.layer import LayerConfig, LayerMemory
from zipasr.encoder.layer_states import NUM_STATES, from_memory, initial_states, to_memory
from zipasr.encoder.lengths import halved_lens
from zipasr.encoder.masks import Masks
from zipasr.encoder.resample import SimpleDownsample
from zipasr.encoder.stack import (
    DownsampledZipformer2Encoder,
    LayerSkipSchedule,
    Zipformer2Encoder,
)
from zipasr.nn.schedule import FloatLike, ScheduledFloat

#: Batch count at which all layers are in full use.
WARMUP_BATCHES = 4000.0

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


class Zipformer2(nn.Module):
    """The encoder behind the front end: 20 ms frames in, 40 ms frames out.

    Source: Yao et al., "Zipformer: a faster and better encoder for automatic speech
    recognition", 2024.

    Args:
        config: shape.
    """

    def __init__(self, config: ZipformerConfig) -> None:
        super().__init__()
        self.encoder_dims = config.per_stack("encoder_dim")
        self.unmasked_dims = config.per_stack("encoder_unmasked_dim")
        self.factors = config.downsampling_factor
        self.causal = config.causal
        self.chunk_size = config.chunk_size
        self.left_context_frames = config.left_context_frames
        self.encoders = nn.ModuleList(_build_stack(config, i) for i in range(config.num_stacks))
        self.downsample_output = SimpleDownsample(OUTPUT_FACTOR)

    def forward(
        self, x: Tensor, x_lens: Tensor, src_key_padding_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode; a causal model draws chunks for the call, also in evaluation mode.

        Args:
            x: (T1, N, C of the first stack).
            x_lens: (N,) number of valid frames.
            src_key_padding_mask: (N, T1), True at padding; ``None`` when there is none.

        Returns:
            (T', N, C) with T' = (T1 + 1) // 2 and C the width of the widest stack; frames
            beyond the lengths hold no information. And (N,), the valid lengths.
        """
        chunks = choose_chunks(self.chunk_size, self.left_context_frames) if self.causal else WHOLE
        chunk = chunk_mask(x.size(0), chunks, x.device)
        frames = self._run(x, Masks(src_key_padding_mask, chunk, chunks.size))
        return frames, halved_lens(x_lens)

    def _run(
        self, x: Tensor, masks: Masks, memories: Sequence[Sequence[LayerMemory]] | None = None
    ) -> Tensor:
        feature_masks = self._feature_masks(x)
        outputs = []
        for index, stack in enumerate(self.encoders):
            x = stack(
                fit_channels(x, self.encoder_dims[index]),
                feature_masks[index],
                masks.every(self.factors[index]),
                memories[index] if memories else None,
            )
            outputs.append(x)
        frames: Tensor = self.downsample_output(widest_output(outputs))
        return frames

    def streaming_chunks(self) -> Chunks:
        """Return the one size of chunks with which the model can work on speech as it comes.

        Raises:
            ValueError: the model is not causal, or has no single chunk size and left context.
        """
        if not self.causal:
            raise ValueError("the model is not causal: train one with --causal 1 to stream")
        sizes = (*self.chunk_size, *self.left_context_frames)
        if len(sizes) != 2 or min(sizes) < 0:
            raise ValueError(
                "streaming needs one positive --chunk-size and one --left-context-frames, got "
                f"{self.chunk_size} and {self.left_context_frames}"
            )
        return chunks_of(*sizes)

    def get_init_states(
        self, batch_size: int = 1, device: torch.device | str = "cpu"
    ) -> list[Tensor]:
        """Return zeros for the memory of every layer; see ``streaming`` for the layout.

        Raises:
            ValueError: as for ``streaming_chunks``.
        """
        left_frames = self.streaming_chunks().left_frames
        states = []
        for stack, factor in zip(self.encoders, self.factors, strict=True):
            for layer in _layers(stack):
                states += initial_states(layer, left_frames // factor, batch_size, device)
        return states

    def streaming_forward(
        self,
        x: Tensor,
        x_lens: Tensor,
        states: Sequence[Tensor],
        src_key_padding_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Encode one chunk of each stream.

        Args:
            x: (T1, N, C of the first stack), T1 a multiple of every downsampling factor.
            x_lens: (N,) number of valid frames of the chunk.
            states: of all layers, six tensors each; left as they are.
            src_key_padding_mask: (N, left context + T1), True where a frame of the left context
                lies before the beginning of its stream, and at padding.

        Returns:
            (T1 // 2, N, C of the widest stack); (N,) their valid lengths; the states after the
            chunk.

        Raises:
            ValueError: the encoder is in training mode, or chunk, states and mask do not fit.
        """
        self._check_chunk(x, states, src_key_padding_mask)
        memories, left = [], list(states)
        for stack in self.encoders:
            num_layers = len(_layers(stack))
            used, left = left[: NUM_STATES * num_layers], left[NUM_STATES * num_layers :]
            memories.append(
                [to_memory(used[i : i + NUM_STATES]) for i in range(0, len(used), NUM_STATES)]
            )
        frames = self._run(x, Masks(src_key_padding_mask), memories)
        after = [tensor for layers in memories for m in layers for tensor in from_memory(m)]
        return frames, halved_lens(x_lens), after

    def _check_chunk(self, x: Tensor, states: Sequence[Tensor], mask: Tensor | None) -> None:
        if self.training:
            raise ValueError("a model in training mode leaves frames out at random: call eval()")
        chunks = self.streaming_chunks()
        if x.size(0) != chunks.size:
            raise ValueError(f"a chunk has {chunks.size} frames of 20 ms, got {x.size(0)}")
        num_states = NUM_STATES * sum(len(_layers(stack)) for stack in self.encoders)
        left = states[0].size(0) * self.factors[0] if states else 0
        if len(states) != num_states or left != chunks.left_frames:
            raise ValueError(
                f"expected {num_states} states with a left context of {chunks.left_frames} frames, "
                f"got {len(states)} with {left}: begin with those of get_init_states"
            )
        seen = (x.size(1), left + x.size(0))
        if mask is not None and tuple(mask.shape) != seen:
            raise ValueError(f"the padding mask must be {seen}, got {tuple(mask.shape)}")

    def _feature_masks(self, x: Tensor) -> list[Tensor | None]:
        """Draw, in training, which channels of each utterance the stacks must do without.

        Channels fall into three parts: never masked, masked with probability 1/8, and
        masked whenever the second part is or with probability 1/8.

        Returns:
            For each stack (1, N, C) ones and zeros, or ``None`` where nothing is masked.
        """
        if not self.training:
            return [None] * len(self.encoder_dims)
        keep = (torch.rand(2, x.size(1), 1, device=x.device) > 0.125).to(x.dtype)
        second, third = keep[0], keep[0] * keep[1]
        masks: list[Tensor | None] = []
        for dim, unmasked in zip(self.encoder_dims, self.unmasked_dims, strict=True):
            middle = (dim - unmasked) // 2
            parts = [
                torch.ones_like(second).expand(-1, unmasked),
                second.expand(-1, middle),
                third.expand(-1, dim - unmasked - middle),
            ]
            masks.append(torch.cat(parts, dim=1).unsqueeze(0) if dim > unmasked else None)
        return masks


def _build_stack(config: ZipformerConfig, index: int) -> nn.Module:
    factor = config.downsampling_factor[index]
    layer = config.layer_config(index)
    # The stacks come into use one after the other; the first share of warm-up is free.
    share = WARMUP_BATCHES / (config.num_stacks + 1)
    layer_skip = LayerSkipSchedule(
        begin=share * (index + 1), end=share * (index + 2), final_rate=0.035 * factor**0.5
    )
    stack = Zipformer2Encoder(
        layer, config.per_stack("num_encoder_layers")[index], config.dropout_rate(), layer_skip
    )
    if factor == 1:
        return stack
    return DownsampledZipformer2Encoder(stack, layer.encoder_dim, factor)


def _layers(stack: nn.Module) -> nn.ModuleList:
    inner = stack.encoder if isinstance(stack, DownsampledZipformer2Encoder) else stack
    assert isinstance(inner, Zipformer2Encoder)
    return inner.layers


def _flag_name(field: str) -> str:
    return "--" + field.replace("_", "-")
