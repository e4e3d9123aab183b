"""SpecAugment that is drawn beside the features and applied later: what a call of it gives."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.conftest import TinyCorpus
from tests.data.test_loaders import config, loader_of
from zipasr.base.seed import seeded
from zipasr.data.augment import spec_augment, two_views
from zipasr.data.config import AugmentConfig
from zipasr.data.late_augment import FeatureTransform, Late, applied


def transforms(config: AugmentConfig) -> list[FeatureTransform]:
    made = [spec_augment(config), two_views(config)]
    return [one for one in made if one is not None]


def next_draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(1))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1000),
    num_frames=st.integers(1, 400),
    kind=st.sampled_from(["standard", "alternating"]),
    factor=st.sampled_from([0, 1, 9, 80]),
    num_frame_masks=st.integers(0, 3),
    num_feature_masks=st.integers(0, 2),
    joined=st.booleans(),
)
def test_draws_and_features_are_those_of_a_call(
    seed: int,
    num_frames: int,
    kind: Any,
    factor: int,
    num_frame_masks: int,
    num_feature_masks: int,
    joined: bool,
) -> None:
    config = AugmentConfig(
        spec_augment=kind,
        spec_aug_time_warp_factor=factor,
        spec_aug_num_frame_masks=num_frame_masks,
        spec_aug_num_feature_masks=num_feature_masks,
    )
    generator = torch.Generator().manual_seed(seed)
    features = 4 * torch.randn(3, num_frames, 80, generator=generator)
    half = num_frames // 2
    segments = [[0, 0, num_frames], [1, 0, half], [2, half // 2, num_frames - half]]
    segments += [[1, half, num_frames - half]] * joined
    for transform in transforms(config):
        with seeded(seed):
            wanted, draws = transform(features, torch.tensor(segments)), next_draws()
        late = Late(transform)
        with seeded(seed):
            assert late(features, torch.tensor(segments)) is features
            assert next_draws() == draws
        assert late.drawn is not None
        torch.testing.assert_close(applied(features, late.drawn), wanted, rtol=1e-4, atol=1e-4)


def test_supervisions_that_overlap_are_warped_at_once() -> None:
    features, segments = torch.randn(1, 300, 80), torch.tensor([[0, 0, 250], [0, 200, 100]])
    for transform in transforms(AugmentConfig()):
        late = Late(transform)
        with seeded(3):
            wanted = transform(features, segments)
        with seeded(3):
            assert torch.equal(late(features, segments), wanted)
        assert late.drawn is None


@pytest.mark.parametrize("doubled", [False, True])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_are_those_that_are_augmented_at_once(
    corpus: TinyCorpus, doubled: bool, num_workers: int
) -> None:
    data, augment = config(corpus, num_workers=num_workers), AugmentConfig(enable_musan=False)
    now = loader_of(corpus, data, augment, doubled=doubled)
    late = loader_of(corpus, data, augment, doubled=doubled, late=True)
    for batch, drawn in zip(now, late, strict=True):
        assert drawn.drawn is not None
        assert drawn.second_view is None
        moved = drawn.to("cpu")
        assert moved.drawn is None
        pairs = [(moved.features, batch.features), (drawn.part(0, 1).features, batch.features[:1])]
        if doubled:
            pairs.append((moved.second_view, batch.second_view))
        for found, wanted in pairs:
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-3)
        assert (batch.cut_ids, batch.texts) == (drawn.cut_ids, drawn.texts)
