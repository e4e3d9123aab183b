"""Padding and chunk masks, and lengths after each change of frame rate of the Zipformers."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from zipasr.encoder.chunks import Chunks


class Masks(NamedTuple):
    """The masks of one call at one frame rate.

    Attributes:
        padding: (N, S), True at padding, where S counts remembered frames as well; ``None``
            where there is none.
        chunk: (T', T'), True where a source is out of a target's sight; ``None`` without chunks.
        chunk_size: frames in a chunk, -1 for everything.
    """

    padding: Tensor | None = None
    chunk: Tensor | None = None
    chunk_size: int = -1

    def every(self, factor: int) -> Masks:
        """Return the masks at a frame rate that is lower by ``factor``.

        A frame that was joined from several counts as its first one does.
        """
        return Masks(
            None if self.padding is None else self.padding[:, ::factor],
            None if self.chunk is None else self.chunk[::factor, ::factor],
            self.chunk_size // factor,  # -1 stays -1
        )

    def attention(self) -> Tensor | None:
        """Return (N or 1, 1, T' or 1, S) booleans that hold for all heads, or ``None``."""
        padding = None if self.padding is None else self.padding[:, None, None, :]
        chunk = None if self.chunk is None else self.chunk[None, None]
        if padding is None or chunk is None:
            return chunk if padding is None else padding
        return padding | chunk

    def padding_of_last(self, num_frames: int) -> Tensor | None:
        """Return the padding mask of the last frames, (N, num_frames)."""
        return None if self.padding is None else self.padding[:, -num_frames:]


#: Every frame is valid and sees every other one.
NO_MASKS = Masks()


def not_yet_heard(processed_lens: Tensor, left_frames: int) -> Tensor:
    """Return (N, left_frames), True where a remembered frame lies before the stream began."""
    age = torch.arange(left_frames - 1, -1, -1, device=processed_lens.device)
    return processed_lens[:, None] <= age


def chunk_mask(num_frames: int, chunks: Chunks, device: torch.device) -> Tensor | None:
    """Say which sources a target must not use.

    Args:
        num_frames: T, at 20 ms.
        chunks: how time is cut.
        device: of the result.

    Returns:
        (T, T) booleans, target before source, True where the source lies in a later chunk or
        too far back; ``None`` without chunks.
    """
    if chunks.size < 0:
        return None
    chunk = torch.arange(num_frames, device=device) // chunks.size
    target, source = chunk[:, None], chunk[None, :]
    mask = source > target
    return mask if chunks.left < 0 else mask | (source < target - chunks.left)


Length = TypeVar("Length", int, Tensor)


def subsampled_lens(num_frames: Length) -> Length:
    """Return the number of 20 ms frames that the front end makes of 10 ms feature frames.

    Args:
        num_frames: one length, or (N,) integers.

    Returns:
        The same kind as ``num_frames``; positive from 9 on.
    """
    return (num_frames - 7) // 2


def halved_lens(num_frames: Length) -> Length:
    """Return the length after joining pairs of frames, the last one alone if need be."""
    return (num_frames + 1) // 2
