"""Configurations from weights: of every published model, and of any other."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.encoder.published import GOLDEN, TINY
from tests.encoder.sizes import small_config
from zipasr.base.errors import CheckpointError
from zipasr.encoder.zipformer.config import PRESETS, ZipformerConfig, differing, preset_name
from zipasr.model.build import build_model, describe
from zipasr.model.config import ModelConfig
from zipasr.model.infer_config import infer_config

Shapes = dict[str, list[int]]
Weights = dict[str, Tensor]

TABLES: dict[str, dict[str, Any]] = json.loads(
    gzip.decompress((GOLDEN / "model" / "state_dicts.json.gz").read_bytes())
)
ATTENTION: Shapes = json.loads((GOLDEN / "model" / "attention_decoder.json").read_text())["shapes"]


def weights(shapes: Shapes) -> Weights:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def built(zipformer: ZipformerConfig, model: ModelConfig, vocab_size: int = 20) -> Weights:
    with torch.device("meta"):
        return build_model(zipformer, model, vocab_size).state_dict()


def shapes_of(state: Weights) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


def causal(shapes: Shapes) -> Shapes:
    """Give the convolutions the names and shapes that they have in a streaming model."""
    found = {}
    for name, shape in shapes.items():
        if ".depthwise_conv." not in name or name.startswith("encoder_embed"):
            found[name] = shape
            continue
        for kind in ("causal_conv", "chunkwise_conv"):
            new = name.replace("depthwise_conv.", f"depthwise_conv.{kind}.")
            is_half = kind == "causal_conv" and name.endswith("weight")
            found[new] = [*shape[:2], (shape[2] + 1) // 2] if is_half else shape
        if name.endswith("weight"):
            scale = name.removesuffix("weight") + "chunkwise_conv_scale"
            found[scale] = [2, shape[0], shape[2]]
    return found


@pytest.mark.parametrize("name", sorted(TABLES))
def test_published_models_have_the_settings_of_their_presets(name: str) -> None:
    found = infer_config(weights(TABLES[name]["shapes"]))
    assert found.encoder == PRESETS[name]
    assert found.model == ModelConfig(use_ctc=True)
    assert (found.vocab_size, found.guesses) == (500, ())


def test_a_streaming_model_is_known_by_its_convolutions() -> None:
    found = infer_config(weights(causal(TABLES["medium"]["shapes"])))
    assert found.encoder == ZipformerConfig(causal=True)
    assert found.guesses == ()
    assert describe(*found[:3]).startswith("Zipformer medium, causal, 66.4 M parameters, ")


def test_the_published_attention_decoder() -> None:
    found = infer_config(weights(TABLES["medium"]["shapes"] | ATTENTION))
    assert found.encoder == PRESETS["medium"]
    assert found.model == ModelConfig(use_ctc=True, use_attention_decoder=True)
    assert found.guesses == ()


@pytest.mark.parametrize(
    ("zipformer", "model", "text"),
    [
        (
            PRESETS["medium"],
            ModelConfig(),
            "Zipformer medium, non-causal, 65.5 M parameters, transducer, vocabulary 500",
        ),
        (
            PRESETS["small"],
            ModelConfig(use_ctc=True, use_transducer=False),
            "Zipformer small, non-causal, 22.1 M parameters, CTC, vocabulary 500",
        ),
        (
            PRESETS["medium"],
            ModelConfig(use_ctc=True, use_attention_decoder=True),
            "Zipformer medium, non-causal, 91.5 M parameters, "
            "transducer + CTC + attention decoder, vocabulary 500",
        ),
        (
            small_config(embed_channels=(1, 1, 1)),
            ModelConfig(decoder_dim=8, joiner_dim=8),
            "Zipformer with 1,2,1 layers of 16,24,20 channels, non-causal, 57.3 k parameters, "
            "transducer, vocabulary 500",
        ),
    ],
)
def test_a_line_says_what_a_model_is(
    zipformer: ZipformerConfig, model: ModelConfig, text: str
) -> None:
    assert describe(zipformer, model, 500) == text


def test_a_preset_is_known_whatever_leaves_no_trace() -> None:
    changed = ZipformerConfig(encoder_unmasked_dim=(192,), dropout=0.1, chunk_size=(16,))
    assert preset_name(changed) == "medium"
    assert preset_name(ZipformerConfig(pos_dim=50)) is None
    assert differing(ZipformerConfig(query_head_dim=(32,) * 6), ZipformerConfig()) == []


def test_heads_of_other_sizes_are_a_guess_that_says_so() -> None:
    found = infer_config(built(TINY, ModelConfig()))
    assert differing(found.encoder, TINY) == ["encoder_unmasked_dim"]
    heads, unmasked = found.guesses
    assert heads.endswith(
        "taken as --num-heads 4,4,4,8,4,4 --query-head-dim 8 --value-head-dim 4 --pos-head-dim 4"
    )
    assert "--encoder-unmasked-dim, which matters in training only" in unmasked


@pytest.mark.parametrize(
    "names",
    [
        ["num_heads"],
        ["query_head_dim", "pos_head_dim"],
        ["num_heads", "query_head_dim", "value_head_dim", "pos_head_dim"],
    ],
)
def test_hints_settle_what_the_weights_leave_open(names: list[str]) -> None:
    config = small_config()
    hints = {name: getattr(config, name) for name in names}
    hints["encoder_unmasked_dim"] = config.encoder_unmasked_dim
    found = infer_config(built(config, ModelConfig()), hints)
    assert differing(found.encoder, config) == []
    assert found.guesses == ()


def test_hints_do_not_change_what_the_weights_tell() -> None:
    hints = {"num_heads": (8,), "encoder_dim": (100,), "pos_dim": 2, "use_ctc": False}
    assert infer_config(weights(TABLES["small"]["shapes"]), hints).encoder == PRESETS["small"]


def test_settings_without_a_trace_come_from_hints() -> None:
    hints = {"chunk_size": (16,), "left_context_frames": (128,), "use_cr_ctc": True}
    found = infer_config(weights(TABLES["small"]["shapes"]), hints)
    assert (found.encoder.chunk_size, found.encoder.left_context_frames) == ((16,), (128,))
    assert found.model.use_cr_ctc


def test_the_heads_of_another_attention_decoder_are_a_guess() -> None:
    sizes = {
        "attention_decoder_dim": 8,
        "attention_decoder_num_layers": 2,
        "attention_decoder_attention_dim": 12,
        "attention_decoder_num_heads": 4,
        "attention_decoder_feedforward_dim": 10,
    }
    model = ModelConfig(use_attention_decoder=True, **sizes)
    found = infer_config(built(small_config(), model))
    assert found.model == model
    assert "attention decoder: taken as --attention-decoder-num-heads 4" in found.guesses[-1]
    found = infer_config(built(small_config(), model), {"attention_decoder_num_heads": 6})
    assert found.model.attention_decoder_num_heads == 6
    assert len(found.guesses) == 2


@st.composite
def models(draw: st.DrawFn) -> tuple[ZipformerConfig, ModelConfig]:
    stacks = draw(st.integers(1, 3))

    def each(values: st.SearchStrategy[int]) -> tuple[int, ...]:
        return tuple(draw(st.lists(values, min_size=stacks, max_size=stacks)))

    dims = each(st.integers(4, 24))
    zipformer = ZipformerConfig(
        num_encoder_layers=each(st.integers(1, 3)),
        downsampling_factor=each(st.sampled_from([1, 2, 3, 8])),
        feedforward_dim=each(st.integers(4, 20)),
        num_heads=each(st.integers(1, 8)),
        encoder_dim=dims,
        query_head_dim=each(st.integers(1, 8)),
        value_head_dim=each(st.integers(1, 8)),
        pos_head_dim=each(st.integers(1, 8)),
        pos_dim=2 * draw(st.integers(1, 8)),
        encoder_unmasked_dim=dims,
        cnn_module_kernel=each(st.sampled_from([1, 3, 7])),
        embed_channels=tuple(draw(st.integers(1, 5)) for _ in range(3)),
    )
    heads = draw(st.sampled_from([(True, False), (False, True), (True, True)]))
    model = ModelConfig(
        decoder_dim=4 * draw(st.integers(1, 4)),
        joiner_dim=draw(st.integers(1, 9)),
        context_size=draw(st.integers(1, 3)),
        use_transducer=heads[0],
        use_ctc=heads[1],
    )
    return zipformer, model


@settings(max_examples=40)
@given(configs=models(), vocab_size=st.integers(2, 30))
def test_what_is_inferred_has_the_same_weights(
    configs: tuple[ZipformerConfig, ModelConfig], vocab_size: int
) -> None:
    zipformer, model = configs
    state = built(zipformer, model, vocab_size)
    found = infer_config(state)
    assert shapes_of(built(*found[:2], found.vocab_size)) == shapes_of(state)
    if model.use_transducer:
        assert found.model == model
    heads = {name: getattr(zipformer, name) for name in ZipformerConfig.__slots__ if "head" in name}
    assert differing(infer_config(state, heads).encoder, zipformer) == []


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["encoder.encoder.layers.0.self_attn.pos_bias_u"], "holds a Conformer, not"),
        (["encoder.encoder.layers.0.lstm.weight_ih_l0"], "holds an LSTM transducer, not"),
        (["input_embedding.weight", "rnn.weight_ih_l0"], "holds a language model, not"),
        (["encoder.encoders.0.layers.0.norm.bias"], "holds part of a Zipformer, not"),
        (["layer1.weight"], "holds an unknown model (its first weight is 'layer1.weight'), not"),
        ([], "holds no weights, not a Zipformer"),
    ],
)
def test_other_models_are_named(names: list[str], words: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(f"exp/a.pt {words}")) as info:
        infer_config({name: torch.ones(1) for name in names}, origin="exp/a.pt")
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("missing", ["encoder.encoders.2.encoder.layers.0.norm.bias", "joiner."])
def test_part_of_a_model_is_named(missing: str) -> None:
    shapes = {k: v for k, v in TABLES["small"]["shapes"].items() if not k.startswith(missing)}
    with pytest.raises(CheckpointError, match=rf"not hold a whole Zipformer: {missing}.*missing"):
        infer_config(weights(shapes))


def test_an_encoder_alone_is_named() -> None:
    shapes = {k: v for k, v in TABLES["small"]["shapes"].items() if k.startswith("encoder")}
    with pytest.raises(CheckpointError, match="the encoder of a Zipformer without a head"):
        infer_config(weights(shapes))


def test_a_model_that_cannot_be_built_is_refused() -> None:
    shapes = TABLES["small"]["shapes"] | {"decoder.embedding.weight": [500, 511]}
    with pytest.raises(CheckpointError, match="is refused: --decoder-dim must be a multiple of 4"):
        infer_config(weights(shapes))
