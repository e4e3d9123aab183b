from __future__ import annotations

import pytest

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
