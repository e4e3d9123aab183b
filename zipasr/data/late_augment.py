"""SpecAugment in two steps: what is random is drawn beside the features, and applied elsewhere.

Loading processes draw, and a GPU warps and masks: the draws are those of the transforms of
``augment``, in their order, and the result differs from theirs by rounding alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zipasr.nn.numerics import to_device

#: Utterance, first frame, number of frames.
Segment = tuple[int, int, int]


class Warp(NamedTuple):
    """A stretch of an utterance in which a frame moves; lengths and places are in frames.

    Attributes:
        row: number of the utterance.
        start: where the stretch begins.
        num_frames: its length.
        centre: the frame that moves, counted from ``start``.
        moved: where it moves to.
    """

    row: int
    start: int
    num_frames: int
    centre: int
    moved: int


@dataclass(frozen=True, slots=True)
class Drawn:
    """What is done to the features (N, T, C) of a batch, for R = N times ``views`` rows.

    Attributes:
        warps: applied at first, in their order.
        frames: (R, T), true where a frame is masked.
        bins: (R, C), true where a mel bin is masked.
        fills_by_batch: masks hold the mean of the batch, else that of the utterance.
        views: how often the batch is repeated before it is masked.
    """

    warps: tuple[Warp, ...]
    frames: NDArray[np.bool_]
    bins: NDArray[np.bool_]
    fills_by_batch: bool = False
    views: int = 1


class FeatureTransform(Protocol):
    """What changes the features of a batch."""

    def __call__(self, features: Tensor, supervision_segments: Tensor | None = None) -> Tensor:
        """Return a changed copy, with the first axis as it was or several times as long.

        Args:
            features: (N, T, 80).
            supervision_segments: (number of supervisions, 3): utterance, first frame, frames.
        """

    def draw(self, shape: Sequence[int], segments: Sequence[Segment]) -> Drawn:
        """Draw what a call would, from the same generators; change nothing.

        Args:
            shape: N, T, 80.
            segments: of the supervisions: utterance, first frame, frames.
        """


class Late:
    """A transform that draws, and leaves the features as they are.

    Attributes:
        drawn: what is to be applied; None if nothing is.
    """

    def __init__(self, transform: FeatureTransform) -> None:
        self._transform = transform
        self.drawn: Drawn | None = None

    def __call__(self, features: Tensor, supervision_segments: Tensor | None = None) -> Tensor:
        """Return the features."""
        assert supervision_segments is not None
        segments = [(row, start, num) for row, start, num in supervision_segments.tolist()]
        self.drawn = self._transform.draw(features.shape, segments)
        return features


def applied(features: Tensor, drawn: Drawn) -> Tensor:
    """Return the features (R, T, C), warped and masked.

    Args:
        features: (N, T, C) float32, on any device; the host does not wait for it.
        drawn: see above.
    """
    for warps in _parts(drawn.warps):
        features = _warped(features, warps)
    # Two views have the same mean, before they are masked.
    mean = features.mean() if drawn.fills_by_batch else features.mean((1, 2), keepdim=True)
    if drawn.views > 1:
        features = features.repeat(drawn.views, 1, 1)
        mean = mean if drawn.fills_by_batch else mean.repeat(drawn.views, 1, 1)
    frames, bins = (
        to_device(torch.from_numpy(mask), features.device) for mask in (drawn.frames, drawn.bins)
    )
    return torch.where(frames[:, :, None] | bins[:, None, :], mean, features)


def _parts(warps: Sequence[Warp]) -> Iterator[list[Warp]]:
    """Yield warps in their order; those of a part do not overlap, which most often is of all."""
    part: list[Warp] = []
    ends: dict[int, int] = {}
    for warp in warps:
        if warp.start < ends.get(warp.row, 0):
            yield part
            part, ends = [], {}
        part.append(warp)
        ends[warp.row] = warp.start + warp.num_frames
    if part:
        yield part


def _warped(features: Tensor, warps: Sequence[Warp]) -> Tensor:
    """Return the features with frames between others, by cubic convolution as torch does."""
    num_rows, num_frames, _ = features.shape
    places = torch.from_numpy(_places(num_rows, num_frames, warps))
    below, share, first, last = to_device(places, features.device)
    flat, result = features.flatten(0, 1), torch.zeros_like(features)
    begins = torch.arange(0, num_rows * num_frames, num_frames, device=features.device)
    for tap, weight in zip((-1, 0, 1, 2), _cubic(share.unsqueeze(-1)), strict=True):
        frame = (below + tap).clamp(min=first, max=last).long() + begins[:, None]
        taken = flat.index_select(0, frame.flatten()).view_as(features)
        result.addcmul_(taken, weight)
    return result


def _cubic(share: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the weights of the frame before, below, above and after a place between two."""
    a, rest = -0.75, 1 - share
    near = [((a + 2) * x - (a + 3)) * x * x + 1 for x in (share, rest)]
    far = [((a * x - 5 * a) * x + 8 * a) * x - 4 * a for x in (share + 1, rest + 1)]
    return far[0], near[0], near[1], far[1]


def _places(num_rows: int, num_frames: int, warps: Sequence[Warp]) -> NDArray[np.float32]:
    """Return (4, N, T): the frame below a place, the share of the next one, and both ends."""
    found = np.zeros((4, num_rows, num_frames), np.float32)
    found[0], found[3] = np.arange(num_frames), num_frames - 1
    half = np.float32(0.5)
    for row, start, length, centre, moved in warps:
        for old, new, old_size, new_size in (
            (start, start, centre, moved),
            (start + centre, start + moved, length - centre, length - moved),
        ):
            scale = np.float32(old_size) / np.float32(new_size)
            place = scale * (np.arange(new_size, dtype=np.float32) + half) - half
            below = np.floor(place)
            part = found[:, row, new : new + new_size]
            part[0], part[1], part[2], part[3] = old + below, place - below, old, old + old_size - 1
    return found
