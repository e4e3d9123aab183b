from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from zipasr.encoder.chunk_masks import halved_lens, subsampled_lens
from zipasr.encoder.protocol import Geometry

MIN_FRAMES = Geometry().min_frames
output_lens = Geometry().output_lens


def test_published_examples() -> None:
    assert [subsampled_lens(n) for n in (150, 97)] == [71, 45]
    assert [output_lens(n) for n in (150, 97)] == [36, 23]


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=5))
def test_ints_and_tensors_agree(lens: list[int]) -> None:
    assert output_lens(torch.tensor(lens)).tolist() == [output_lens(n) for n in lens]


@given(st.integers(7, 3000))
def test_lengths_are_those_of_the_two_changes_of_rate(num_frames: int) -> None:
    assert output_lens(num_frames) == halved_lens(subsampled_lens(num_frames))


def test_shortest_utterance() -> None:
    assert output_lens(MIN_FRAMES) == 1
    assert output_lens(MIN_FRAMES - 1) == 0
