"""Published sizes: keys, shapes and counts; what is inferred from weights, refused and initial."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.encoder.zapformer.published import GOLDEN, HEADS, OTHER, TINY, causal
from zipasr.base.config import is_same_value
from zipasr.encoder.zapformer.config import PRESETS, ZapformerConfig
from zipasr.model.build import build_model, describe, shapes_of
from zipasr.model.config import ModelConfig
from zipasr.model.infer_config import infer_config
from zipasr.nn.schedule import PenaltyScale, set_batch_count, set_loss_scale

TABLES: dict[str, Any] = json.loads(gzip.decompress((GOLDEN / "state_dicts.json.gz").read_bytes()))


@pytest.mark.parametrize("name", TABLES)
def test_keys_shapes_and_counts(name: str) -> None:
    preset, _, is_causal = name.partition("_")
    config = ZapformerConfig.from_preset(preset, causal=bool(is_causal))  # type: ignore[arg-type]
    values = config.defaults_of_others({"base_dim": config.base_dim})
    fields = ModelConfig.__dataclass_fields__
    heads = ModelConfig(**{name: value for name, value in values.items() if name in fields})
    model = shapes_of(config, heads, 500)
    shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    assert list(shapes.items()) == list(TABLES[name]["shapes"].items())
    assert sum(p.numel() for p in model.parameters()) == TABLES[name]["total"]
    found = infer_config(model.state_dict())
    assert found.guesses == ()
    assert same(found.encoder, config)
    assert found.model == ModelConfig(
        decoder_dim=heads.decoder_dim, joiner_dim=heads.joiner_dim, use_ctc=True
    )
    assert describe(*found[:3]).startswith(f"Zapformer {preset}, ")


def same(left: object, right: ZapformerConfig) -> bool:
    fields = right.__dataclass_fields__
    return all(is_same_value(getattr(left, name), getattr(right, name)) for name in fields)


@pytest.mark.parametrize(
    "config", [TINY, OTHER, causal(TINY, 16, 32), replace(TINY, embed_channels=(3, 5, 7))]
)
def test_settings_are_read_off_the_weights(config: ZapformerConfig) -> None:
    weights = shapes_of(config, HEADS, 23).state_dict()
    chunks = {"chunk_size": config.chunk_size, "left_context_frames": config.left_context_frames}
    assert same(infer_config(weights, chunks).encoder, config)
    # A smaller unit that a file tells is the unit.
    told = infer_config(weights, {**chunks, "base_dim": 2}).encoder
    assert isinstance(told, ZapformerConfig)
    assert (told.base_dim, told.encoder_dims) == (2, config.encoder_dims)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base_dim": 0}, "--base-dim must be positive"),
        ({"encoder_multiple": (1, 2)}, "--encoder-multiple has 2 values"),
        ({"downsampling_factor": (1, 2, 3, 1)}, "must be a multiple of 2 and of all others"),
        ({"conv_params": (4,)}, "--conv-params must be odd without --causal"),
        ({"aux_loss_scale": -1.0}, "--aux-loss-scale must not be negative"),
        ({"causal": True, "chunk_size": (6,)}, "--chunk-size 6 must be a multiple"),
    ],
)
def test_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ZapformerConfig(**changes)


def test_penalties_have_a_quarter_of_their_weight_after_2000_updates() -> None:
    model = build_model(TINY, HEADS, 7)
    (scale,) = (module for module in model.modules() if isinstance(module, PenaltyScale))
    found = []
    for done in (0, 1990, 2000, 9000):
        set_batch_count(model, done)
        found.append(float(scale))
    assert found == pytest.approx([0.05, 0.05, 0.0125, 0.0125])
    set_loss_scale(model, 8.0)
    assert float(scale) == pytest.approx(0.1)


@torch.no_grad()
def test_initial_weights() -> None:
    torch.manual_seed(0)
    config = PRESETS["base-16"]
    model = build_model(config, ModelConfig(decoder_dim=128, joiner_dim=192, use_ctc=True), 50)
    weights = model.state_dict()
    layers = [weights[f"encoder.encoders.0.layers.{i}.self_attn.rel_pos.weight"] for i in (0, 5)]
    assert torch.equal(*layers)
    bounds = {
        "self_attn.qkp_in_proj": 0.125,
        "self_attn.vg_in_proj": 0.1,
        "feed_forward1.in_proj": 1.0,
        "feed_forward2.out_proj": 0.5,
        "conv_module.out_proj": 0.05,
    }
    for name, scale in bounds.items():
        start = f"encoder.encoders.1.layers.0.{name}"
        weight, bias = weights[f"{start}.weight"], weights[f"{start}.bias"]
        assert float(weight.abs().max()) == pytest.approx(scale * weight.size(1) ** -0.5, rel=0.02)
        assert float(bias.abs().max()) == pytest.approx(0.01 * scale, rel=0.1)
    taps = (
        weights["encoder.encoders.1.layers.0.conv_module.depthwise_conv.weight"].abs().amax((0, 1))
    )
    assert taps.argmax() == 15
    assert float(taps[:15].max()) == pytest.approx(0.1 * 31**-0.5, rel=0.02)
    scales = weights["encoder.encoders.0.residual_scales"]
    assert scales.tolist() == pytest.approx([-1.0, *[1 / 6] * 6])
    assert float(weights["ctc_output.0.bias"].abs().max()) <= 0.001
    assert float(weights["joiner.encoder_proj.bias"].abs().max()) <= 0.0025
