"""Chunks of all encoders give what the whole utterance gives, stream by stream."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tests.encoder.test_streaming import SILENCE, SMALL
from tests.encoder.zapformer.test_streaming import SMALL as ZAPFORMER
from tests.encoder.zipformer1.published import TINY_CAUSAL as FIRST
from zipasr.encoder.chunk_masks import subsampled_lens
from zipasr.encoder.protocol import ChunkSize, EncoderConfig, Geometry
from zipasr.encoder.stream_states import rows_of, stack
from zipasr.model.build import build_model
from zipasr.model.config import ModelConfig
from zipasr.model.transducer import AsrModel

CONFIGS = {
    "zipformer": SMALL,
    "zipformer1": replace(FIRST, mask_unfilled_cache=True),
    "zapformer": ZAPFORMER,
}
TAIL = 30


def model_of(config: EncoderConfig) -> AsrModel:
    torch.manual_seed(0)
    heads = ModelConfig(decoder_dim=8, joiner_dim=8)
    return build_model(config, heads, 12).eval()


def chunk_of(features: Tensor, index: int, num_frames: int, size: ChunkSize) -> tuple[Tensor, int]:
    part = features[index * size.step :][: size.frames]
    part = F.pad(part, (0, 0, 0, size.frames - len(part)), value=SILENCE)
    return part, size.valid(index, num_frames)


@given(
    num_frames=st.integers(9, 400),
    step=st.sampled_from([16, 32, 64]),
    ahead=st.sampled_from([7, 13]),
)
def test_as_many_frames_come_out_of_chunks_as_of_the_whole(
    num_frames: int, step: int, ahead: int
) -> None:
    geometry = Geometry(look_ahead=ahead, right_context=ahead - 7)
    size = ChunkSize(step + ahead, step, geometry)
    lens = [size.valid(index, num_frames) for index in range(size.num_chunks(num_frames))]
    lost = ahead // 2
    assert all(length > ahead for length in lens)
    assert sum((length - 7) // 2 - (lost - 3) for length in lens) == subsampled_lens(num_frames)


@pytest.mark.parametrize("name", CONFIGS)
def test_chunks_of_streams_of_different_ages_give_the_whole(name: str) -> None:
    model = model_of(CONFIGS[name])
    encoder, size = model.chunk_encoder, model.chunk_encoder.size()
    lens = [90, 61]
    utterances = [F.pad(torch.randn(n, 80), (0, 0, 0, TAIL), value=SILENCE) for n in lens]
    outputs: list[list[Tensor]] = [[], []]

    def step(state: object, parts: list[tuple[int, int]]) -> object:
        chunks = [chunk_of(utterances[n], k, lens[n] + TAIL, size) for n, k in parts]
        features = torch.stack([chunk for chunk, _ in chunks])
        valid = torch.tensor([length for _, length in chunks])
        encoded, state = model.encode_chunk(features, valid, state)
        for row, (n, _) in enumerate(parts):
            outputs[n].append(encoded.frames[row, : encoded.lens[row]])
        return state

    # The second stream joins one chunk later and stands first.
    state = step(model.init_state(), [(0, 0)])
    state = stack(encoder, [model.init_state(), state])
    ends = [size.num_chunks(n + TAIL) for n in lens]
    for index in range(ends[1]):
        parts = [(1, index), (0, index + 1)]
        if index + 1 == ends[0]:
            state, parts = rows_of(encoder, state, [0]), parts[:1]
        state = step(state, parts[: 1 if index + 1 >= ends[0] else 2])
    if ends[1] + 1 < ends[0]:
        state = rows_of(encoder, state, [1])
    for index in range(ends[1] + 1, ends[0]):
        state = step(state, [(0, index)])
    for n, frames in enumerate(outputs):
        features = utterances[n][None]
        whole = model.encode(features, torch.tensor([features.size(1)]))
        actual = torch.cat(frames)
        assert len(actual) == model.geometry.output_lens(features.size(1))
        # Of the silence at the end the front end sees more in chunks, and less in the whole.
        heard = model.geometry.output_lens(lens[n])
        torch.testing.assert_close(actual[:heard], whole.frames[0, :heard], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_that_cannot(name: str) -> None:
    model = model_of(replace(CONFIGS[name], causal=False))
    with pytest.raises(ValueError, match="--causal 1"):
        model.chunk_encoder.size()
    with pytest.raises(ValueError, match="--causal 1"):
        model.init_state()


def test_a_copy_works_with_its_own_weights() -> None:
    other = copy.deepcopy(model_of(SMALL))
    assert other.chunk_encoder.embed is other.encoder_embed
    assert other.chunk_encoder.encoder is other.encoder
