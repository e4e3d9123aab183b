"""Silence behind utterances, and features cut into chunks: what an encoder is given."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from zipasr.encoder.protocol import ChunkSize, Geometry

LOG_ZERO = -23.025851  # log(1e-10), the features of silence that pads a batch


def with_silence(
    features: Tensor, lens: Tensor, min_frames: int, tail: int = 0, beyond: int = 0
) -> tuple[Tensor, Tensor]:
    """Add silence to the end of each utterance, and more to one too short for the encoder.

    Args:
        features: (N, T, 80); beyond the lengths they are silence.
        lens: (N,) frames of each utterance.
        min_frames: of the shortest utterance that the encoder takes.
        tail: frames to add.
        beyond: frames that the lengths do not count, but the front end looks at: so the last
            frames are the same as of a stream, and in any batch.
    """
    lens = (lens + tail).clamp(min=min_frames)
    missing = max(tail, min_frames - features.size(1)) + beyond
    return F.pad(features, (0, 0, 0, missing), value=LOG_ZERO), lens


def streamed_length(num_frames: int, geometry: Geometry) -> int:
    """Return the frames of a stream with the silence at its end, as on whole utterances."""
    return max(num_frames + geometry.tail, geometry.min_frames)


def filled_chunk(features: Tensor, size: ChunkSize) -> Tensor:
    """Return the first chunk (``size.frames``, 80) of features (T, 80), filled up with silence."""
    part = features[: size.frames]
    return F.pad(part, (0, 0, 0, size.frames - len(part)), value=LOG_ZERO)


def padded_batch(utterances: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return features (N, T, 80), silence behind each utterance (T_n, 80), and lengths (N,)."""
    lens = torch.tensor([len(features) for features in utterances])
    padded = torch.nn.utils.rnn.pad_sequence(utterances, batch_first=True, padding_value=LOG_ZERO)
    return padded, lens
