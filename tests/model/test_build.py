from __future__ import annotations

import pytest
import torch

from zipasr.encoder.zipformer.config import ZipformerConfig
from zipasr.model.build import WithoutInitialValues, build_model, shapes_of
from zipasr.model.config import ModelConfig, TransducerConfig


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"use_transducer": False}, "leave no head"),
        ({"decoder_dim": 42}, "--decoder-dim must be a multiple of 4"),
        ({"context_size": 0}, "--context-size must be positive"),
        ({"use_cr_ctc": True}, "--use-cr-ctc 1 needs --use-ctc 1"),
        ({"use_transducer": False, "use_attention_decoder": True}, "leave no head"),
        ({"attention_decoder_num_layers": 0}, "--attention-decoder-num-layers must be positive"),
        ({"attention_decoder_dim": 0}, "--attention-decoder-dim must be positive"),
        ({"attention_decoder_dim": 511}, "--attention-decoder-dim must be even, got 511"),
        ({"attention_decoder_num_heads": 7}, "a multiple of --attention-decoder-num-heads"),
    ],
)
def test_a_wrong_model_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ModelConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prune_range": 1}, "--prune-range must be at least 2"),
        ({"lm_scale": 0.6, "am_scale": 0.4}, "add up to less than 1"),
        ({"am_scale": -0.1}, "at least 0"),
        ({"rnnt_type": "fast"}, "--rnnt-type must be one of"),
    ],
)
def test_a_wrong_loss_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TransducerConfig(**changes)


def test_models_without_initial_values_have_the_same_names_shapes_and_buffers() -> None:
    config = ZipformerConfig.from_preset("small")
    usual = build_model(config, ModelConfig(), 20)
    before = torch.get_rng_state()
    with WithoutInitialValues():
        bare = build_model(config, ModelConfig(), 20)
    assert torch.equal(torch.get_rng_state(), before), "numbers were drawn"
    shapes = shapes_of(config, ModelConfig(), 20)
    for other in (bare, shapes):
        for name, tensor in usual.state_dict().items():
            assert other.state_dict()[name].shape == tensor.shape, name
    buffers = dict(bare.named_buffers())
    for name, tensor in usual.named_buffers():
        assert torch.equal(buffers[name], tensor), name
    assert all(p.device.type == "meta" for p in shapes.parameters())
