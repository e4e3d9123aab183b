"""The causal model: chunk masks, true streaming, and both against recorded numbers."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.encoder.published import GOLDEN, LENS, TINY_CAUSAL, features, fill, filled
from zipasr.encoder.stream_states import rows_of, stack
from zipasr.encoder.zipformer.config import ZipformerConfig
from zipasr.encoder.zipformer.front_end import Conv2dSubsampling
from zipasr.encoder.zipformer.model import Zipformer2
from zipasr.encoder.zipformer.streaming import (
    Zipformer2Chunks,
    chunk_frames,
    encode_chunk,
    initial_state,
)
from zipasr.nn.layers import ChunkCausalDepthwiseConv1d
from zipasr.nn.masks import make_pad_mask

Recorded = dict[str, np.ndarray]
SILENCE = math.log(1e-10)
SMALL = ZipformerConfig(
    num_encoder_layers=(1, 2),
    downsampling_factor=(1, 2),
    encoder_dim=(8, 12),
    encoder_unmasked_dim=(8, 8),
    feedforward_dim=(16, 16),
    num_heads=(2,),
    query_head_dim=(4,),
    value_head_dim=(4,),
    pos_head_dim=(2,),
    pos_dim=8,
    cnn_module_kernel=(5, 3),
    embed_channels=(2, 4, 8),
    causal=True,
    chunk_size=(4,),
    left_context_frames=(4,),
)


class Causal(nn.Module):
    """Front end and encoder under the names that they have in a model."""

    def __init__(self, config: ZipformerConfig, chunk_size: int, left_frames: int) -> None:
        super().__init__()
        config = replace(config, chunk_size=(chunk_size,), left_context_frames=(left_frames,))
        self.encoder_embed = Conv2dSubsampling(80, config.encoder_dim[0], *config.embed_channels)
        self.encoder = Zipformer2(config)

    def forward(self, x: Tensor, x_lens: Tensor) -> Tensor:
        x, lens = self.encoder_embed(x, x_lens)
        mask = make_pad_mask(lens, x.size(1))
        return self.encoder(x.transpose(0, 1), lens, mask)[0].transpose(0, 1)

    @property
    def chunks(self) -> Zipformer2Chunks:
        return Zipformer2Chunks(self.encoder_embed, self.encoder)

    def start(self, batch_size: int) -> list[Tensor]:
        return initial_state(self.encoder_embed, self.encoder, batch_size, "cpu")

    def step(
        self, x: Tensor, x_lens: Tensor, state: list[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        return encode_chunk(self.encoder_embed, self.encoder, x, x_lens, state)


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return dict(np.load(GOLDEN / "encoder" / "causal.npz"))


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def tiny(chunk_size: int, left_frames: int) -> Causal:
    model = Causal(TINY_CAUSAL, chunk_size, left_frames).eval()
    fill(model)
    return model


def close(actual: Tensor, expected: np.ndarray, atol: float = 1e-4) -> None:
    torch.testing.assert_close(actual, torch.from_numpy(expected), rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("chunk_size", "left_frames"),
    [(8, 24), (8, 32), (16, 32), (16, 40), (16, -1), (32, 32), (64, 128), (-1, -1)],
)
def test_masked_forward(recorded: Recorded, chunk_size: int, left_frames: int) -> None:
    actual = tiny(chunk_size, left_frames)(features(), torch.tensor(LENS))
    close(actual, recorded[f"sim.c{chunk_size}.l{left_frames}"])


def padded_for_five_chunks() -> Tensor:
    missing = torch.full((2, 173 - 150, 80), SILENCE)
    return torch.cat([features(), missing], dim=1)


def test_true_streaming(recorded: Recorded) -> None:
    model, x = tiny(16, 32), padded_for_five_chunks()
    state, outputs = model.start(2), []
    for k in range(5):
        chunk = x[:, 32 * k : 32 * k + 45]
        frames, lens, state = model.step(chunk, torch.tensor([45, 45]), state)
        assert lens.tolist() == [8, 8]
        outputs.append(frames)
    frames = torch.cat(outputs, dim=1)
    close(frames, recorded["stream.encoder_out"])
    simulated = model(x, torch.tensor([173, 173]))
    close(simulated, recorded["stream.simulated_same_input"])
    torch.testing.assert_close(frames, simulated[:, :40], rtol=0, atol=2e-5)
    check_final_state(recorded, state)


def check_final_state(recorded: Recorded, state: list[Tensor]) -> None:
    *layers, left_pad, processed = state
    for index, tensor in enumerate(layers):
        shape = [*tensor.shape, *[0] * (4 - tensor.dim())]
        assert shape == recorded["stream.state_shapes"][index].tolist()
        norm = np.float32(recorded["stream.state_norms"][index])
        assert tensor.norm().item() == pytest.approx(norm, rel=1e-4, abs=1e-4)
        total = np.float32(recorded["stream.state_sums"][index])
        assert tensor.sum().item() == pytest.approx(total, rel=1e-3, abs=1e-3)
    assert list(left_pad.shape) == recorded["stream.embed_pad_shape"].tolist()
    assert left_pad.norm().item() == pytest.approx(
        recorded["stream.embed_pad_norm"].item(), rel=1e-4
    )
    assert processed.tolist() == recorded["stream.done"].tolist()
    assert processed.dtype == torch.int32


@pytest.mark.parametrize("chunk_size", [-1, 1, 3, 5, 8, 21, 40])
def test_chunk_causal_convolution(recorded: Recorded, chunk_size: int) -> None:
    conv = ChunkCausalDepthwiseConv1d(6, 7)
    names = {name: filled(f"ccdc.{name}", v.shape) for name, v in conv.state_dict().items()}
    conv.load_state_dict(names)
    x = torch.from_numpy(recorded["ccdc.x"]).permute(2, 0, 1)
    close(conv(x, chunk_size).permute(1, 2, 0), recorded[f"ccdc.c{chunk_size}"], atol=1e-5)


@settings(max_examples=15)
@given(
    chunk_size=st.sampled_from((4, 6, 8)),
    left_chunks=st.integers(1, 3),
    num_chunks=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_streaming_equals_the_masked_forward(
    chunk_size: int, left_chunks: int, num_chunks: int, seed: int
) -> None:
    torch.manual_seed(seed)
    model = noisy(Causal(SMALL, chunk_size, left_chunks * chunk_size))
    x = torch.randn(2, 2 * chunk_size * (num_chunks - 1) + chunk_frames(chunk_size), 80)
    frames = stream(model, x, chunk_size, num_chunks)
    simulated = model(x, torch.full((2,), x.size(1)))
    torch.testing.assert_close(frames, simulated[:, : frames.size(1)], rtol=0, atol=1e-4)


def noisy(model: Causal) -> Causal:
    """Fill the parameters that start as zeros, so that they matter."""
    for name, parameter in model.named_parameters():
        if name.endswith(("chunkwise_conv_scale", "downsample.bias")):
            parameter.normal_(std=0.3)
    return model.eval()


def stream(model: Causal, x: Tensor, chunk_size: int, num_chunks: int) -> Tensor:
    state, outputs = model.start(len(x)), []
    width = chunk_frames(chunk_size)
    for k in range(num_chunks):
        chunk = x[:, 2 * chunk_size * k : 2 * chunk_size * k + width]
        frames, _, state = model.step(chunk, torch.full((len(x),), width), state)
        outputs.append(frames)
    return torch.cat(outputs, dim=1)


def test_streams_of_different_ages_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    model = noisy(Causal(SMALL, 4, 8))
    width, lens = chunk_frames(4), torch.tensor([chunk_frames(4)])
    x = torch.randn(3, 8 * 4 + width, 80)
    alone = [stream(model, x[n : n + 1], 4, 5) for n in range(3)]
    states = [model.start(1) for _ in range(3)]
    # The first stream is two chunks ahead of the second, and three ahead of the third.
    for n, ahead in enumerate((3, 1, 0)):
        for k in range(ahead):
            chunk = x[n : n + 1, 8 * k : 8 * k + width]
            states[n] = model.step(chunk, lens, states[n])[2]
    together = stack(model.chunks, states)
    chunks = torch.stack([x[n, 8 * k : 8 * k + width] for n, k in enumerate((3, 1, 0))])
    frames, _, together = model.step(chunks, lens.expand(3), together)
    for n, k in enumerate((3, 1, 0)):
        torch.testing.assert_close(frames[n], alone[n][0, 2 * k : 2 * k + 2], rtol=0, atol=1e-5)
    assert together[-1].tolist() == [16, 8, 4]


def test_states_are_stacked_and_taken_apart() -> None:
    torch.manual_seed(0)
    model = noisy(Causal(SMALL, 4, 8))
    x, lens = torch.randn(2, chunk_frames(4), 80), torch.tensor([chunk_frames(4)] * 2)
    _, _, state = model.step(x, lens, model.start(2))
    kept = [tensor.clone() for tensor in state]
    _, _, _ = model.step(x, lens, state)
    assert all(torch.equal(a, b) for a, b in zip(state, kept, strict=True))
    apart = [rows_of(model.chunks, state, [n]) for n in range(2)]
    again = stack(model.chunks, apart)
    assert all(torch.equal(a, b) for a, b in zip(state, again, strict=True))
    assert [len(s[-1]) for s in apart] == [1, 1]
    assert len(state) == 6 * 3 + 2
    with pytest.raises(ValueError, match="at least one"):
        stack(model.chunks, [])


def test_a_stream_that_ends_or_is_silent_gives_numbers() -> None:
    torch.manual_seed(0)
    model = noisy(Causal(SMALL, 4, 8))
    x = torch.full((3, chunk_frames(4), 80), SILENCE)
    state = model.start(3)
    for lens in ([21, 17, 9], [15, 0, 3], [0, 0, 0]):
        frames, out_lens, state = model.step(x, torch.tensor(lens), state)
        assert frames.isfinite().all()
        assert (out_lens >= 0).all()
    assert state[-1].tolist() == [5, 2, 0]


def test_chunks_of_the_wrong_length_are_refused() -> None:
    model = noisy(Causal(SMALL, 4, 8))
    with pytest.raises(ValueError, match=r"\(2, 21\), got \(2, 20\)"):
        model.step(torch.zeros(2, 20, 80), torch.tensor([20, 20]), model.start(2))


def test_streaming_needs_one_chunk_size_of_a_causal_model() -> None:
    several = Zipformer2(replace(SMALL, chunk_size=(4, 8)))
    with pytest.raises(ValueError, match="one positive --chunk-size"):
        several.get_init_states(1)
    whole = Zipformer2(replace(SMALL, left_context_frames=(-1,)))
    with pytest.raises(ValueError, match="one positive --chunk-size"):
        whole.get_init_states(1)
    with pytest.raises(ValueError, match="not causal"):
        Zipformer2(replace(SMALL, causal=False)).get_init_states(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunk_size": (3,)}, "--chunk-size 3 must be a multiple"),
        ({"chunk_size": (0,)}, "--chunk-size must be positive, or -1"),
        ({"chunk_size": ()}, "--chunk-size must be positive, or -1"),
        ({"left_context_frames": (-2,)}, "--left-context-frames must be positive, or -1"),
        ({"chunk_size": (2,), "left_context_frames": (1,)}, "left-context-frames 1 is too short"),
    ],
)
def test_chunks_that_cannot_work_are_refused(
    change: dict[str, tuple[int, ...]], message: str
) -> None:
    settings = {"cnn_module_kernel": (7, 7), **change}
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **settings)  # type: ignore[arg-type]


def test_training_draws_chunks_that_a_seed_repeats() -> None:
    torch.manual_seed(0)
    config = replace(SMALL, chunk_size=(4, 8, -1), left_context_frames=(8, 16, -1))
    encoder = Zipformer2(config).eval()
    x, lens = torch.randn(40, 1, 8), torch.tensor([40])
    random.seed(1)
    first = [encoder(x, lens)[0] for _ in range(8)]
    random.seed(1)
    second = [encoder(x, lens)[0] for _ in range(8)]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert any(not torch.equal(first[0], other) for other in first[1:])


def test_no_frame_sees_a_later_chunk() -> None:
    torch.manual_seed(0)
    encoder = noisy(Causal(SMALL, 4, 8)).encoder
    x, lens = torch.randn(24, 1, 8), torch.tensor([24])
    changed = x.clone()
    changed[16:] += 1.0
    before, after = encoder(x, lens)[0], encoder(changed, lens)[0]
    assert torch.equal(before[:8], after[:8])
    assert not torch.equal(before[8:], after[8:])


def test_gradients_reach_every_parameter_of_a_causal_model() -> None:
    torch.manual_seed(0)
    with torch.enable_grad():
        model = Causal(SMALL, 4, 8).train()
        model(torch.randn(2, 60, 80), torch.tensor([60, 50])).square().sum().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None]
    assert all(
        name.endswith("layers.0.bypass_scale") or "layers.1.bypass" in name for name in without
    )
