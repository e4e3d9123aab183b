"""Every key and shape of the published models, both ways."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
import torch

from tests.encoder.published import GOLDEN
from zipasr.encoder.zipformer import PRESETS
from zipasr.model.build import ModelConfig, build_model

TABLES: dict[str, dict[str, Any]] = json.loads(
    gzip.decompress((GOLDEN / "model" / "state_dicts.json.gz").read_bytes())
)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_keys_and_shapes(name: str) -> None:
    with torch.device("meta"):
        model = build_model(PRESETS[name], ModelConfig(use_ctc=True), vocab_size=500)
    shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    assert shapes == TABLES[name]["shapes"]
    assert sum(p.numel() for p in model.parameters()) == TABLES[name]["total_parameters"]
    assert not list(model.buffers())


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
