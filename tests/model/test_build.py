from __future__ import annotations

import pytest

from zipasr.model.build import ModelConfig
from zipasr.model.transducer import TransducerConfig


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"use_transducer": False}, "leave no head"),
        ({"decoder_dim": 42}, "--decoder-dim must be a multiple of 4"),
        ({"context_size": 0}, "--context-size must be positive"),
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
