"""The Zipformer prepared for recognition computes what its modules compute."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.encoder.published import fill
from tests.encoder.sizes import small_config
from zipasr.encoder.protocol import Preparable
from zipasr.encoder.zipformer.construction import ZipformerEncoder, build
from zipasr.encoder.zipformer.prepared_layer import tilted_softplus
from zipasr.nn.activations import swoosh_l, swoosh_r

CHUNK, LEFT = 8, 32


def encoder(**changes: Any) -> ZipformerEncoder:
    """Return a small encoder in evaluation mode, with weights that all matter."""
    built = build(small_config(**changes))
    for module in built.parts.values():
        fill(module)
        module.eval()
    return built


def features(lens: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(lens))
    return torch.randn(len(lens), max(lens), 80, generator=generator) * 2 - 3, torch.tensor(lens)


def assert_same(found: torch.Tensor, expected: torch.Tensor, lens: torch.Tensor) -> None:
    """Compare the frames that hold information, relative to the largest of them."""
    valid = torch.arange(expected.size(1))[None] < lens[:, None]
    scale = float(expected[valid].abs().max())
    torch.testing.assert_close(found[valid], expected[valid], rtol=0, atol=2e-5 * scale)


@torch.no_grad()
@settings(max_examples=8, deadline=None)
@given(
    lens=st.lists(st.integers(9, 300), min_size=1, max_size=3),
    causal=st.booleans(),
    kernel=st.sampled_from([3, 5, 15]),
)
def test_whole_utterances(lens: list[int], causal: bool, kernel: int) -> None:
    changes = {"causal": causal, "cnn_module_kernel": (kernel,)}
    if causal:
        changes |= {"chunk_size": (CHUNK,), "left_context_frames": (LEFT,)}
    modules = encoder(**changes)
    assert isinstance(modules, Preparable)
    x, num = features(lens)
    expected, expected_lens = modules(x, num, lens)
    found, found_lens = modules.prepared(torch.float32).encode(x, num, lens)
    assert torch.equal(found_lens, expected_lens)
    assert_same(found, expected, expected_lens)


@torch.no_grad()
def test_long_utterances_are_cut_into_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = encoder()
    x, num = features([400, 350])
    expected, lens = modules(x, num, [400, 350])
    prepared = modules.prepared(torch.float32)
    for name, few in (("_CACHED", 100), ("_FEW_PRODUCTS", 0)):
        monkeypatch.setattr(f"zipasr.encoder.zipformer.prepared_layer.{name}", few)
    assert_same(prepared.encode(x, num, [400, 350])[0], expected, lens)


@torch.no_grad()
def test_positions_are_right_after_a_longer_utterance() -> None:
    modules = encoder()
    prepared = modules.prepared(torch.float32)
    for length in (100, 300, 60, 101):
        x, num = features([length])
        expected, lens = modules(x, num, [length])
        assert_same(prepared.encode(x, num, [length])[0], expected, lens)


@torch.no_grad()
@pytest.mark.parametrize("streams", [1, 3])
def test_streams(streams: int) -> None:
    modules = encoder(causal=True, chunk_size=(CHUNK,), left_context_frames=(LEFT,))
    chunks, prepared = modules.chunks, modules.prepared(torch.float32)
    size = chunks.size()
    x, _ = features([size.frames + 4 * size.step] * streams)
    ours = theirs = chunks.start(streams, "cpu")
    rng = random.Random(0)
    for index in range(5):
        part = x[:, index * size.step : index * size.step + size.frames]
        full = index < 4
        lens = torch.tensor(
            [size.frames if full else rng.randint(13, size.frames) for _ in range(streams)]
        )
        before = [tensor.clone() for tensor in ours]
        expected, num, theirs = chunks.advance(part, lens, theirs)
        found, found_num, after = prepared.advance(part, lens, ours)
        assert all(map(torch.equal, before, ours))  # a state is left as it was
        ours = after
        assert torch.equal(found_num, num)
        assert_same(found, expected, num.clamp(min=1))
        for mine, other in zip(ours, theirs, strict=True):
            assert mine.dtype == other.dtype
            torch.testing.assert_close(mine, other, rtol=0, atol=1e-3)


def test_a_chunk_of_another_size_is_refused() -> None:
    modules = encoder(causal=True, chunk_size=(CHUNK,), left_context_frames=(LEFT,))
    prepared, state = modules.prepared(torch.float32), modules.chunks.start(1, "cpu")
    with pytest.raises(ValueError, match="a chunk of 8 frames for 1 streams is made of features"):
        prepared.advance(torch.zeros(1, 20, 80), torch.tensor([20]), state)


@torch.no_grad()
def test_bfloat16_is_as_close_as_autocast() -> None:
    modules = encoder()
    x, num = features([250])
    exact = modules(x, num, [250])[0]
    with torch.autocast("cpu", torch.bfloat16):
        other = modules(x, num, [250])[0].float()
    found = modules.prepared(torch.bfloat16).encode(x, num, [250])[0]
    assert found.dtype == torch.float32
    error, usual = ((one - exact).square().mean().sqrt() for one in (found, other))
    assert error < 1.5 * usual


def test_the_middle_of_a_swoosh() -> None:
    x = torch.cat([torch.linspace(-150, 150, 3001), torch.tensor([1e4, -1e4])])[None]
    for function, shift, offset in ((swoosh_l, 4.0, 0.035), (swoosh_r, 1.0, 0.313261687)):
        found = tilted_softplus(x - shift) - (0.08 * shift + offset)
        torch.testing.assert_close(found, function(x), rtol=2e-6, atol=2e-6)


def test_what_is_not_finite_stays_so() -> None:
    t = torch.tensor([[float("nan"), float("inf")]])
    assert not tilted_softplus(t).isfinite().any()
