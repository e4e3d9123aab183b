"""Padding and chunk masks, and sequence lengths after each change of frame rate."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
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


class Chunks(NamedTuple):
    """How one forward call cuts time.

    Attributes:
        size: frames of 20 ms in a chunk; -1 puts everything into one chunk.
        left: number of earlier chunks that a frame sees; -1 for all of them.
    """

    size: int
    left: int

    @property
    def left_frames(self) -> int:
        """Number of earlier frames of 20 ms that a chunk sees; -1 for all of them."""
        return -1 if self.left < 0 else self.left * self.size


#: No chunks: every frame sees every other one.
WHOLE = Chunks(-1, -1)


def chunks_of(size: int, left_context_frames: int) -> Chunks:
    """Round the left context down to whole chunks, of which there is at least one.

    Args:
        size: frames of 20 ms in a chunk, or -1.
        left_context_frames: frames of 20 ms before the chunk, or -1 for all.
    """
    if size < 0:
        return WHOLE
    return Chunks(size, -1 if left_context_frames < 0 else max(1, left_context_frames // size))


def choose_chunks(chunk_size: Sequence[int], left_context_frames: Sequence[int]) -> Chunks:
    """Draw the chunks of one forward call; lists of one element leave no choice.

    The coins are Python's ``random``, in evaluation mode as well.

    Args:
        chunk_size: what to choose from, in frames of 20 ms; -1 for everything.
        left_context_frames: likewise.
    """
    size = random.choice(chunk_size)
    return WHOLE if size < 0 else chunks_of(size, random.choice(left_context_frames))


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


def check_chunks(
    chunk_size: Sequence[int],
    left_context_frames: Sequence[int],
    factors: Sequence[int],
    kernels: Sequence[int],
) -> None:
    """Refuse chunks that a causal model cannot work with.

    Args:
        chunk_size: the choices of --chunk-size.
        left_context_frames: the choices of --left-context-frames.
        factors: by how much each stack lowers the frame rate.
        kernels: frames that the convolutions of each stack see.

    Raises:
        ValueError: names the flag and what would fit.
    """
    for name, values in (
        ("--chunk-size", chunk_size),
        ("--left-context-frames", left_context_frames),
    ):
        if not values or any(value == 0 or value < -1 for value in values):
            raise ValueError(f"{name} must be positive, or -1 for everything, got {values}")
    for size in chunk_size:
        bad = [factor for factor in factors if size > 0 and size % factor]
        if bad:
            raise ValueError(
                f"--chunk-size {size} must be a multiple of every --downsampling-factor, "
                f"but {bad[0]} does not divide it"
            )
        if size > 0 and size % 2:
            raise ValueError(f"--chunk-size {size} must be even: pairs of frames are joined")
        for frames in left_context_frames:
            _check_left_context(chunks_of(size, frames), frames, factors, kernels)


def _check_left_context(
    chunks: Chunks, asked_for: int, factors: Sequence[int], kernels: Sequence[int]
) -> None:
    needed = max(kernel // 2 * factor for kernel, factor in zip(kernels, factors, strict=True))
    if 0 <= chunks.left_frames < needed:
        raise ValueError(
            f"--left-context-frames {asked_for} is too short for --chunk-size {chunks.size}: "
            f"{chunks.left_frames} frames are left in whole chunks, the convolutions see {needed}"
        )


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
