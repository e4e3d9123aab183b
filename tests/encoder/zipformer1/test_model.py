"""The whole model around the first Zipformer: weights, heads, what a checkpoint tells."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.encoder.zipformer1.published import GOLDEN, LENS, TINY, TINY_CAUSAL, features, fill
from zipasr.base.errors import CheckpointError
from zipasr.checkpoint.averaging import LoadedWeights
from zipasr.checkpoint.model_file import stored_model
from zipasr.encoder.zipformer1.config import Zipformer1Config
from zipasr.model.build import build_model, describe
from zipasr.model.config import ModelConfig, TransducerConfig
from zipasr.model.infer_config import infer_config

TABLE: dict[str, list[int]] = json.loads(
    gzip.decompress((GOLDEN / "state_dict.json.gz").read_bytes())
)
HEADS = ModelConfig(decoder_dim=16, joiner_dim=24)


def published() -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in TABLE.items()}


def test_weights_are_those_of_the_published_model() -> None:
    with torch.device("meta"):
        model = build_model(Zipformer1Config(), ModelConfig(), 500)
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == TABLE
    assert sum(p.numel() for p in model.parameters()) == 70_369_391


def test_the_published_model_is_known_by_its_weights() -> None:
    found = infer_config(published())
    assert found.encoder == Zipformer1Config()
    assert found.model == ModelConfig()
    (guess,) = found.guesses
    assert guess.endswith("taken as --causal 0")
    assert describe(*found[:3]) == (
        "first Zipformer with 2,4,3,2,4 layers of 384,384,384,384,384 channels, non-causal, "
        "70.4 M parameters, transducer, vocabulary 500"
    )


def test_the_streaming_recipe_is_known_by_its_flags() -> None:
    found = infer_config(published(), {"decode_chunk_len": 64, "num_left_chunks": 2})
    assert found.encoder == Zipformer1Config(causal=True, decode_chunk_len=64, num_left_chunks=2)
    assert found.guesses == ()
    assert infer_config(published(), {"causal": True}).encoder == Zipformer1Config(causal=True)


def test_published_streaming_commands_do_not_say_causal() -> None:
    weights = published()
    chosen = LoadedWeights(Path("pretrained.pt"), {"model": weights}, weights)
    assert not stored_model(chosen, {}).encoder.causal
    stored = stored_model(chosen, {"decode_chunk_len": 32})
    assert stored.encoder == Zipformer1Config(causal=True)
    with pytest.raises(CheckpointError, match="is for streaming models, which"):
        stored_model(chosen, {"decode_chunk_len": 64, "causal": False})


@pytest.mark.parametrize("config", [TINY, TINY_CAUSAL])
def test_every_size_is_read_off_the_weights(config: Zipformer1Config) -> None:
    with torch.device("meta"):
        weights = build_model(config, HEADS, 20).state_dict()
    found = infer_config(weights, {name: getattr(config, name) for name in config.not_inferable})
    assert found.encoder == config
    assert found.model == HEADS


def test_part_of_a_model_is_refused() -> None:
    weights = published()
    del weights["encoder.encoders.2.encoder.layers.0.self_attn.linear_pos.weight"]
    with pytest.raises(CheckpointError, match="does not hold a whole Zipformer"):
        infer_config(weights)


@torch.no_grad()
def test_prediction_network() -> None:
    recorded = dict(np.load(GOLDEN / "forward.npz"))
    model = build_model(TINY, HEADS, 20).eval()
    fill(model, "")
    decoded = model.decoder(torch.from_numpy(recorded["decoder_tokens"]))
    torch.testing.assert_close(
        decoded, torch.from_numpy(recorded["decoder_out"]), rtol=0, atol=1e-5
    )
    contexts = torch.tensor([[-1, 0], [4, 9]])
    alone = model.decoder(contexts, need_pad=False)
    expected = torch.from_numpy(recorded["decoder_out_no_pad"])
    torch.testing.assert_close(alone, expected, rtol=0, atol=1e-5)
    encoded = model.encode(features(), torch.tensor(LENS))
    torch.testing.assert_close(
        encoded.frames, torch.from_numpy(recorded["encoder_out"]), rtol=0, atol=1e-5
    )


def test_losses_reach_encoder_and_heads() -> None:
    torch.manual_seed(0)
    model = build_model(TINY, replace(HEADS, use_ctc=True), 20).eval()
    losses = model(features(), torch.tensor(LENS), [[3, 4, 5], [6]], TransducerConfig())
    assert losses.simple is not None
    assert losses.pruned is not None
    assert losses.ctc is not None
    (losses.simple + losses.pruned + losses.ctc).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_model_of_two_corpora_has_the_published_size() -> None:
    with torch.device("meta"):
        model = build_model(Zipformer1Config(), ModelConfig(own_heads="giga"), 500)
    state = model.state_dict()
    assert sum(p.numel() for p in model.parameters()) == 71_794_763
    names = ("decoder", "joiner", "simple_am_proj", "simple_lm_proj")
    more = {key for key in state if key.split(".")[0] in [f"{name}_giga" for name in names]}
    assert state.keys() - more == TABLE.keys()
    assert infer_config(state).model == ModelConfig(own_heads="giga")


def test_a_batch_trains_the_heads_of_its_corpus() -> None:
    torch.manual_seed(0)
    model = build_model(TINY, replace(HEADS, own_heads="giga"), 20).eval()
    with torch.no_grad():
        model.decoder_giga.load_state_dict(model.decoder.state_dict())
    for corpus, used, idle in (
        ("", "joiner.", "joiner_giga."),
        ("giga", "joiner_giga.", "joiner."),
    ):
        model.zero_grad()
        losses = model(
            features(), torch.tensor(LENS), [[3, 4, 5], [6]], TransducerConfig(), corpus=corpus
        )
        (losses.simple + losses.pruned).backward()
        grads = {name: p.grad for name, p in model.named_parameters()}
        assert all(g is not None for name, g in grads.items() if name.startswith(used))
        assert all(g is None for name, g in grads.items() if name.startswith(idle))
        assert all(g is not None for name, g in grads.items() if name.startswith("encoder."))
