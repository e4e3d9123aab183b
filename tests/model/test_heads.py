"""Decoder, joiner and projections: recorded numbers, and plain formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.encoder.published import GOLDEN, LENS, TINY, features, fill
from zipasr.model.build import build_model
from zipasr.model.config import ModelConfig
from zipasr.model.decoder import CachedDecoder, Decoder
from zipasr.model.joiner import Joiner
from zipasr.model.transducer import AsrModel


@pytest.fixture(scope="module")
def recorded() -> dict[str, Tensor]:
    with np.load(GOLDEN / "model" / "heads.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


@pytest.fixture(scope="module")
def tiny() -> AsrModel:
    config = ModelConfig(decoder_dim=40, joiner_dim=36, use_ctc=True)
    model = build_model(TINY, config, vocab_size=23).eval()
    fill(model)
    return model


def assert_close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_recorded_numbers(tiny: AsrModel, recorded: dict[str, Tensor]) -> None:
    x = features()
    assert x.double().sum().item() == pytest.approx(recorded["x_checksum"].item(), abs=1e-3)
    frames, lens = tiny.encode(x, torch.tensor(LENS))
    assert_close(frames, recorded["encoder_out"])
    assert lens.tolist() == recorded["encoder_lens"].tolist()
    assert tiny.decoder is not None
    assert tiny.joiner is not None
    decoded = tiny.decoder(recorded["dec_tokens"])
    assert_close(decoded, recorded["dec_out"])
    history = tiny.decoder(recorded["dec_nopad_tokens"], need_pad=False)
    assert_close(history, recorded["dec_nopad_out"])
    logits = tiny.joiner(frames[:, :3, None], decoded[:, None, :4])
    assert_close(logits, recorded["joiner_out"])
    assert_close(tiny.ctc_log_probs(frames)[:, :4], recorded["ctc_logprobs"])
    assert_close(tiny.simple_am_proj(frames[:, :2]), recorded["simple_am"])
    assert_close(tiny.simple_lm_proj(decoded[:, :2]), recorded["simple_lm"])


@torch.no_grad()
def test_decoder_padded_once_equals_decoder_step_by_step() -> None:
    decoder = Decoder(vocab_size=7, decoder_dim=8, blank_id=0, context_size=3).eval()
    tokens = torch.tensor([[0, 4, 6, 1, 2]])
    whole = decoder(tokens)
    padded = torch.cat([torch.tensor([[-1, -1]]), tokens], dim=1)
    for u in range(tokens.size(1)):
        step = decoder(padded[:, u : u + 3], need_pad=False)
        torch.testing.assert_close(step, whole[:, u : u + 1])


def test_a_history_of_the_wrong_length_is_refused() -> None:
    decoder = Decoder(vocab_size=7, decoder_dim=8, blank_id=0, context_size=2)
    with pytest.raises(ValueError, match="a history has 2 tokens, got 3"):
        decoder(torch.zeros(1, 3, dtype=torch.int64), need_pad=False)


@torch.no_grad()
def test_a_decoder_of_one_token_only_embeds() -> None:
    decoder = Decoder(vocab_size=7, decoder_dim=5, blank_id=0, context_size=1)
    assert list(decoder.state_dict()) == ["embedding.weight"]
    out = decoder(torch.tensor([[3, -1]]))
    assert torch.equal(out[0, 0], decoder.embedding.weight[3])
    assert out[0, 1].eq(0).all()


@torch.no_grad()
def test_joiner_projects_before_or_inside() -> None:
    joiner = Joiner(encoder_dim=6, decoder_dim=4, joiner_dim=5, vocab_size=7)
    encoded, decoded = torch.randn(2, 3, 1, 6), torch.randn(2, 1, 4, 4)
    inside = joiner(encoded, decoded)
    before = joiner(joiner.encoder_proj(encoded), joiner.decoder_proj(decoded), project_input=False)
    assert inside.shape == (2, 3, 4, 7)
    torch.testing.assert_close(inside, before)
    with pytest.raises(ValueError, match="equally many axes"):
        joiner(encoded[0], decoded)


@pytest.mark.parametrize("context_size", [1, 2, 3])
def test_a_lookup_decodes_every_history_as_the_convolution_does(context_size: int) -> None:
    torch.manual_seed(0)
    decoder = Decoder(vocab_size=5, decoder_dim=8, blank_id=0, context_size=context_size).eval()
    histories = torch.cartesian_prod(*[torch.arange(-1, 5)] * context_size)
    histories = histories.view(-1, context_size)
    tabled = CachedDecoder(decoder)
    torch.testing.assert_close(tabled(histories), decoder(histories, need_pad=False))
    assert (tabled.blank_id, tabled.context_size) == (0, context_size)
