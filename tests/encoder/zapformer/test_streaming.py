"""The causal Zapformer chunk by chunk, against recorded numbers and against masked passes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.encoder.zapformer.published import (
    GOLDEN,
    MORE,
    OTHER,
    OTHER_HEADS,
    TINY,
    causal,
    close,
    filled_other,
    load,
    model_of,
    needs_more,
)
from zipasr.encoder.stream_states import rows_of, stack
from zipasr.encoder.zapformer.config import ZapformerConfig
from zipasr.model.build import build_model
from zipasr.model.transducer import AsrModel

SMALL = ZapformerConfig(
    base_dim=4,
    embed_multiple=3,
    embed_channels=(2, 4, 6),
    encoder_multiple=(2, 3),
    num_encoder_layers=(1, 2),
    downsampling_factor=(1, 2),
    feedforward_multiple=(2,),
    num_heads=(2,),
    query_head_dim=(4,),
    value_head_dim=(3,),
    pos_head_dim=(2,),
    conv_params=(5, 3),
    causal=True,
    chunk_size=(4,),
    left_context_frames=(8,),
)
NAMES = (
    "key",
    "value",
    "conv",
    "norm_stats",
    "norm_len",
    "attn_wm_sum",
    "attn_wm_num_frames",
    "conv_wm_sum",
    "conv_wm_num_frames",
)


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def stream(model: AsrModel, x: Tensor, num_chunks: int) -> tuple[Tensor, list[Tensor]]:
    """Return the frames of full chunks, and the states after them."""
    size, state, outputs = model.chunk_encoder.size(), model.init_state(len(x)), []
    for index in range(num_chunks):
        chunk = x[:, index * size.step :][:, : size.frames]
        found, state = model.encode_chunk(chunk, torch.full((len(x),), chunk.size(1)), state)
        outputs.append(found.frames)
    return torch.cat(outputs, dim=1), state


def test_recorded_chunks_and_states() -> None:
    recorded, model = load(GOLDEN / "tiny_causal.npz"), model_of(causal(TINY, 16, 32))
    x = torch.randn(2, 167, 80, generator=torch.Generator().manual_seed(20260614))
    first = model.init_state(2)
    close(first[3], recorded["init.norm_stats0"])
    close(first[4], recorded["init.norm_len0"])
    frames, states = stream(model, x, 5)
    close(frames, recorded["stream.corrected"])
    close(model.encode(x, torch.tensor([167, 167])).frames, recorded["stream.simulated"])
    for index, state in enumerate(states[:-2]):
        expected = recorded[f"stream.state{index:03}.{NAMES[index % 9]}"]
        if expected.shape == tuple(state.shape):
            np.testing.assert_allclose(state.numpy(), expected, rtol=1e-4, atol=1e-3)
            continue
        width = expected.shape[1]
        shape = [*state.shape, *[0] * width][:width]
        assert expected[0].tolist() == shape
        assert float(state.sum()) == pytest.approx(expected[1, 0], rel=1e-3, abs=1e-2)
        assert float(state.square().sum()) == pytest.approx(expected[1, 1], rel=1e-3)
    assert list(states[-2].shape) == recorded["stream.embed_pad_shape"].tolist()
    assert float(states[-2].sum()) == pytest.approx(recorded["stream.embed_pad"][0], rel=1e-3)
    assert states[-1].tolist() == recorded["stream.done"].tolist()


@needs_more
def test_recorded_chunks_with_a_short_last_one() -> None:
    recorded = load(MORE / "tiny_causal.npz")
    model = model_of(causal(OTHER, 16, 32), OTHER_HEADS, filled_other)
    x = torch.randn(2, 179, 80, generator=torch.Generator().manual_seed(20260612))
    frames, states = stream(model, x, 6)
    close(frames, recorded["stream.encoder_out"])
    for index, state in enumerate(states[:-2]):
        shape = [*state.shape, *[0] * (4 - state.dim())]
        assert shape == recorded["stream.state_shapes"][index].tolist()
        norm = float(recorded["stream.end.norms"][index])
        assert float(state.double().norm()) == pytest.approx(norm, rel=1e-4, abs=1e-4)
    assert states[-1].tolist() == recorded["stream.done"].tolist()
    simulated = model.encode(x, torch.tensor([179, 179])).frames
    close(simulated, recorded["stream.simulated_same_input"])


def small(chunk: int = 4, left: int = 8) -> AsrModel:
    torch.manual_seed(0)
    model = build_model(causal(SMALL, chunk, left), vocab_size=7).eval()
    for name, parameter in model.named_parameters():
        # So that scores and changes count.
        if name.endswith(("proj.weight", "rel_pos.weight")) and "encoders" in name:
            parameter *= 3.0
    return model


@settings(max_examples=15)
@given(
    chunk=st.sampled_from((4, 6, 8)),
    left_chunks=st.integers(1, 3),
    num_frames=st.integers(9, 90),
    seed=st.integers(0, 99),
)
def test_chunks_give_what_a_masked_pass_gives(
    chunk: int, left_chunks: int, num_frames: int, seed: int
) -> None:
    """Of an utterance alone, at any length: its last frame fills the last chunk up."""
    model = small(chunk, left_chunks * chunk)
    x = torch.randn(1, num_frames, 80, generator=torch.Generator().manual_seed(seed))
    size, state, found = model.chunk_encoder.size(), model.init_state(), []
    for index in range(size.num_chunks(num_frames)):
        part = x[:, index * size.step :][:, : size.frames]
        part = torch.nn.functional.pad(part, (0, 0, 0, size.frames - part.size(1)), value=-23.0)
        valid = torch.tensor([size.valid(index, num_frames)])
        encoded, state = model.encode_chunk(part, valid, state)
        found.append(encoded.frames[:, : int(encoded.lens)])
    whole = model.encode(x, torch.tensor([num_frames])).frames
    torch.testing.assert_close(torch.cat(found, dim=1), whole, rtol=0, atol=1e-4)


def test_streams_of_different_ages_do_not_see_each_other() -> None:
    model = small()
    encoder, size = model.chunk_encoder, model.chunk_encoder.size()
    x = torch.randn(3, 8 * 4 + size.frames, 80)
    alone = [stream(model, x[n : n + 1], 5)[0] for n in range(3)]
    states = [model.init_state() for _ in range(3)]
    ahead, lens = (3, 1, 0), torch.tensor([size.frames])
    for n, num in enumerate(ahead):
        for k in range(num):
            chunk = x[n : n + 1, 8 * k :][:, : size.frames]
            _, states[n] = model.encode_chunk(chunk, lens, states[n])
    together = stack(encoder, states)
    chunks = torch.stack([x[n, 8 * k :][: size.frames] for n, k in enumerate(ahead)])
    found, together = model.encode_chunk(chunks, lens.expand(3), together)
    for n, k in enumerate(ahead):
        expected = alone[n][0, 2 * k : 2 * k + 2]
        torch.testing.assert_close(found.frames[n], expected, rtol=0, atol=1e-5)
    assert together[-1].tolist() == [16, 8, 4]
    assert rows_of(encoder, together, [2, 0])[-1].tolist() == [4, 16]


def test_silence_and_streams_that_are_over_give_numbers() -> None:
    model = small()
    frames = model.chunk_encoder.size().frames
    x, state = torch.full((3, frames, 80), math.log(1e-10)), model.init_state(3)
    for lens in ([frames, 12, 9], [9, 0, 3], [0, 0, 0]):
        found, state = model.encode_chunk(x, torch.tensor(lens), state)
        assert found.frames.isfinite().all()
        assert (found.lens >= 0).all()


def test_no_frame_sees_a_later_chunk_or_changes_once_a_chunk_is_over() -> None:
    model = small()
    x = torch.randn(1, 71, 80)
    changed = x.clone()
    changed[:, 39:] += 1.0  # frame 16 at 20 ms is the first to see it
    before, after = (model.encode(one, torch.tensor([71])).frames for one in (x, changed))
    assert torch.equal(before[:, :8], after[:, :8])
    assert not torch.equal(before[:, 8:], after[:, 8:])


def test_what_does_not_fit_is_refused() -> None:
    model = small()
    lens = torch.tensor([15, 15])
    with pytest.raises(ValueError, match="is made of features"):
        model.encode_chunk(torch.zeros(2, 16, 80), lens, model.init_state(2))
    with pytest.raises(ValueError, match="as many lengths"):
        model.encode_chunk(torch.zeros(2, 15, 80), lens[:1], model.init_state(2))
    with pytest.raises(ValueError, match="call eval"):
        model.train().encode_chunk(torch.zeros(2, 15, 80), lens, model.init_state(2))
    several = build_model(replace(SMALL, chunk_size=(4, 8)), vocab_size=7)
    with pytest.raises(ValueError, match="one positive --chunk-size"):
        several.init_state()
    with pytest.raises(ValueError, match="--chunk-size 3 must be a multiple"):
        causal(SMALL, 3, 8)
