"""Chunks of time in a causal encoder: their size, the left context, and which sizes fit."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple


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
