"""Recorded once, run at any length: what exported models are made of equals the plain encoder."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.encoder.sizes import small_config
from zipasr.encoder.zipformer.config import ZipformerConfig
from zipasr.encoder.zipformer.streaming import chunk_frames
from zipasr.model.build import build_model
from zipasr.model.config import ModelConfig
from zipasr.model.transducer import AsrModel
from zipasr.nn.masks import make_pad_mask

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning"
)


def build(config: ZipformerConfig) -> AsrModel:
    torch.manual_seed(0)
    model = build_model(config, ModelConfig(decoder_dim=16, joiner_dim=16), 9).eval()
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


class Whole(nn.Module):
    """Encoder without the checks of the model, with a mask whether or not there is padding."""

    def __init__(self, model: AsrModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        assert self.model.encoder_embed is not None
        x, x_lens = self.model.encoder_embed(features, lens)
        mask = make_pad_mask(x_lens, x.size(1))
        frames, lens = self.model.encoder(x.transpose(0, 1), x_lens, mask)
        return frames.transpose(0, 1), lens


class Chunk(nn.Module):
    """One step of the encoder."""

    def __init__(self, model: AsrModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        lens = torch.full((features.size(0),), features.size(1))
        encoded, after = self.model.encode_chunk(features, lens, states)
        return encoded.frames, after


@pytest.mark.parametrize("causal", [False, True])
@torch.no_grad()
def test_whole_utterances_of_other_lengths(causal: bool) -> None:
    model = build(small_config(causal=causal, chunk_size=(-1,), left_context_frames=(-1,)))
    example = torch.randn(1, 60, 80), torch.tensor([60])
    traced = torch.jit.trace(Whole(model), example, check_trace=False)
    for lens in ([9], [10], [60], [61], [130, 61, 33, 12]):
        features, feature_lens = torch.randn(len(lens), max(lens), 80), torch.tensor(lens)
        expected = model.encode(features, feature_lens)
        frames, out_lens = traced(features, feature_lens)
        assert torch.equal(out_lens, expected.lens)
        for row, num in enumerate(out_lens.tolist()):
            torch.testing.assert_close(
                frames[row, :num], expected.frames[row, :num], rtol=0, atol=1e-5
            )


@torch.no_grad()
def test_chunks_of_several_streams() -> None:
    model = build(small_config(causal=True, chunk_size=(16,), left_context_frames=(32,)))
    length = chunk_frames(16)
    example = torch.randn(1, length, 80), model.init_state(1)
    traced = torch.jit.trace(Chunk(model), example, check_trace=False)
    state = model.init_state(3)
    tensors = list(state)
    for _ in range(4):
        features = torch.randn(3, length, 80)
        expected, state = model.encode_chunk(features, torch.full((3,), length), state)
        frames, tensors = traced(features, tensors)
        torch.testing.assert_close(frames, expected.frames, rtol=0, atol=1e-5)
        for found, wanted in zip(tensors, state, strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
