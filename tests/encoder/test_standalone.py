"""Encoders as modules of their own: the same frames and keys as inside a model."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from tests.encoder.sizes import small_config
from tests.encoder.zapformer.published import TINY as ZAPFORMER
from zipasr.base.errors import UserError
from zipasr.base.seed import seeded
from zipasr.encoder import (
    Zapformer,
    ZapformerConfig,
    Zipformer,
    Zipformer1,
    Zipformer1Config,
    ZipformerConfig,
)
from zipasr.encoder.standalone import StandaloneEncoder
from zipasr.encoder.zipformer.config import PRESETS
from zipasr.model import build_model
from zipasr.nn.schedule import ScheduledFloat

FEATURES, LENS = torch.randn(2, 61, 80, generator=torch.Generator().manual_seed(7)), [61, 40]


def small_first() -> Zipformer1:
    return Zipformer1(
        Zipformer1Config(
            num_encoder_layers=(1, 1),
            feedforward_dims=(24, 24),
            nhead=(2, 2),
            encoder_dims=(16, 16),
            attention_dims=(16, 16),
            encoder_unmasked_dims=(16, 16),
            zipformer_downsampling_factors=(1, 2),
            cnn_module_kernels=(5, 5),
        )
    )


MAKERS = [lambda: Zipformer(small_config()), small_first, lambda: Zapformer(ZAPFORMER)]


@pytest.mark.parametrize("make", MAKERS)
def test_it_takes_the_weights_of_a_model_and_gives_its_frames(
    make: Callable[[], StandaloneEncoder],
) -> None:
    encoder = make().eval()
    model = build_model(encoder.config, vocab_size=7).eval()
    weights = {k: v for k, v in model.state_dict().items() if k.startswith("encoder")}
    encoder.load_state_dict(weights)
    lens = torch.tensor(LENS)
    with torch.no_grad():
        frames, num = encoder(FEATURES, lens)
        expected = model.encode(FEATURES, lens)
    assert torch.equal(frames, expected.frames)
    assert num.tolist() == expected.lens.tolist() == [encoder.geometry.output_lens(n) for n in LENS]
    assert frames.size(2) == encoder.output_dim


@pytest.mark.parametrize("make", MAKERS)
def test_it_learns_and_can_be_copied(make: Callable[[], StandaloneEncoder]) -> None:
    encoder = make().train()
    encoder.set_batch_count(0.0)
    frames, _ = copy.deepcopy(encoder)(FEATURES, torch.tensor(LENS))
    assert frames.requires_grad
    with seeded(0):  # one call in nine leaves out a layer, and so more than a fifth
        frames, _ = encoder(FEATURES, torch.tensor(LENS))
        frames.square().mean().backward()
    # Some take no part: positions are ignored now and then, and a bypass_scale serves nothing.
    learned = [parameter.grad is not None for parameter in encoder.parameters()]
    assert sum(learned) > 0.8 * len(learned)


def test_the_batch_count_reaches_every_schedule() -> None:
    encoder = Zipformer(small_config())
    schedules = [module for module in encoder.modules() if isinstance(module, ScheduledFloat)]
    assert {one.batch_count for one in schedules} == {None}
    encoder.set_batch_count(12)
    assert {one.batch_count for one in schedules} == {12.0}


def test_presets() -> None:
    with torch.device("meta"):
        assert Zipformer().config == ZipformerConfig.from_preset("medium") == PRESETS["medium"]
        causal = Zipformer.from_preset(
            "small", causal=True, chunk_size=32, left_context_frames=[64, 128], dropout=0.1
        ).config
    assert (causal.causal, causal.chunk_size, causal.left_context_frames) == (
        True,
        (32,),
        (64, 128),
    )
    assert causal.dropout == 0.1
    assert causal.encoder_dim == PRESETS["small"].encoder_dim
    with pytest.raises(UserError, match=r"unknown preset 'larg'\. Fix: did you mean 'large'"):
        Zipformer.from_preset("larg")  # type: ignore[arg-type]
    with torch.device("meta"):
        config = Zapformer.from_preset("base-16", causal=True, chunk_size=32).config
    assert (config.base_dim, config.causal, config.chunk_size) == (16, True, (32,))
    with pytest.raises(UserError, match="did you mean 'base-16'"):
        ZapformerConfig.from_preset("base16")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="Fix: choose one of: small, medium, large"):
        ZipformerConfig.from_preset("xxx")  # type: ignore[arg-type]


def test_chunks_give_what_the_whole_gives() -> None:
    config = small_config(causal=True, chunk_size=(16,), left_context_frames=(32,))
    encoder = Zipformer(config).eval()
    size = encoder.chunks.size()
    num_chunks, state, parts = 3, encoder.chunks.start(1, "cpu"), []
    total = size.step * num_chunks + encoder.geometry.look_ahead
    features = torch.randn(1, total, 80)
    with torch.no_grad():
        for begin in range(0, size.step * num_chunks, size.step):
            piece = features[:, begin : begin + size.frames]
            frames, lens, state = encoder.chunks.advance(piece, torch.tensor([size.frames]), state)
            parts.append(frames[:, : int(lens)])
        whole, _ = encoder(features, torch.tensor([total]))
    got = torch.cat(parts, dim=1)
    torch.testing.assert_close(got, whole[:, : got.size(1)], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("features", "lens", "words"),
    [
        (torch.zeros(2, 50, 40), [50, 50], r"features must be \(N, T, 80\)"),
        (torch.zeros(2, 50, 80), [50, 8], "an utterance has 8 feature frames"),
        (torch.zeros(2, 50, 80), [50, 51], "a length of 51"),
        (torch.zeros(2, 50, 80), [50], "need as many lengths"),
    ],
)
def test_a_wrong_batch_is_refused(features: torch.Tensor, lens: list[int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Zipformer(small_config())(features, torch.tensor(lens))
