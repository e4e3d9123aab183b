"""Masks that alternate, against recorded draws and results of the reference, and what must hold."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from zipasr.base.seed import seeded
from zipasr.data.alternating_masks import (
    AlternatingMasks,
    covered,
    draw_masks,
    mask_bounds,
    warp_time,
)
from zipasr.data.augment import MaskFeatures, spec_augment, two_views
from zipasr.data.config import AugmentConfig

FOLDER = Path(__file__).parents[1] / "golden" / "data"
CASES = json.loads((FOLDER / "augment.json").read_text())
ALTERNATING = AugmentConfig(spec_augment="alternating")


def recorded(case: str, name: str) -> Tensor:
    with np.load(FOLDER / "augment.npz") as arrays:
        return torch.from_numpy(arrays[f"{case}/{name}"])


def whole_of(lens: list[int]) -> Tensor:
    """Segments of one supervision for each utterance."""
    return torch.tensor([[row, 0, length] for row, length in enumerate(lens)])


def cases(kind: str) -> list[str]:
    return [name for name in CASES if name.startswith(kind)]


@pytest.mark.parametrize("case", cases("mask"))
def test_masks_are_where_the_reference_puts_them(case: str) -> None:
    about = CASES[case]
    length, fraction = about["N"], about["max_mask_fraction"]
    starts, ends = mask_bounds(
        recorded(case, "u_length"),
        recorded(case, "u_position"),
        recorded(case, "offset").long(),
        length,
        fraction,
    )
    torch.testing.assert_close(starts, recorded(case, "start"), rtol=0, atol=1e-4)
    torch.testing.assert_close(ends, recorded(case, "end"), rtol=0, atol=1e-4)
    assert torch.equal(covered(starts, ends, length), recorded(case, "masked"))
    with torch.random.fork_rng():
        torch.manual_seed(about["generator_seed"])
        drawn = draw_masks(about["B"], length, about["num_masks"], fraction)
    assert torch.equal(drawn, recorded(case, "masked"))


@pytest.mark.parametrize("case", cases("warp"))
def test_time_is_warped_as_in_the_reference(case: str) -> None:
    x, y = recorded(case, "x"), recorded(case, "y")
    with torch.random.fork_rng():
        torch.manual_seed(CASES[case]["generator_seed"])
        warped = warp_time(x, CASES[case]["factor"])
    torch.testing.assert_close(warped, y, rtol=0, atol=1e-5 * float(y.abs().max()))
    assert torch.equal(warped, x) is not bool(CASES[case]["draws"])


@pytest.mark.parametrize("case", cases("whole"))
def test_a_batch_is_the_one_of_the_reference(case: str) -> None:
    about = CASES[case]
    x, y = recorded(case, "x"), recorded(case, "y")
    before = x.clone()
    augment = AlternatingMasks(p=about["p"], time_warp_p=about["time_warp_p"])
    with torch.random.fork_rng():
        torch.manual_seed(about["generator_seed"])
        result = augment(x, whole_of(recorded(case, "lens").tolist()))
    torch.testing.assert_close(result, y, rtol=0, atol=1e-5 * float(y.abs().max()))
    assert torch.equal(x, before)


def plain_bounds(
    sizes: list[float], positions: list[float], offset: int, length: int, fraction: float
) -> list[tuple[float, float]]:
    """Lay out one row piece by piece, as the specification says it."""
    num_masks = len(sizes) // 2
    masks = [u * fraction / num_masks for u in sizes]
    room = max(1 - sum(masks), 0.2)
    cuts = [0.0, *sorted(v * room for v in positions), room]
    gaps = [b - a for a, b in itertools.pairwise(cuts)]
    total = sum(masks) + sum(gaps)
    place, found = 0.0, []
    for gap, mask in zip(gaps, masks, strict=False):
        place += gap / total * length
        found.append((place, place + mask / total * length))
        place = found[-1][1]
    return found[offset::2]


uniform = st.floats(0, 1, exclude_max=True, width=32)


@settings(max_examples=60)
@given(
    draws=st.integers(1, 12).flatmap(
        lambda n: st.lists(st.tuples(uniform, uniform), min_size=2 * n, max_size=2 * n)
    ),
    offset=st.integers(0, 1),
    length=st.integers(1, 400),
    fraction=st.floats(0, 1),
)
def test_bounds_are_those_of_a_line_laid_out_piece_by_piece(
    draws: list[tuple[float, float]], offset: int, length: int, fraction: float
) -> None:
    sizes, positions = (torch.tensor([column]).double() for column in zip(*draws, strict=True))
    starts, ends = mask_bounds(sizes, positions, torch.tensor([offset]), length, fraction)
    expected = plain_bounds(sizes[0].tolist(), positions[0].tolist(), offset, length, fraction)
    got = torch.stack([starts[0], ends[0]], dim=1)
    torch.testing.assert_close(
        got, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9
    )


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 5), length=st.integers(1, 300), masks=st.integers(1, 9), data=st.data())
def test_masks_are_few_apart_and_spare_the_last_place(
    rows: int, length: int, masks: int, data: st.DataObject
) -> None:
    with seeded(data.draw(st.integers(0, 99))):
        masked = draw_masks(rows, length, masks, 0.725)
    assert masked.shape == (rows, length)
    assert not masked[:, -1].any()
    begins = masked & ~masked.roll(1, dims=1)
    assert int(begins.sum(dim=1).max()) <= masks


def test_half_of_the_largest_share_is_masked_in_nine_of_ten_utterances() -> None:
    features = torch.randn(600, 500, 40)
    with seeded(5):
        changed = AlternatingMasks(time_warp_factor=0)(features) != features
    touched = changed.flatten(1).any(dim=1)
    assert float(touched.float().mean()) == pytest.approx(0.9, abs=0.04)
    frames = float(changed[touched].all(dim=2).float().mean())
    bins = float(changed[touched].all(dim=1).float().mean())
    # The last place of an axis, and crowded rows, have less.
    assert frames == pytest.approx(0.725 / 2, abs=0.02)
    assert bins == pytest.approx(0.675 / 2, abs=0.02)
    assert float(changed[touched].float().mean()) == pytest.approx(
        frames + bins - frames * bins, abs=0.01
    )


@pytest.mark.parametrize("frames", [1, 2, 9, 161, 162])
def test_any_length_is_taken(frames: int) -> None:
    features = torch.randn(3, frames, 80)
    with seeded(0):
        assert AlternatingMasks()(features, whole_of([frames] * 3)).shape == features.shape


def test_no_masks_over_bins_on_request() -> None:
    features = torch.randn(20, 200, 80)
    with seeded(0):
        changed = AlternatingMasks(num_feature_masks=0, time_warp_factor=0)(features) != features
    assert torch.equal(changed.any(dim=2), changed.all(dim=2))


def test_the_flag_chooses_among_the_masks() -> None:
    assert isinstance(spec_augment(AugmentConfig()), MaskFeatures)
    assert isinstance(spec_augment(ALTERNATING), AlternatingMasks)
    off = AugmentConfig(spec_augment="alternating", enable_spec_aug=False)
    assert spec_augment(off) is None
    late = AugmentConfig(spec_augment="alternating", spec_aug_start_epoch=2)
    assert spec_augment(late) is None
    assert spec_augment(late, epoch=2) is not None


def test_two_views_have_one_warp_and_masks_of_their_own() -> None:
    features = torch.randn(8, 400, 80)
    segments = whole_of([400] * 8)
    double = two_views(ALTERNATING)
    assert double is not None
    with seeded(1):
        first, second = double(features, segments).chunk(2)
    both_free = (first == second).flatten(1).float().mean(dim=1)
    # 0.44 squared of the elements are under no mask of either view, where both are masked.
    assert 0.1 < float(both_free.mean()) < 0.6
    warped = [not torch.equal(one, x) for one, x in zip(first, features, strict=True)]
    assert any(warped)
    calm = two_views(AugmentConfig(spec_augment="alternating", spec_aug_time_warp_factor=0))
    assert calm is not None
    with seeded(1):
        views = calm(features, segments)
    # Without a warp all that differs from the speech is the mean of the batch.
    differs = views != features.repeat(2, 1, 1)
    torch.testing.assert_close(views[differs], features.mean().expand(int(differs.sum())))
