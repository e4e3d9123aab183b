"""Models from keywords and from configurations."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch

from tests.encoder.sizes import small_config
from zipasr.base.errors import UserError
from zipasr.encoder import ZipformerConfig
from zipasr.model import Decoder, ModelConfig, TransducerConfig, build_model
from zipasr.model.config import HeadFields

SMALL_HEADS: dict[str, Any] = {"decoder_dim": 16, "joiner_dim": 12}


def test_keywords_and_configurations_build_the_same() -> None:
    by_config = build_model(small_config(), ModelConfig(use_ctc=True, **SMALL_HEADS), 9)
    by_keywords = build_model(small_config(), vocab_size=9, use_ctc=True, **SMALL_HEADS)
    shapes = [
        {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
        for model in (by_config, by_keywords)
    ]
    assert shapes[0] == shapes[1]


def test_presets() -> None:
    with torch.device("meta"):
        causal = build_model(preset="small", vocab_size=500, causal=True)
        usual = build_model(vocab_size=500)
        expected = build_model(ZipformerConfig(), ModelConfig(), 500)
    assert causal.encoder_dim == 256
    assert causal.get_submodule("encoder").causal
    assert [p.shape for p in usual.parameters()] == [p.shape for p in expected.parameters()]


def test_the_losses_of_the_published_recipe_are_the_default() -> None:
    model = build_model(small_config(), vocab_size=9, **SMALL_HEADS).eval()
    batch = torch.randn(1, 61, 80), torch.tensor([61]), [[1, 2, 3]]
    assert torch.equal(model(*batch).pruned, model(*batch, TransducerConfig()).pruned)


def test_the_keywords_are_the_fields_of_the_heads() -> None:
    types = {field.name: field.type for field in fields(ModelConfig)}
    assert {
        name: hint.__forward_arg__ for name, hint in HeadFields.__annotations__.items()
    } == types


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"preset": "smal", "vocab_size": 9}, UserError, "did you mean 'small'"),
        ({"preset": "small"}, TypeError, "a model needs vocab_size"),
        ({"vocab_size": 9, "use_ctx": True}, TypeError, "'use_ctx' .* did you mean 'use_ctc'"),
        ({"vocab_size": 9, "zzzz": True}, TypeError, "choose from decoder_dim, joiner_dim"),
        (
            {"vocab_size": 9, "encoder": small_config(), "causal": True},
            TypeError,
            "one or the other",
        ),
        (
            {"vocab_size": 9, "model": ModelConfig(), "use_ctc": True},
            TypeError,
            "use_ctc: heads are",
        ),
        ({"vocab_size": 9, "decoder_dim": 42}, ValueError, "a multiple of 4"),
    ],
)
def test_what_does_not_fit_is_told(
    given: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        build_model(**given)


def test_a_decoder_needs_a_vocabulary_alone() -> None:
    decoder = Decoder(vocab_size=9)
    assert decoder(torch.tensor([[0, 3]])).shape == (1, 2, 512)
    assert (decoder.context_size, decoder.blank_id) == (2, 0)
