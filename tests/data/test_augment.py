import logging
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.conftest import TinyCorpus
from zipasr.base.seed import fix_seeds, seeded
from zipasr.data.augment import AugmentConfig, mix_noise, spec_augment


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


def test_flags_are_checked() -> None:
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
