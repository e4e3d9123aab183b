"""SpecAugment that is drawn beside the features and applied later: what a call of it gives."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse.dataset import CutConcatenate, OnTheFlyFeatures

from tests.data.conftest import TinyCorpus
from tests.data.test_loaders import PLAIN, config, loader_of
from zipasr.base.seed import seeded
from zipasr.data.augment import MixNoise, spec_augment, two_views
from zipasr.data.batch_inputs import HeldSounds
from zipasr.data.config import AugmentConfig
from zipasr.data.dataset import Batch, BatchDataset, FeatureRecipe, SampledBatch
from zipasr.data.feature_store import fbank_extractor
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


@pytest.mark.parametrize("kind", ["standard", "alternating"])
def test_supervisions_that_overlap_are_warped_one_after_another(kind: Any) -> None:
    features, segments = torch.randn(1, 300, 80), torch.tensor([[0, 0, 250], [0, 100, 200]])
    for transform in transforms(AugmentConfig(spec_augment=kind)):
        late = Late(transform)
        with seeded(3):
            wanted = transform(features, segments)
        with seeded(3):
            late(features, segments)
        assert late.drawn is not None
        assert len(late.drawn.warps) == 2
        torch.testing.assert_close(applied(features, late.drawn), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("from_audio", [False, True])
@pytest.mark.parametrize("doubled", [False, True])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_are_those_that_are_augmented_at_once(
    corpus: TinyCorpus, doubled: bool, num_workers: int, from_audio: bool
) -> None:
    data = config(corpus, num_workers=num_workers, on_the_fly_feats=from_audio)
    augment = AugmentConfig(enable_musan=False, enable_rir=from_audio)
    now = loader_of(corpus, data, augment, doubled=doubled)
    late = loader_of(corpus, data, augment, doubled=doubled, late=True)
    for batch, drawn in zip(now, late, strict=True):
        assert drawn.drawn is not None
        assert drawn.second_view is None
        assert (drawn.sounds is not None) == drawn.features.is_meta == from_audio
        assert drawn.features.shape == batch.features.shape
        moved = drawn.to("cpu")
        assert moved.drawn is None
        pairs = [(moved.features, batch.features), (drawn.part(0, 1).features, batch.features[:1])]
        if doubled:
            pairs.append((moved.second_view, batch.second_view))
        for found, wanted in pairs:
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-3)
        assert (batch.cut_ids, batch.texts) == (drawn.cut_ids, drawn.texts)


@pytest.mark.parametrize("copies", [1, 2])
def test_features_of_sound_with_noise_are_computed_late(corpus: TinyCorpus, copies: int) -> None:
    """The noise is mixed into samples; utterances are joined, with a pause that it fills."""
    data = config(corpus, on_the_fly_feats=True, concatenate_cuts=True, max_duration=20.0)
    recipe = FeatureRecipe(
        read=OnTheFlyFeatures(fbank_extractor(), use_batch_extract=False),
        join=CutConcatenate(gap=data.gap, duration_factor=data.duration_factor),
        noise=MixNoise(corpus.cuts.drop_supervisions().to_eager()),
        copies=copies,
    )
    cuts, sampled = list(corpus.cuts)[:6], SampledBatch(0, (3, 1, 4, 0))
    now = BatchDataset(cuts, recipe, (1, 1, 0))[sampled]
    late = BatchDataset(cuts, replace(recipe, late=True), (1, 1, 0))[sampled]
    assert isinstance(now, Batch)
    assert isinstance(late, Batch)
    assert late.sounds is not None
    torch.testing.assert_close(late.to("cpu").features, now.features, rtol=0, atol=2e-3)
    assert torch.equal(late.feature_lens, now.feature_lens)
    assert (late.texts, late.cut_ids) == (now.texts, now.cut_ids)


def test_features_are_computed_at_once_where_pauses_are_chosen_by_them(corpus: TinyCorpus) -> None:
    augment = replace(PLAIN, join_prob=1.0, silence_prob=1.0, pause_start_epoch=1)
    loader = loader_of(corpus, config(corpus, on_the_fly_feats=True), augment, late=True)
    assert all(batch.sounds is None for batch in loader)


def test_sounds_are_held_that_have_features() -> None:
    extractor = fbank_extractor()
    held = HeldSounds(extractor)
    for num in (159, 160, 279, 280, 1000, 4321):
        sound = np.zeros((1, num), np.float32)
        assert held.extract(sound, 16_000).shape == extractor.extract(sound, 16_000).shape
    assert held.mirrored().num_frames == 27
    for num in (79, 100):
        with pytest.raises(RuntimeError):
            held.extract(np.zeros((1, num), np.float32), 16_000)
    with pytest.raises(AssertionError, match="8000"):
        held.extract(np.zeros((1, 1000), np.float32), 8_000)
