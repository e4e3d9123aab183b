"""Every key and shape of the published models, both ways."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.encoder.published import GOLDEN
from zipasr.encoder.zipformer.config import PRESETS
from zipasr.model.build import build_model
from zipasr.model.config import ModelConfig

TABLES: dict[str, dict[str, Any]] = json.loads(
    gzip.decompress((GOLDEN / "model" / "state_dicts.json.gz").read_bytes())
)
TABLES["medium_causal"] = json.loads(
    gzip.decompress((GOLDEN / "encoder" / "state_dict_medium_causal.json.gz").read_bytes())
)
CONFIGS = PRESETS | {"medium_causal": replace(PRESETS["medium"], causal=True)}


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_keys_and_shapes(name: str) -> None:
    with torch.device("meta"):
        model = build_model(CONFIGS[name], ModelConfig(use_ctc=True), vocab_size=500)
    shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    assert shapes == TABLES[name]["shapes"]
    assert sum(p.numel() for p in model.parameters()) == TABLES[name]["total_parameters"]
    assert not list(model.buffers())


def test_parameters_of_the_causal_model_without_a_ctc_head() -> None:
    with torch.device("meta"):
        model = build_model(CONFIGS["medium_causal"], ModelConfig(), vocab_size=500)
    assert sum(p.numel() for p in model.parameters()) == 66_110_931


@pytest.mark.parametrize(
    ("model", "absent"),
    [
        (ModelConfig(use_ctc=False), ("ctc_output",)),
        (
            ModelConfig(use_ctc=True, use_transducer=False),
            ("decoder", "joiner", "simple_am_proj", "simple_lm_proj"),
        ),
    ],
)
def test_heads_that_are_off_have_no_keys(model: ModelConfig, absent: tuple[str, ...]) -> None:
    with torch.device("meta"):
        keys = build_model(PRESETS["small"], model, vocab_size=500).state_dict().keys()
    published = TABLES["small"]["shapes"].keys()
    assert keys == {key for key in published if key.split(".")[0] not in absent}
