"""Which frames a stack must not use: padding, and chunks that lie too far away."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


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
