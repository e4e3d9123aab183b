"""How many frames are left after each change of frame rate."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

Length = TypeVar("Length", int, Tensor)

#: The shortest utterance, in feature frames, that gives at least one encoder frame.
MIN_FRAMES = 9


def subsampled_lens(num_frames: Length) -> Length:
    """Return the number of 20 ms frames that the front end makes of 10 ms feature frames.

    Args:
        num_frames: one length, or (N,) integers.

    Returns:
        The same kind as ``num_frames``; positive from ``MIN_FRAMES`` on.
    """
    return (num_frames - 7) // 2


def halved_lens(num_frames: Length) -> Length:
    """Return the length after joining pairs of frames, the last one alone if need be."""
    return (num_frames + 1) // 2


def output_lens(num_frames: Length) -> Length:
    """Return the number of 40 ms encoder frames for a number of 10 ms feature frames.

    Args:
        num_frames: one length, or (N,) integers.

    Returns:
        T', the same kind as ``num_frames``: 150 gives 36, 97 gives 23.
    """
    return halved_lens(subsampled_lens(num_frames))
