"""SpecAugment and noise mixing, drawn from seeds that the caller sets for each batch."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import torch
from lhotse import CutSet
from lhotse.dataset import CutMix, SpecAugment
from lhotse.dataset.signal_transforms import time_warp
from numpy.typing import NDArray

from zipasr.data.alternating_masks import AlternatingMasks, draw_warps_evenly, warp_some
from zipasr.data.config import AugmentConfig
from zipasr.data.late_augment import Drawn, FeatureTransform, Segment, Warp
from zipasr.data.manifests import read_cuts
from zipasr.data.noise_features import noise_path

logger = logging.getLogger(__name__)

NOISE_PROBABILITY = 0.5

SPEC_AUG_PROBABILITY = 0.9
"""Share of the utterances that are warped, and, drawn anew, of those that get masks."""


class MaskFeatures:
    """lhotse's SpecAugment, for batches of any length.

    lhotse divides by zero when there are no masks in time, and draws from an empty range when the
    allowed share of a short batch is less than a frame. Such batches get no masks in time.

    Args:
        config: warp and masks.
        ratio: factor on the number of masks in time and on the share of frames they cover.
        warps: False leaves time as it is.
    """

    def __init__(self, config: AugmentConfig, *, ratio: float = 1.0, warps: bool = True) -> None:
        self._num_masks = int(config.spec_aug_num_frame_masks * ratio)
        self._mask_size = config.spec_aug_frames_mask_size
        self._fraction = min(1.0, config.spec_aug_max_frames_mask_fraction * ratio)
        warp_factor = config.spec_aug_time_warp_factor if warps else 0
        self._full = _spec_augment(
            config, warp_factor, self._num_masks, self._mask_size, self._fraction
        )
        # One mask of a width below 1, that is none.
        self._without_time_masks = _spec_augment(config, warp_factor, 1, 1, 1.0)

    def __call__(
        self, features: torch.Tensor, supervision_segments: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return an augmented copy.

        Args:
            features: (N, T, 80).
            supervision_segments: (number of supervisions, 3): utterance, first frame, frames.
                Time is warped inside them; masks cover the whole of T.

        Source: Park et al., "SpecAugment", 2019; "SpecAugment on large scale datasets", 2020.
        """
        transform = self._for_length(features.size(1))
        augmented: torch.Tensor = transform(features, supervision_segments=supervision_segments)
        return augmented

    def draw(self, shape: Sequence[int], segments: Sequence[Segment]) -> Drawn:
        """Draw what lhotse's SpecAugment would; see ``FeatureTransform``."""
        num_rows, num_frames, num_bins = shape
        transform = self._for_length(num_frames)
        warps = draw_warps(segments, transform.time_warp_factor)
        frames = np.zeros((num_rows, num_frames), bool)
        bins = np.zeros((num_rows, num_bins), bool)
        most = transform.max_frames_mask_fraction * num_frames
        num_masks = min(transform.num_frame_masks, math.ceil(most / transform.frames_mask_size))
        width = int(min(transform.frames_mask_size, most // num_masks))
        for row in range(num_rows):
            if random.random() > transform.p:
                continue
            _draw_masks(bins[row], transform.num_feature_masks, transform.features_mask_size)
            _draw_masks(frames[row], num_masks, width)
        return Drawn(warps, frames, bins)

    def _for_length(self, num_frames: int) -> SpecAugment:
        return self._full if self._masks_time(num_frames) else self._without_time_masks

    def _masks_time(self, num_frames: int) -> bool:
        budget = self._fraction * num_frames
        masks = min(self._num_masks, math.ceil(budget / self._mask_size))
        return masks > 0 and budget // masks >= 1


class TwoViews:
    """Two views of each utterance: the same warp, then masks that are drawn for each view.

    The views are meant for the consistency loss, which gains from stronger masks in time.

    Args:
        config: warp and masks; ``time_mask_ratio`` strengthens the masks in time, but for those
            that alternate, which are strong enough.

    Source: Yao et al., "CR-CTC: consistency regularization on CTC", 2024.
    """

    def __init__(self, config: AugmentConfig) -> None:
        self._warp_factor = config.spec_aug_time_warp_factor
        self._warp: Callable[[torch.Tensor, torch.Tensor, int, float], torch.Tensor]
        self._mask: FeatureTransform
        if config.spec_augment == "alternating":
            self._warp, self._mask = warp_some, AlternatingMasks(time_warp_factor=0)
        else:
            self._warp = _warp_some_by_lhotse
            self._mask = MaskFeatures(config, ratio=config.time_mask_ratio, warps=False)

    def __call__(
        self, features: torch.Tensor, supervision_segments: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return (2N, T, 80): the first views of all utterances, then the second ones.

        Args:
            features: (N, T, 80).
            supervision_segments: (number of supervisions, 3): utterance, first frame, frames.
                Time is warped inside them; masks cover the whole of T.
        """
        if supervision_segments is not None and self._warp_factor >= 1:
            features = self._warp(
                features, supervision_segments, self._warp_factor, SPEC_AUG_PROBABILITY
            )
        return self._mask(features.repeat(2, 1, 1))

    def draw(self, shape: Sequence[int], segments: Sequence[Segment]) -> Drawn:
        """Draw the warp and the masks of both views; see ``FeatureTransform``."""
        warps: tuple[Warp, ...] = ()
        if self._warp_factor >= 1:
            draw = draw_warps_evenly if self._warp is warp_some else draw_warps
            warps = draw(segments, self._warp_factor, SPEC_AUG_PROBABILITY)
        return replace(self._mask.draw((2 * shape[0], *shape[1:]), ()), warps=warps, views=2)


class MixNoise:
    """Mix noise into half of the cuts.

    Args:
        noise: cuts in memory, of the same kind (features or audio) as those to be mixed.
        snr: least and most decibels by which the speech is louder, drawn uniformly.
    """

    def __init__(self, noise: CutSet, snr: tuple[float, ...] = (10.0, 20.0)) -> None:
        self._noise, self._snr = noise, snr

    def __call__(self, cuts: CutSet, rng: Random) -> CutSet:
        """Return the cuts with noise; shorter cuts get noise up to the length of the longest.

        A transform is built for each call because lhotse's own generator is created once per
        process and repeats its draws in every worker and every epoch.
        """
        mix = CutMix(
            cuts=self._noise, snr=self._snr, p=NOISE_PROBABILITY, preserve_id=True, seed=rng
        )
        return mix(cuts)


def spec_augment(config: AugmentConfig, epoch: int = 1) -> FeatureTransform | None:
    """Return the feature transform of ``epoch`` (from 1), or None when it is switched off."""
    if not config.enable_spec_aug or epoch < config.spec_aug_start_epoch:
        return None
    if config.spec_augment == "alternating":
        return AlternatingMasks(time_warp_factor=config.spec_aug_time_warp_factor)
    return MaskFeatures(config)


def two_views(config: AugmentConfig, epoch: int = 1) -> TwoViews | None:
    """Return the transform that doubles the batches of ``epoch``, or None before masks begin.

    It takes the place of ``spec_augment``, whether or not that is switched on.
    """
    return TwoViews(config) if epoch >= config.spec_aug_start_epoch else None


def mix_noise(
    config: AugmentConfig, manifest_dir: Path, *, allow_commands: bool = False
) -> MixNoise | None:
    """Return the noise transform, or None when it is switched off or there is no noise."""
    if not config.enable_musan:
        return None
    path = noise_path(manifest_dir)
    if not path.is_file():
        logger.info("no noise is mixed in: there is no %s", path)
        return None
    # Music has supervisions of its own, which would be taken for speech.
    noise = read_cuts(path, allow_commands=allow_commands)
    return MixNoise(noise.drop_supervisions().to_eager(), config.musan_snr)


def _warp_some_by_lhotse(
    features: torch.Tensor, segments: torch.Tensor, factor: int, p: float
) -> torch.Tensor:
    features = features.clone()
    for row, start, num_frames in segments.tolist():
        if random.random() <= p:
            speech = features[row, start : start + num_frames]
            features[row, start : start + num_frames] = time_warp(speech, factor)
    return features


def draw_warps(
    segments: Sequence[Segment], factor: int | None, p: float = SPEC_AUG_PROBABILITY
) -> tuple[Warp, ...]:
    """Draw which utterances lhotse warps, and how: its ``time_warp``, without the features."""
    warps = []
    for row, start, num_frames in segments:
        if random.random() > p or factor is None or factor < 1:
            continue
        if num_frames - factor <= factor + 1:
            continue
        centre = int(np.random.randint(factor + 1, num_frames - factor))
        moved = int(np.random.randint(centre - factor, centre + factor + 1))
        if moved != centre:
            warps.append(Warp(row, start, num_frames, centre, moved))
    return tuple(warps)


def _draw_masks(masked: NDArray[np.bool_], number: int, size: int) -> None:
    """Draw masks along an axis as lhotse's ``mask_along_axis_optimized``, and set them true."""
    widths = torch.randint(0, size, (1, number))
    starts = (torch.rand(1, number) * (len(masked) - widths)).long()
    for start, width in zip(starts[0].tolist(), widths[0].tolist(), strict=True):
        masked[start : start + width] = True


def _spec_augment(
    config: AugmentConfig,
    time_warp_factor: int,
    num_frame_masks: int,
    frames_mask_size: int,
    max_frames_mask_fraction: float,
) -> SpecAugment:
    return SpecAugment(
        time_warp_factor=time_warp_factor,
        num_frame_masks=num_frame_masks,
        frames_mask_size=frames_mask_size,
        max_frames_mask_fraction=max_frames_mask_fraction,
        num_feature_masks=config.spec_aug_num_feature_masks,
        features_mask_size=config.spec_aug_features_mask_size,
        p=SPEC_AUG_PROBABILITY,
    )
