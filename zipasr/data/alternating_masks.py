"""AlternatingSpecAugment: masks that grow in number with the utterance and never touch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from zipasr.data.late_augment import Drawn, Segment, Warp

TIME_WARP_FACTOR = 80
_SMALLEST_ROOM = 0.2  # share of an axis that is left for what is between masks


class AlternatingMasks:
    """Time warp, then masks over mel bins and over frames, filled with the mean of the batch.

    On each axis twice as many places are laid out as there are masks, one behind the other, and
    every second one is masked. The number of masks in time follows from the padded length: about
    one in 100 frames. All draws come from torch's generator of the CPU, in this order: of each
    utterance whether and how it is warped, masks over mel bins, masks over frames, and which
    utterances keep their masks.

    Args:
        time_warp_factor: largest shift of time in frames; below 1: no warp.
        time_warp_p: share of the utterances that are warped, where they are long enough.
        p: share of the utterances that get masks.
        num_feature_masks: masks over mel bins; 0: none.
        max_feature_mask_fraction: largest share of the mel bins under masks; half of it on average.
        max_frame_mask_fraction: the same of the frames.
        max_frame_mask_size: largest width of a mask in time, in frames; gives their number.

    Source: icefall, pull request 2082 (the Zapformer recipe), after Park et al., "SpecAugment",
    2019.
    """

    def __init__(
        self,
        *,
        time_warp_factor: int = TIME_WARP_FACTOR,
        time_warp_p: float = 0.9,
        p: float = 0.9,
        num_feature_masks: int = 2,
        max_feature_mask_fraction: float = 0.675,
        max_frame_mask_fraction: float = 0.725,
        max_frame_mask_size: int = 70,
    ) -> None:
        self._time_warp_factor, self._time_warp_p, self._p = time_warp_factor, time_warp_p, p
        self._num_feature_masks = num_feature_masks
        self._feature_fraction = max_feature_mask_fraction
        self._frame_fraction = max_frame_mask_fraction
        self._frame_mask_size = max_frame_mask_size

    def __call__(self, features: Tensor, supervision_segments: Tensor | None = None) -> Tensor:
        """Return an augmented copy.

        Args:
            features: (N, T, C) float32.
            supervision_segments: (number of supervisions, 3): utterance, first frame, frames.
                Time is warped inside them; masks cover the whole of T, padding too.
        """
        warps = self._time_warp_factor >= 1 and self._time_warp_p > 0
        if supervision_segments is not None and warps:
            features = warp_some(
                features, supervision_segments, self._time_warp_factor, self._time_warp_p
            )
        frames, bins = self._draw_masks(features.shape)
        masked = frames[:, :, None] | bins[:, None, :]
        return torch.where(masked, features.mean(), features)

    def draw(self, shape: Sequence[int], segments: Sequence[Segment]) -> Drawn:
        """Draw warps and masks; see ``FeatureTransform``."""
        warps: tuple[Warp, ...] = ()
        if self._time_warp_factor >= 1 and self._time_warp_p > 0:
            warps = draw_warps_evenly(segments, self._time_warp_factor, self._time_warp_p)
        frames, bins = self._draw_masks(shape)
        return Drawn(warps, frames.numpy(), bins.numpy(), fills_by_batch=True)

    def _draw_masks(self, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return (N, T) and (N, C), true where frames and mel bins are masked."""
        num_rows, num_frames, num_bins = shape
        bins = torch.zeros(num_rows, num_bins, dtype=torch.bool)
        if self._num_feature_masks > 0:
            bins = draw_masks(num_rows, num_bins, self._num_feature_masks, self._feature_fraction)
        num_masks = max(1, round(num_frames * self._frame_fraction / self._frame_mask_size))
        frames = draw_masks(num_rows, num_frames, num_masks, self._frame_fraction)
        are_masked = torch.rand(num_rows, 1, 1)[:, :, 0] < self._p
        return frames & are_masked, bins & are_masked


def draw_warps_evenly(segments: Sequence[Segment], factor: int, p: float) -> tuple[Warp, ...]:
    """Draw which utterances ``warp_some`` warps, and how."""
    warps = []
    for row, start, num_frames in segments:
        if float(torch.rand(1)) <= p and (drawn := _draw_warp(num_frames, factor)) is not None:
            warps.append(Warp(row, start, num_frames, *drawn))
    return tuple(warps)


def warp_some(features: Tensor, segments: Tensor, factor: int, p: float) -> Tensor:
    """Return a copy in which a share of the utterances is warped; see ``warp_time``.

    Args:
        features: (N, T, C).
        segments: (number of supervisions, 3): utterance, first frame, frames.
        factor: largest shift, in frames.
        p: share of the utterances.
    """
    features = features.clone()
    for row, start, num_frames in segments.tolist():
        if float(torch.rand(1)) <= p:
            speech = features[row, start : start + num_frames]
            features[row, start : start + num_frames] = warp_time(speech, factor)
    return features


def warp_time(frames: Tensor, factor: int) -> Tensor:
    """Move a point of an utterance in time: stretch what is on one side of it, press the other.

    Args:
        frames: (T, C); up to ``2 factor + 1`` frames stay as they are.
        factor: largest shift, in frames.
    """
    drawn = _draw_warp(len(frames), factor)
    if drawn is None:
        return frames
    centre, moved = drawn
    return torch.cat(
        [_resized(frames[:centre], moved), _resized(frames[centre:], len(frames) - moved)]
    )


def _draw_warp(num_frames: int, factor: int) -> tuple[int, int] | None:
    """Return the frame that moves and where it moves to, or None if all stays as it is."""
    if num_frames - factor <= factor + 1:
        return None
    centre = int(torch.randint(factor + 1, num_frames - factor, ()))
    moved = int(torch.randint(centre - factor, centre + factor + 1, ()))
    return None if moved == centre else (centre, moved)


def _resized(frames: Tensor, num_frames: int) -> Tensor:
    size = (num_frames, frames.size(1))
    resized = F.interpolate(frames[None, None], size=size, mode="bicubic", align_corners=False)
    return resized[0, 0]


def draw_masks(num_rows: int, length: int, num_masks: int, fraction: float) -> Tensor:
    """Return (N, length), true where an axis is masked.

    Args:
        num_rows: N.
        length: of the axis.
        num_masks: of each row, at least 1.
        fraction: largest share of the axis under masks.
    """
    sizes = torch.rand(num_rows, 2 * num_masks)
    positions = torch.rand(num_rows, 2 * num_masks)
    offset = torch.randint(0, 2, (num_rows,))
    starts, ends = mask_bounds(sizes, positions, offset, length, fraction)
    return covered(starts, ends, length)


def mask_bounds(
    sizes: Tensor, positions: Tensor, offset: Tensor, length: int, fraction: float
) -> tuple[Tensor, Tensor]:
    """Return where the masks of each row begin and end, (N, K) both, in fractions of a place.

    The line from 0 to ``length`` is laid out as gap, candidate, gap, ..., candidate, gap; every
    second candidate is a mask.

    Args:
        sizes: (N, 2 K) uniform in 0 to 1, of the candidates.
        positions: (N, 2 K) uniform in 0 to 1; sorted, they divide what the candidates leave free.
        offset: (N,) 0 or 1, the first candidate that is a mask.
        length: of the axis.
        fraction: largest sum of the masks, as a share of the axis.
    """
    num_rows, num_candidates = sizes.shape
    num_masks = num_candidates // 2
    candidates = sizes * (fraction / num_masks)
    room = (1.0 - candidates.sum(dim=1, keepdim=True)).clamp(min=_SMALLEST_ROOM)
    cuts = torch.cat([(positions * room).sort(dim=1).values, room], dim=1)
    pieces = sizes.new_empty(num_rows, 2 * num_candidates + 1)
    pieces[:, 0::2] = cuts.diff(dim=1, prepend=sizes.new_zeros(num_rows, 1))
    pieces[:, 1::2] = candidates
    edges = (pieces / pieces.sum(dim=1, keepdim=True) * length).cumsum(dim=1)
    chosen = offset[:, None] + 2 * torch.arange(num_masks)
    starts, ends = edges[:, 0:-1:2], edges[:, 1::2]
    return starts.gather(1, chosen), ends.gather(1, chosen)


def covered(starts: Tensor, ends: Tensor, length: int) -> Tensor:
    """Return (N, length), true inside the masks; the last place is never inside one.

    Args:
        starts: (N, K) where masks begin; the place that holds the beginning is masked.
        ends: (N, K) where they end; the place that holds the end is not masked.
        length: of the axis.
    """
    places = torch.arange(length)
    first = starts.floor().long()[:, :, None]
    after = ends.floor().long().clamp(max=length - 1)[:, :, None]
    return ((places >= first) & (places < after)).any(dim=1)
