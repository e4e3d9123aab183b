"""Frames that a layer keeps between chunks."""

from __future__ import annotations

import torch
from torch import Tensor


class Cache:
    """The last few frames of one stream of vectors, always in the type they were given in.

    Args:
        frames: (L, N, C), the oldest first.
    """

    def __init__(self, frames: Tensor) -> None:
        self.frames = frames

    def extend(self, new: Tensor) -> Tensor:
        """Return the remembered frames and then ``new``, and remember the last L of both.

        Args:
            new: (T, N, C).

        Returns:
            (L + T, N, C), in the type of ``new``.
        """
        both = torch.cat([self.frames.to(new.dtype), new])
        self.frames = both[new.size(0) :].to(self.frames.dtype)
        return both
