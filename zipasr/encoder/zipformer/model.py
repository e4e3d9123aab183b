"""Stacks of layers at several frame rates, in the shape of a U."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zipasr.encoder.chunk_masks import Masks, chunk_mask, halved_lens
from zipasr.encoder.chunks import (
    WHOLE,
    Chunks,
    check_states,
    choose_chunks,
    only_chunks,
    states_of_stacks,
)
from zipasr.encoder.zipformer.config import OUTPUT_FACTOR, ZipformerConfig
from zipasr.encoder.zipformer.layer import (
    NUM_STATES,
    LayerCache,
    from_cache,
    initial_states,
    to_cache,
)
from zipasr.encoder.zipformer.stack import (
    DownsampledZipformer2Encoder,
    LayerSkipSchedule,
    SimpleDownsample,
    Zipformer2Encoder,
    fit_channels,
    widest_output,
)
from zipasr.nn.schedule import FloatLike, ScheduledFloat

#: Batch count at which all layers are in full use.
WARMUP_BATCHES = 4000.0


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
        self, x: Tensor, masks: Masks, memories: Sequence[Sequence[LayerCache]] | None = None
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

    @property
    def num_layers(self) -> int:
        """Number of layers of all stacks."""
        return sum(len(_layers(stack)) for stack in self.encoders)

    def streaming_chunks(self) -> Chunks:
        """Return the one size of chunks with which the model can work on speech as it comes.

        Raises:
            ValueError: the model is not causal, or has no single chunk size and left context.
        """
        return only_chunks(self.causal, self.chunk_size, self.left_context_frames)

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
        counts = [len(_layers(stack)) for stack in self.encoders]
        of_stacks = states_of_stacks(states, counts, NUM_STATES)
        memories = [[to_cache(used) for used in layers] for layers in of_stacks]
        frames = self._run(x, Masks(src_key_padding_mask), memories)
        after = [tensor for layers in memories for m in layers for tensor in from_cache(m)]
        return frames, halved_lens(x_lens), after

    def _check_chunk(self, x: Tensor, states: Sequence[Tensor], mask: Tensor | None) -> None:
        if self.training:
            raise ValueError("a model in training mode leaves frames out at random: call eval()")
        chunks = self.streaming_chunks()
        if x.size(0) != chunks.size:
            raise ValueError(f"a chunk has {chunks.size} frames of 20 ms, got {x.size(0)}")
        num_states = NUM_STATES * self.num_layers
        check_states(x, states, mask, chunks, num_states, self.factors[0])

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
        layer, config.per_stack("num_encoder_layers")[index], dropout_rate(config), layer_skip
    )
    if factor == 1:
        return stack
    return DownsampledZipformer2Encoder(stack, layer.encoder_dim, factor)


def dropout_rate(config: ZipformerConfig) -> FloatLike:
    """Return a new dropout rate for one module: the constant, or the published schedule."""
    if config.dropout is not None:
        return config.dropout
    return ScheduledFloat((0.0, 0.3), (20000.0, 0.1), default=0.0)


def _layers(stack: nn.Module) -> nn.ModuleList:
    inner = stack.encoder if isinstance(stack, DownsampledZipformer2Encoder) else stack
    assert isinstance(inner, Zipformer2Encoder)
    return inner.layers
