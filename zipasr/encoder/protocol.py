"""Interface of an encoder that works chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from zipasr.encoder.masks import MIN_FRAMES, subsampled_lens

S = TypeVar("S")

#: Feature frames that the convolutions of every front end see beyond the last one that they make.
LOST_FRAMES = MIN_FRAMES - 2


class ChunkSize(NamedTuple):
    """How feature frames (10 ms) are cut; neighbours overlap by what a front end looks ahead.

    Attributes:
        frames: that a chunk is made of.
        step: from the beginning of one chunk to that of the next.
    """

    frames: int
    step: int

    @property
    def tail(self) -> int:
        """Frames that must follow an utterance for its own last frames to come out."""
        return self.frames - self.step - LOST_FRAMES

    def num_chunks(self, num_frames: int) -> int:
        """Return how many chunks an utterance is made of, the last one filled up."""
        return -(-2 * subsampled_lens(num_frames) // self.step)

    def valid(self, index: int, num_frames: int) -> int:
        """Return the length of a chunk of an utterance, so that chunks give what the whole gives.

        The frames that come out of all chunks are as many as ``output_lens`` says.
        """
        return min(self.frames, max(0, num_frames + self.tail - index * self.step))


class ChunkEncoder(Protocol[S]):
    """Front end and encoder of a causal model; a state holds N streams."""

    def size(self) -> ChunkSize:
        """How speech must be cut.

        Raises:
            ValueError: the model cannot work on speech as it comes; says why.
        """

    def start(self, batch_size: int, device: torch.device | str) -> S:
        """State of streams of which nothing has been heard.

        Raises:
            ValueError: as ``size``.
        """

    def advance(self, features: Tensor, feature_lens: Tensor, state: S) -> tuple[Tensor, Tensor, S]:
        """Encode the next chunk of each stream.

        Args:
            features: (N, ``frames``, 80).
            feature_lens: (N,) number of valid frames.
            state: before the chunk; left as it is.

        Returns:
            (N, T', C); (N,) valid lengths; the state after the chunk.
        """

    def stack(self, states: Sequence[S]) -> S:
        """State of all streams of several states, side by side."""

    def rows(self, state: S, rows: Sequence[int]) -> S:
        """State of some of the streams, in the order given."""

    def to_list(self, state: S) -> list[Tensor]:
        """Tensors of a state, in the order in which published exports have them."""

    def from_list(self, tensors: Sequence[Tensor]) -> S:
        """State of which these are the tensors.

        Raises:
            ValueError: their number does not fit.
        """

    def batch_dims(self) -> Sequence[int]:
        """Of each tensor of a state: the dimension along which streams stand side by side."""
