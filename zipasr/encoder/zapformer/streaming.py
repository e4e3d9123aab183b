"""Streaming state of the Zapformer, and one step of front end and encoder.

The state of N streams is a flat list, as published exports use it: nine tensors for each layer,
from the first stack to the last (``layer``), then two for the front end and the clock:

================ =================== ============================================
name             shape               content
================ =================== ============================================
embed_cache      (N, C, 6, 19)       frames before the next depthwise convolution
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
from zipasr.encoder.zapformer.front_end import FrontEnd
from zipasr.encoder.zapformer.layer import BATCH_DIMS
from zipasr.encoder.zapformer.model import Zapformer
from zipasr.nn.masks import make_pad_mask
from zipasr.nn.numerics import is_traced

#: Feature frames that the convolutions of the front end lose.
LOOK_AHEAD = 7


def chunk_frames(size: int) -> int:
    """Return how many feature frames a chunk of ``size`` frames of 20 ms is made of."""
    return 2 * size + LOOK_AHEAD


def encode_chunk(
    embed: FrontEnd,
    encoder: Zapformer,
    features: Tensor,
    feature_lens: Tensor,
    states: Sequence[Tensor],
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Run front end and encoder on the next chunk of each stream.

    Args:
        embed: the front end.
        encoder: of a causal model with one chunk size and one left context.
        features: (N, T, 80) with T = ``chunk_frames`` of the chunk size; the last chunk of a stream
            may be shorter, not below 9.
        feature_lens: (N,) number of valid frames, less than T when a stream ends.
        states: before the chunk; left as they are.

    Returns:
        (N, T', C) with T' half the chunk size; (N,) valid lengths; the states after the chunk.

    Raises:
        ValueError: the features do not fit the chunk size or the states, the states belong to
            another left context, or the model is in training mode.
    """
    chunks = encoder.streaming_chunks()
    *layers, left_pad, processed = states
    if not is_traced():
        _check_features(features, feature_lens, processed, chunk_frames(chunks.size))
    x, x_lens, left_pad = embed.streaming_forward(features, feature_lens, left_pad)
    # As in whole utterances, the last frame stands for what is missing of one of a slow stack.
    frame = torch.arange(x.size(1), device=x.device)
    last = (x_lens - 1).clamp(min=0).unsqueeze(1)
    kept = torch.where(frame < last, frame, last).to(torch.int64)
    x = x.gather(1, kept.unsqueeze(-1).expand_as(x))
    fresh = not_yet_heard(processed, chunks.left_frames)
    padding = torch.cat([fresh, make_pad_mask(x_lens, x.size(1))], dim=1)
    frames, lens, after = encoder.streaming_forward(
        x.transpose(0, 1).contiguous(), x_lens, layers, padding
    )
    processed = processed + x_lens.to(processed.dtype)
    return frames.transpose(0, 1).contiguous(), lens, [*after, left_pad, processed]


def _check_features(
    features: Tensor, feature_lens: Tensor, processed: Tensor, num_frames: int
) -> None:
    if features.size(0) != processed.numel() or not 9 <= features.size(1) <= num_frames:
        raise ValueError(
            f"a chunk of {processed.numel()} streams is made of features "
            f"{(processed.numel(), num_frames)}, got {tuple(features.shape[:2])}"
        )
    if feature_lens.shape != features.shape[:1]:
        raise ValueError(
            f"{features.size(0)} streams need as many lengths, got a tensor of shape "
            f"{tuple(feature_lens.shape)}"
        )


@dataclass(frozen=True, slots=True)
class ZapformerChunks:
    """A ``ChunkEncoder`` of a front end and a Zapformer."""

    embed: FrontEnd
    encoder: Zapformer
    geometry: Geometry

    def size(self) -> ChunkSize:
        """See ``ChunkEncoder``."""
        chunk = self.encoder.streaming_chunks().size
        return ChunkSize(chunk_frames(chunk), 2 * chunk, self.geometry)

    def start(self, batch_size: int, device: torch.device | str) -> list[Tensor]:
        """See ``ChunkEncoder``."""
        return [
            *self.encoder.get_init_states(batch_size, device),
            self.embed.get_init_states(batch_size, device),
            torch.zeros(batch_size, dtype=torch.int32, device=device),
        ]

    def advance(
        self, features: Tensor, feature_lens: Tensor, state: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """See ``ChunkEncoder``."""
        return encode_chunk(self.embed, self.encoder, features, feature_lens, state)

    def batch_dims(self) -> Sequence[int]:
        """See ``ChunkEncoder``."""
        return BATCH_DIMS * self.encoder.num_layers + (0, 0)
