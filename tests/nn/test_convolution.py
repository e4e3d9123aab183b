"""The chunk-wise causal convolution against its definition, one frame after the other."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from zipasr.nn.layers import Cache, ChunkCausalDepthwiseConv1d

CHANNELS, UTTERANCES = 3, 2


def filled_conv(kernel_size: int, seed: int = 0) -> ChunkCausalDepthwiseConv1d:
    torch.manual_seed(seed)
    conv = ChunkCausalDepthwiseConv1d(CHANNELS, kernel_size).double()
    torch.nn.init.normal_(conv.chunkwise_conv_scale)
    return conv


def by_definition(conv: ChunkCausalDepthwiseConv1d, x: Tensor, chunk_size: int) -> Tensor:
    """Return (T, N, C) for x (T, N, C), from sums over the frames that each frame sees."""
    size = len(x) if chunk_size < 0 else min(chunk_size, len(x))
    return torch.stack([one_frame(conv, x, t, size) for t in range(len(x))])


def one_frame(conv: ChunkCausalDepthwiseConv1d, x: Tensor, t: int, size: int) -> Tensor:
    half, first = conv.kernel_size // 2, t // size * size
    past = conv.causal_conv.bias.expand(x.shape[1:]).clone()
    inside = conv.chunkwise_conv.bias.expand(x.shape[1:]).clone()
    for source in range(max(0, t - half), min(len(x), t + half + 1)):
        if source <= t:
            past = past + conv.causal_conv.weight[:, 0, source - t + half] * x[source]
        if first <= source < first + size:
            inside = inside + conv.chunkwise_conv.weight[:, 0, source - t + half] * x[source]
    return past + inside * edge_scale(conv, t - first, size)


def edge_scale(conv: ChunkCausalDepthwiseConv1d, position: int, size: int) -> Tensor:
    """Return (C,): 1, plus what belongs to the distances from the edges, if they are near."""
    left, right = conv.chunkwise_conv_scale
    scale = torch.ones(CHANNELS, dtype=left.dtype)
    if position < conv.kernel_size:
        scale = scale + left[:, position]
    from_right = size - 1 - position
    if from_right < conv.kernel_size:
        scale = scale + right[:, conv.kernel_size - 1 - from_right]
    return scale


@given(
    num_frames=st.integers(1, 20),
    kernel_size=st.sampled_from((1, 3, 5, 7)),
    chunk_size=st.sampled_from((-1, 1, 2, 3, 5, 8, 16, 40)),
    seed=st.integers(0, 99),
)
@torch.no_grad()
def test_against_the_definition(
    num_frames: int, kernel_size: int, chunk_size: int, seed: int
) -> None:
    conv = filled_conv(kernel_size, seed)
    x = torch.randn(num_frames, UTTERANCES, CHANNELS, dtype=torch.float64)
    torch.testing.assert_close(conv(x, chunk_size), by_definition(conv, x, chunk_size))


@given(
    num_chunks=st.integers(1, 4),
    kernel_size=st.sampled_from((1, 3, 7)),
    chunk_size=st.integers(1, 6),
    seed=st.integers(0, 99),
)
@torch.no_grad()
def test_chunk_by_chunk_equals_all_at_once(
    num_chunks: int, kernel_size: int, chunk_size: int, seed: int
) -> None:
    conv = filled_conv(kernel_size, seed)
    x = torch.randn(num_chunks * chunk_size, UTTERANCES, CHANNELS, dtype=torch.float64)
    memory = Cache(x.new_zeros(kernel_size // 2, UTTERANCES, CHANNELS))
    pieces = [conv(chunk, memory=memory) for chunk in x.split(chunk_size)]
    torch.testing.assert_close(torch.cat(pieces), conv(x, chunk_size))


@pytest.mark.parametrize("chunk_size", [-1, 2, 4])
def test_finite_differences(chunk_size: int) -> None:
    conv = filled_conv(3)
    names = [name for name, _ in conv.named_parameters()]
    x = torch.randn(7, UTTERANCES, CHANNELS, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        named = dict(zip(names, parameters, strict=True))
        result: Tensor = torch.func.functional_call(conv, named, (x, chunk_size))
        return result

    assert torch.autograd.gradcheck(run, (x, *conv.parameters()))


def test_fresh_values() -> None:
    torch.manual_seed(0)
    conv = ChunkCausalDepthwiseConv1d(400, 15)
    assert {name: tuple(value.shape) for name, value in conv.state_dict().items()} == {
        "chunkwise_conv_scale": (2, 400, 15),
        "causal_conv.weight": (400, 1, 8),
        "causal_conv.bias": (400,),
        "chunkwise_conv.weight": (400, 1, 15),
        "chunkwise_conv.bias": (400,),
    }
    assert not conv.chunkwise_conv_scale.any()
    limits = {"causal_conv.weight": 8**-0.5, "causal_conv.bias": 0.1}
    limits |= {"chunkwise_conv.weight": 15**-0.5, "chunkwise_conv.bias": 15**-0.5}
    for name, limit in limits.items():
        assert conv.get_parameter(name).abs().max().item() == pytest.approx(limit, rel=0.03), name
