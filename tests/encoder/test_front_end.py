from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.encoder.chunk_masks import subsampled_lens
from zipasr.encoder.protocol import Geometry
from zipasr.encoder.zipformer.front_end import Conv2dSubsampling

MIN_FRAMES = Geometry().min_frames


@pytest.fixture(scope="module")
def front_end() -> Conv2dSubsampling:
    torch.manual_seed(0)
    return Conv2dSubsampling(80, 12, 2, 4, 8).eval()


@torch.no_grad()
@pytest.mark.parametrize("num_frames", [MIN_FRAMES, 10, 33, 34, 35, 36])
def test_lengths(front_end: Conv2dSubsampling, num_frames: int) -> None:
    lens = torch.tensor([num_frames])
    y, y_lens = front_end(torch.randn(1, num_frames, 80), lens)
    assert y.shape == (1, subsampled_lens(num_frames), 12)
    assert y_lens.tolist() == [y.size(1)]


@torch.no_grad()
def test_frames_are_flattened_channel_by_channel(front_end: Conv2dSubsampling) -> None:
    picture = torch.randn(2, 8, 5, 19)
    expected = front_end.out(picture.transpose(1, 2).flatten(2))
    torch.testing.assert_close(front_end._project(picture), expected)


@settings(max_examples=20, deadline=None)
@given(st.integers(MIN_FRAMES, 60), st.integers(0, 30), st.integers(0, 2**31))
@torch.no_grad()
def test_padding_reaches_three_frames_back(
    front_end: Conv2dSubsampling, num_frames: int, padding: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, num_frames + padding, 80, generator=generator)
    lens = torch.tensor([num_frames])
    alone, _ = front_end(x[:, :num_frames], lens)
    padded, _ = front_end(x, lens)
    safe = max(alone.size(1) - 3, 0)
    torch.testing.assert_close(padded[:, :safe], alone[:, :safe], rtol=0, atol=1e-5)


def test_some_utterances_skip_the_convnext_branch(
    front_end: Conv2dSubsampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "rand", lambda n, *_, **__: torch.tensor([[0.0], [1.0]]))
    block = front_end.convnext
    block.layerdrop_rate.batch_count = 0.0
    x = torch.randn(2, 8, 6, 19)
    y = block.train()(x)
    block.eval()
    assert torch.equal(y[0], x[0])
    torch.testing.assert_close(y[1:], block(x[1:]))
