"""The Zapformer against the same formulas written the plain way, where nothing was recorded."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.plain_zapformer import PlainZapformer
from tests.encoder.zapformer.published import HEADS, TINY, filled
from zipasr.model.build import build_model
from zipasr.model.transducer import AsrModel
from zipasr.nn.schedule import set_batch_count


def model_filled() -> AsrModel:
    model = build_model(TINY, HEADS, 11)
    model.load_state_dict({k: filled(k, v.shape) for k, v in model.state_dict().items()})
    return model


@settings(max_examples=8)
@given(lens=st.lists(st.integers(9, 130), min_size=1, max_size=3))
@torch.no_grad()
def test_outputs_of_the_plain_way(lens: list[int]) -> None:
    model = model_filled().eval()
    features, feature_lens = torch.randn(len(lens), max(lens), 80), torch.tensor(lens)
    frames, out_lens = model.encode(features, feature_lens)
    plain = PlainZapformer(dict(model.named_parameters()), TINY)
    expected = plain.encode(features, feature_lens)
    assert frames.shape == expected.shape
    for n, length in enumerate(out_lens.tolist()):
        torch.testing.assert_close(frames[n, :length], expected[n, :length], rtol=0, atol=2e-4)


@pytest.mark.parametrize("batch_count", [0.0, 50000.0])
def test_gradients_of_the_plain_way(batch_count: float) -> None:
    model = model_filled().train()
    set_batch_count(model, batch_count)
    lens = torch.tensor([150, 131, 120, 97, 88])
    features = torch.randn(5, 150, 80, generator=torch.Generator().manual_seed(3))
    plain = PlainZapformer(dict(model.named_parameters()), TINY, True, batch_count)
    torch.manual_seed(4)  # of the noise
    found = gradients(model, model.encode(features, lens).frames)
    torch.manual_seed(4)
    expected = gradients(model, plain.encode(features, lens))
    for name, gradient in expected.items():
        size = float(gradient.abs().max())
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=2e-3 * size + 1e-7)


def gradients(model: AsrModel, frames: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    (frames * torch.linspace(-1.0, 1.0, frames.size(-1))).square().mean().backward()  # type: ignore[no-untyped-call]
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
