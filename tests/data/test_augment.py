import logging
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.conftest import TinyCorpus
from zipasr.base.seed import fix_seeds, seeded
from zipasr.data.augment import mix_noise, spec_augment, two_views
from zipasr.data.config import AugmentConfig


def augmented(config: AugmentConfig, features: torch.Tensor) -> torch.Tensor:
    mask = spec_augment(config)
    assert mask is not None
    frames = features.size(1)
    segments = torch.tensor([[i, 0, frames] for i in range(features.size(0))])
    with seeded(1):
        return mask(features, supervision_segments=segments)


@settings(max_examples=40, deadline=None)
@given(
    frames=st.integers(1, 400),
    num_frame_masks=st.integers(0, 10),
    size=st.integers(1, 100),
    fraction=st.sampled_from([0.0, 0.01, 0.15, 1.0]),
    num_feature_masks=st.integers(0, 2),
)
def test_any_setting_fits_any_length(
    frames: int, num_frame_masks: int, size: int, fraction: float, num_feature_masks: int
) -> None:
    config = AugmentConfig(
        spec_aug_num_frame_masks=num_frame_masks,
        spec_aug_frames_mask_size=size,
        spec_aug_max_frames_mask_fraction=fraction,
        spec_aug_num_feature_masks=num_feature_masks,
    )
    features = torch.arange(2.0 * frames * 80).reshape(2, frames, 80)
    assert augmented(config, features).shape == features.shape


def test_masked_share_is_bounded_and_the_input_is_left_alone() -> None:
    config = AugmentConfig(spec_aug_time_warp_factor=0, spec_aug_num_feature_masks=0)
    features = torch.randn(8, 500, 80)
    before = features.clone()
    result = augmented(config, features)
    assert torch.equal(features, before)
    changed = (result != features).any(dim=2).sum(dim=1)
    assert 0 < changed.max() <= 0.15 * 500


def test_off_means_unchanged() -> None:
    nothing = AugmentConfig(
        spec_aug_time_warp_factor=0, spec_aug_num_feature_masks=0, spec_aug_num_frame_masks=0
    )
    features = torch.randn(4, 300, 80)
    assert torch.equal(augmented(nothing, features), features)
    assert spec_augment(AugmentConfig(enable_spec_aug=False)) is None


def test_masks_can_wait_for_an_epoch() -> None:
    config = AugmentConfig(spec_aug_start_epoch=3)
    assert spec_augment(config, epoch=2) is None
    assert spec_augment(config, epoch=3) is not None


def views(config: AugmentConfig, features: torch.Tensor, seed: int = 1) -> torch.Tensor:
    double = two_views(config)
    assert double is not None
    segments = torch.tensor([[i, 0, features.size(1)] for i in range(features.size(0))])
    with seeded(seed):
        return double(features, supervision_segments=segments)


def test_two_views_differ_follow_the_seed_and_leave_the_input_alone() -> None:
    features = torch.randn(6, 300, 80)
    before = features.clone()
    result = views(AugmentConfig(enable_spec_aug=False), features)
    assert torch.equal(features, before)
    first, second = result.chunk(2)
    assert first.shape == features.shape
    assert not any(map(torch.equal, first, second))
    assert torch.equal(views(AugmentConfig(), features), result)
    assert not torch.equal(views(AugmentConfig(), features, seed=2), result)


def test_time_is_warped_once_for_both_views() -> None:
    config = AugmentConfig(
        spec_aug_time_warp_factor=30, spec_aug_num_frame_masks=0, spec_aug_num_feature_masks=0
    )
    features = torch.randn(6, 300, 80)
    first, second = views(config, features).chunk(2)
    assert torch.equal(first, second)
    # The warp is the ordinary one, nine times out of ten.
    assert torch.equal(first, augmented(config, features))
    changed = [not torch.equal(a, b) for a, b in zip(first, features, strict=True)]
    assert sum(changed) >= 4


def masked_runs(view: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """The first frame of each run of masked frames."""
    masked = (view != features).any(dim=1)
    return masked & ~masked.roll(1)


@pytest.mark.parametrize(
    ("ratio", "frames", "most"), [(2.5, 10000, 25), (2.5, 1000, 4), (1.0, 10000, 10), (1.0, 500, 1)]
)
def test_masks_in_time_grow_with_the_ratio(ratio: float, frames: int, most: int) -> None:
    # At most int(10 ratio) masks, and no more than ceil(0.15 ratio T / 100).
    config = AugmentConfig(
        spec_aug_time_warp_factor=0, spec_aug_num_feature_masks=0, time_mask_ratio=ratio
    )
    features = torch.randn(4, frames, 80)
    result = views(config, features)
    counts, shares = [], []
    for view, source in zip(result, features.repeat(2, 1, 1), strict=True):
        counts.append(int(masked_runs(view, source).sum()))
        shares.append(float((view != source).any(dim=1).float().mean()))
    assert max(counts) <= most
    assert max(counts) > most / 2
    assert 0.0 < max(shares) <= 0.15 * ratio


def test_two_views_of_short_speech() -> None:
    for frames in (1, 9, 30):
        features = torch.randn(2, frames, 80)
        assert views(AugmentConfig(), features).shape == (4, frames, 80)
        assert views(AugmentConfig(time_mask_ratio=100.0), features).shape == (4, frames, 80)


def test_views_wait_for_the_epoch_of_masks() -> None:
    config = AugmentConfig(spec_aug_start_epoch=3)
    assert two_views(config, epoch=2) is None
    assert two_views(config, epoch=3) is not None


def test_flags_are_checked() -> None:
    for ratio in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="--time-mask-ratio"):
            AugmentConfig(time_mask_ratio=ratio)
    with pytest.raises(ValueError, match="--spec-aug-max-frames-mask-fraction"):
        AugmentConfig(spec_aug_max_frames_mask_fraction=1.5)
    with pytest.raises(ValueError, match="--spec-aug-frames-mask-size"):
        AugmentConfig(spec_aug_frames_mask_size=0)


def test_no_noise_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert mix_noise(AugmentConfig(), tmp_path) is None
        assert mix_noise(AugmentConfig(enable_musan=False), tmp_path) is None
    assert len(caplog.records) == 1


def test_noise_has_the_level_asked_for_and_follows_the_seed(
    corpus: TinyCorpus, tmp_path: Path
) -> None:
    corpus.cuts.subset(first=4).to_file(tmp_path / "musan_cuts.jsonl.gz")
    mix = mix_noise(AugmentConfig(), tmp_path)
    assert mix is not None
    speech = corpus.cuts.subset(last=12).to_eager()
    mixed = mix(speech, Random(3))
    # The global generators take no part.
    fix_seeds(99)
    again = mix(speech, Random(3))
    other = mix(speech, Random(4))

    def features(cuts: object) -> list[torch.Tensor]:
        return [torch.from_numpy(cut.load_features()) for cut in cuts]  # type: ignore[attr-defined]

    first, second, third = features(mixed), features(again), features(other)
    assert all(map(torch.equal, first, second))
    assert any(
        a.shape != b.shape or not torch.equal(a, b) for a, b in zip(first, third, strict=True)
    )
    noisy = [cut for cut in mixed if len(getattr(cut, "tracks", [])) > 1]
    assert 0 < len(noisy) < 12
    for cut in noisy:
        assert all(10 <= t.snr <= 20 for t in cut.tracks if t.snr is not None)
        # The noise of music has supervisions; they must not appear as speech.
        assert len(cut.supervisions) == 1
    assert [cut.id for cut in mixed] == [cut.id for cut in speech]
