"""The encoder against the same formulas written the plain way, where nothing was recorded."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.plain_zipformer import Plain
from tests.encoder.published import TINY, fill
from zipasr.model.build import build_model
from zipasr.model.config import ModelConfig


@settings(max_examples=8)
@given(
    factors=st.sampled_from(((1, 2), (2, 4, 1), (1, 2, 4, 8, 4, 2))),
    dims=st.sampled_from(((16, 24), (32, 24))),
    lens=st.lists(st.integers(9, 130), min_size=1, max_size=3),
)
@torch.no_grad()
def test_outputs_of_the_plain_way(
    factors: tuple[int, ...], dims: tuple[int, int], lens: list[int]
) -> None:
    config = replace(
        TINY,
        num_encoder_layers=(1,),
        downsampling_factor=factors,
        encoder_dim=(dims * 3)[: len(factors)],
        encoder_unmasked_dim=(16,),
        feedforward_dim=(48,),
        num_heads=(2,),
        cnn_module_kernel=(7,),
    )
    model = build_model(config, ModelConfig(), 11).eval()
    fill(model)
    features, feature_lens = torch.randn(len(lens), max(lens), 80), torch.tensor(lens)
    frames, out_lens = model.encode(features, feature_lens)
    expected = Plain(dict(model.named_parameters()), config).encode(features, feature_lens)
    for n, length in enumerate(out_lens.tolist()):
        torch.testing.assert_close(frames[n, :length], expected[n, :length], rtol=0, atol=1e-4)
