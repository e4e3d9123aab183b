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
from dataclasses import dataclass

import torch
from torch import Tensor

from zipasr.encoder.chunk_masks import not_yet_heard
from zipasr.encoder.protocol import ChunkSize, Geometry
from zipasr.encoder.zipformer.front_end import Conv2dSubsampling
from zipasr.encoder.zipformer.layer import BATCH_DIMS
from zipasr.encoder.zipformer.model import Zipformer2
from zipasr.nn.masks import make_pad_mask


def chunk_frames(size: int) -> int:
    """Return how many feature frames a chunk of ``size`` frames of 20 ms is made of."""
    # 7 of the convolutions, and 3 at 20 ms of the ConvNeXt.
    return 2 * size + Geometry().look_ahead


def initial_state(
    embed: Conv2dSubsampling, encoder: Zipformer2, batch_size: int, device: torch.device | str
) -> list[Tensor]:
    """Return the state of streams of which nothing has been heard.

    Raises:
        ValueError: the encoder is not causal, or has several chunk sizes or left contexts.
    """
    return [
        *encoder.get_init_states(batch_size, device),
        embed.get_init_states(batch_size, device),
        torch.zeros(batch_size, dtype=torch.int32, device=device),
    ]


def encode_chunk(
    embed: Conv2dSubsampling,
    encoder: Zipformer2,
    features: Tensor,
    feature_lens: Tensor,
    state: Sequence[Tensor],
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Run front end and encoder on the next chunk of each stream.

    Args:
        embed: the front end.
        encoder: of a causal model with one chunk size and one left context.
        features: (N, T, 80) with T = ``chunk_frames`` of the chunk size.
        feature_lens: (N,) number of valid frames, less than T when a stream ends.
        state: before the chunk; left as it is.

    Returns:
        (N, T', C) with T' half the chunk size; (N,) valid lengths; the state after the chunk.

    Raises:
        ValueError: the shape of the features does not fit the chunk size or the state, the
            state belongs to another left context, or the model is in training mode.
    """
    chunks = encoder.streaming_chunks()
    *layers, left_pad, processed = state
    check_chunk(features, feature_lens, chunks.size, processed.numel())
    x, x_lens, left_pad = embed.streaming_forward(features, feature_lens, left_pad)
    fresh = not_yet_heard(processed, chunks.left_frames)
    mask = torch.cat([fresh, make_pad_mask(x_lens, chunks.size)], dim=1)
    frames, lens, after = encoder.streaming_forward(
        x.transpose(0, 1).contiguous(), x_lens, layers, mask
    )
    processed = processed + x_lens.to(torch.int32)
    return frames.transpose(0, 1).contiguous(), lens, [*after, left_pad, processed]


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

    def start(self, batch_size: int, device: torch.device | str) -> list[Tensor]:
        """See ``ChunkEncoder``."""
        return initial_state(self.embed, self.encoder, batch_size, device)

    def advance(
        self, features: Tensor, feature_lens: Tensor, state: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """See ``ChunkEncoder``."""
        return encode_chunk(self.embed, self.encoder, features, feature_lens, state)

    def batch_dims(self) -> Sequence[int]:
        """See ``ChunkEncoder``."""
        return BATCH_DIMS * self.encoder.num_layers + (0, 0)
