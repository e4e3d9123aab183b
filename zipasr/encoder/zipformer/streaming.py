"""Streaming state of the Zipformer, and one step of front end and encoder.

The state of N streams is a flat list, as published exports use it: six tensors for each layer,
from the first stack to the last (``layer``), then two for the front end and the clock:

================ =================== ============================================
name             shape               content
================ =================== ============================================
embed_left_pad   (N, 128, 3, 19)     frames that the next depthwise convolution sees
processed_lens   (N,) int32          frames of 20 ms that each stream has gone through
================ =================== ============================================

A chunk of ``size`` frames of 20 ms is made of ``chunk_frames(size)`` feature frames, and the next
one starts ``2 * size`` feature frames later: chunks overlap by what the front end looks ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from zipasr.encoder.chunk_masks import not_yet_heard
from zipasr.encoder.protocol import ChunkSize, Geometry
from zipasr.encoder.zipformer.front_end import Conv2dSubsampling
from zipasr.encoder.zipformer.layer import BATCH_DIMS, NUM_STATES
from zipasr.encoder.zipformer.model import Zipformer2
from zipasr.nn.masks import make_pad_mask


def chunk_frames(size: int) -> int:
    """Return how many feature frames a chunk of ``size`` frames of 20 ms is made of."""
    # 7 of the convolutions, and 3 at 20 ms of the ConvNeXt.
    return 2 * size + Geometry().look_ahead


@dataclass(frozen=True, slots=True)
class StreamingState:
    """What is remembered of N streams; a step makes a new one and leaves the old as it was.

    Attributes:
        layers: six tensors for each layer, see ``layer``.
        embed_left_pad: (N, C, 3, F).
        processed_lens: (N,) int32, frames of 20 ms.
    """

    layers: list[Tensor]
    embed_left_pad: Tensor
    processed_lens: Tensor

    @property
    def batch_size(self) -> int:
        """Number of streams."""
        return self.processed_lens.numel()

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> StreamingState:
        """Move to another device, or to another floating-point type."""
        floats = [t.to(device=device, dtype=dtype) for t in (*self.layers, self.embed_left_pad)]
        return StreamingState(floats[:-1], floats[-1], self.processed_lens.to(device=device))

    def clone(self) -> StreamingState:
        """Return a copy that shares no memory."""
        return StreamingState.from_list([tensor.clone() for tensor in self.to_list()])

    def to_list(self) -> list[Tensor]:
        """Return the flat list."""
        return [*self.layers, self.embed_left_pad, self.processed_lens]

    @staticmethod
    def from_list(tensors: Sequence[Tensor]) -> StreamingState:
        """Read the flat list.

        Raises:
            ValueError: the number of tensors does not fit.
        """
        if len(tensors) % NUM_STATES != 2:
            raise ValueError(
                f"a state has {NUM_STATES} tensors for each layer and 2 more, got {len(tensors)}"
            )
        return StreamingState(list(tensors[:-2]), tensors[-2], tensors[-1])


def initial_state(
    embed: Conv2dSubsampling, encoder: Zipformer2, batch_size: int, device: torch.device | str
) -> StreamingState:
    """Return the state of streams of which nothing has been heard.

    Raises:
        ValueError: the encoder is not causal, or has several chunk sizes or left contexts.
    """
    return StreamingState(
        encoder.get_init_states(batch_size, device),
        embed.get_init_states(batch_size, device),
        torch.zeros(batch_size, dtype=torch.int32, device=device),
    )


def encode_chunk(
    embed: Conv2dSubsampling,
    encoder: Zipformer2,
    features: Tensor,
    feature_lens: Tensor,
    state: StreamingState,
) -> tuple[Tensor, Tensor, StreamingState]:
    """Run front end and encoder on the next chunk of each stream.

    Args:
        embed: the front end.
        encoder: of a causal model with one chunk size and one left context.
        features: (N, T, 80) with T = ``chunk_frames`` of the chunk size.
        feature_lens: (N,) number of valid frames, less than T when a stream ends.
        state: before the chunk.

    Returns:
        (N, T', C) with T' half the chunk size; (N,) valid lengths; the state after the chunk.

    Raises:
        ValueError: the shape of the features does not fit the chunk size or the state, the
            state belongs to another left context, or the model is in training mode.
    """
    chunks = encoder.streaming_chunks()
    check_chunk(features, feature_lens, chunks.size, state.batch_size)
    x, x_lens, left_pad = embed.streaming_forward(features, feature_lens, state.embed_left_pad)
    fresh = not_yet_heard(state.processed_lens, chunks.left_frames)
    mask = torch.cat([fresh, make_pad_mask(x_lens, chunks.size)], dim=1)
    frames, lens, layers = encoder.streaming_forward(
        x.transpose(0, 1).contiguous(), x_lens, state.layers, mask
    )
    after = replace(
        state,
        layers=layers,
        embed_left_pad=left_pad,
        processed_lens=state.processed_lens + x_lens.to(torch.int32),
    )
    return frames.transpose(0, 1).contiguous(), lens, after


def check_chunk(features: Tensor, feature_lens: Tensor, size: int, streams: int) -> None:
    """Refuse features that are no chunk of ``size`` frames of so many streams.

    Raises:
        ValueError: the shape of the features or of their lengths is another one.
    """
    expected = (streams, chunk_frames(size))
    if tuple(features.shape[:2]) != expected:
        raise ValueError(
            f"a chunk of {size} frames for {streams} streams is made of features "
            f"{expected}, got {tuple(features.shape[:2])}"
        )
    if feature_lens.shape != features.shape[:1]:
        raise ValueError(
            f"{streams} streams need as many lengths, got a tensor of shape "
            f"{tuple(feature_lens.shape)}"
        )


@dataclass(frozen=True, slots=True)
class Zipformer2Chunks:
    """A ``ChunkEncoder`` of a front end and a Zipformer."""

    embed: Conv2dSubsampling
    encoder: Zipformer2

    def size(self) -> ChunkSize:
        """See ``ChunkEncoder``."""
        chunk = self.encoder.streaming_chunks().size
        return ChunkSize(chunk_frames(chunk), 2 * chunk, Geometry())

    def start(self, batch_size: int, device: torch.device | str) -> StreamingState:
        """See ``ChunkEncoder``."""
        return initial_state(self.embed, self.encoder, batch_size, device)

    def advance(
        self, features: Tensor, feature_lens: Tensor, state: StreamingState
    ) -> tuple[Tensor, Tensor, StreamingState]:
        """See ``ChunkEncoder``."""
        return encode_chunk(self.embed, self.encoder, features, feature_lens, state)

    def to_list(self, state: StreamingState) -> list[Tensor]:
        """See ``ChunkEncoder``."""
        return state.to_list()

    def from_list(self, tensors: Sequence[Tensor]) -> StreamingState:
        """See ``ChunkEncoder``."""
        return StreamingState.from_list(tensors)

    def batch_dims(self) -> Sequence[int]:
        """See ``ChunkEncoder``."""
        return BATCH_DIMS * self.encoder.num_layers + (0, 0)
