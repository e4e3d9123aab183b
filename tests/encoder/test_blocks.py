"""Convolution, bypass and changes of frame rate against plain formulas."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zipasr.encoder.relative_attention import AttentionWeights
from zipasr.encoder.zipformer.attention import NonlinAttention, SelfAttention
from zipasr.encoder.zipformer.feedforward_convolution import ConvolutionModule
from zipasr.encoder.zipformer.layer import BypassModule, add_branch, keep_mask
from zipasr.encoder.zipformer.stack import SimpleDownsample, SimpleUpsample
from zipasr.nn.layers import DepthwiseConv1d


@pytest.mark.parametrize(("num_frames", "kernel_size"), [(1, 3), (7, 5), (4, 15)])
def test_depthwise_convolution(num_frames: int, kernel_size: int) -> None:
    conv = DepthwiseConv1d(6, kernel_size)
    x = torch.randn(num_frames, 2, 6)
    expected = torch.nn.Conv1d.forward(conv, x.permute(1, 2, 0)).permute(2, 0, 1)
    torch.testing.assert_close(conv(x), expected)


@torch.no_grad()
def test_convolution_takes_padding_for_silence() -> None:
    module = ConvolutionModule(6, kernel_size=5).eval()
    x = torch.randn(9, 2, 6)
    mask = torch.zeros(2, 9, dtype=torch.bool)
    mask[1, 6:] = True
    alone = module(x[:6, 1:])
    torch.testing.assert_close(module(x, mask)[:6, 1:], alone)


@torch.no_grad()
def test_attention_blocks() -> None:
    x = torch.randn(5, 3, 8)
    weights = torch.rand(3, 2, 5, 5).softmax(dim=-1)
    attention = SelfAttention(8, num_heads=2, value_head_dim=3).eval()
    values = attention.in_proj(x).view(5, 3, 2, 3)
    mixed = torch.einsum("nhij,jnhc->inhc", weights, values).flatten(2)
    torch.testing.assert_close(attention(x, AttentionWeights(weights)), attention.out_proj(mixed))
    gated = NonlinAttention(8, hidden_channels=6).eval()
    s, v, y = gated.in_proj(x).chunk(3, dim=-1)
    mixed = torch.einsum("nij,jnc->inc", weights[:, 0], v * s.tanh())
    torch.testing.assert_close(gated(x, AttentionWeights(weights)), gated.out_proj(mixed * y))


def test_bypass_weighs_the_new_value() -> None:
    bypass = BypassModule(3).eval()
    with torch.no_grad():
        bypass.bypass_scale.copy_(torch.tensor([0.0, 1.0, 1.5]))
    old, new = torch.zeros(2, 1, 3), torch.ones(2, 1, 3)
    assert bypass(old, new)[0, 0].tolist() == [0.0, 1.0, 1.5]


def test_skipped_utterances_keep_the_old_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda n, *_, **__: torch.tensor([[0.1], [0.9]]))
    bypass = BypassModule(3, skip_rate=0.5)
    out = bypass(torch.zeros(4, 2, 3), torch.ones(4, 2, 3))
    assert out[:, 0].eq(0.0).all()
    assert out[:, 1].eq(0.5).all()
    keep = keep_mask(2, 0.5, like=out)
    assert add_branch(out, torch.ones_like(out), keep)[0, :, 0].tolist() == [0.0, 1.5]


def test_rate_zero_draws_nothing() -> None:
    state = torch.get_rng_state()
    assert keep_mask(4, 0.0, like=torch.zeros(1)) is None
    assert torch.equal(torch.get_rng_state(), state)


@given(st.integers(1, 20), st.sampled_from([1, 2, 4, 8]))
def test_there_and_back(num_frames: int, factor: int) -> None:
    down = SimpleDownsample(factor)
    torch.nn.init.normal_(down.bias)
    x = torch.randn(num_frames, 2, 3)
    low = down(x).detach()
    weights = down.bias.softmax(0)
    for group in range(-(-num_frames // factor)):
        frames = [min(group * factor + k, num_frames - 1) for k in range(factor)]
        expected = sum(weights[k] * x[frame] for k, frame in enumerate(frames))
        torch.testing.assert_close(low[group], expected)
    back = SimpleUpsample(factor)(low, num_frames)
    assert torch.equal(back, low[torch.arange(num_frames) // factor])
