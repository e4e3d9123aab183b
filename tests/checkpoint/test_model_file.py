from pathlib import Path
from typing import Any

import pytest
import torch

from tests.encoder.sizes import small_config
from tests.speaking_model import FIRST
from zipasr.base.config import to_dict
from zipasr.base.errors import CheckpointError, UserError
from zipasr.checkpoint.averaging import LoadedWeights
from zipasr.checkpoint.model_file import (
    StoredModel,
    entries_of,
    plain_flags,
    stored_model,
    untrained,
)
from zipasr.encoder.zipformer.config import ZipformerConfig
from zipasr.model.build import build_model
from zipasr.model.config import ModelConfig

HEADS = ModelConfig(decoder_dim=8, joiner_dim=8)
CONFIG = small_config()
PATH = Path("exp/epoch-1.pt")


def chosen(**entries: Any) -> LoadedWeights:
    weights = dict(build_model(CONFIG, HEADS, 12).state_dict())
    return LoadedWeights(PATH, {"model": weights, **entries}, weights)


def of_ours(zipformer: ZipformerConfig = CONFIG) -> LoadedWeights:
    configs = {zipformer.schema: to_dict(zipformer), HEADS.schema: to_dict(HEADS)}
    return chosen(configs=configs, vocab_size=12)


@pytest.mark.parametrize(
    ("encoder", "former"),
    [(CONFIG, "ZipformerConfig"), (FIRST, "Zipformer1Config")],
)
def test_settings_under_the_names_of_earlier_versions(encoder: Any, former: str) -> None:
    """They were names of classes."""
    weights = dict(build_model(encoder, HEADS, 12).state_dict())
    entries = {"configs": {former: to_dict(encoder), "ModelConfig": to_dict(HEADS)}}
    checkpoint = {"model": weights, **entries, "vocab_size": 12}
    found = stored_model(LoadedWeights(PATH, checkpoint, weights), {})
    assert (found.encoder, found.model, found.notes) == (encoder, HEADS, ())
    written = entries_of(found, checkpoint)["configs"]
    assert written == {encoder.schema: to_dict(encoder), "heads": to_dict(HEADS)}
    assert stored_model(LoadedWeights(PATH, {**checkpoint, "configs": written}, weights), {})


@pytest.fixture
def causal(monkeypatch: pytest.MonkeyPatch) -> ZipformerConfig:
    """Settings of a streaming model, whether or not there is one to build."""
    monkeypatch.setattr(ZipformerConfig, "__post_init__", lambda _: None)
    return small_config(causal=True)


def test_our_checkpoints_say_what_they_are() -> None:
    found = stored_model(of_ours(), {"pos_dim": 8})
    assert (found.encoder, found.model, found.vocab_size) == (CONFIG, HEADS, 12)
    assert found.notes == ()
    text = found.describe()
    assert text.startswith("exp/epoch-1.pt: Zipformer with 1,2,1 layers of 16,24,20 channels, ")
    built = found.build().state_dict()
    assert all(torch.equal(built[name], value) for name, value in found.weights.items())


def test_settings_that_contradict_the_weights_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"holds another model .* 16,24,20 .* 16,28,20"):
        stored_model(of_ours(small_config(encoder_dim=(16, 28, 20))), {}).build()


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"num_heads": (4,)}, r"--num-heads 4 was asked for, but \S+ was trained with 2\. The"),
        ({"encoder_unmasked_dim": (8,)}, r"trained with 8,12,20\. Fix"),
        ({"chunk_size": (16,)}, "--chunk-size 16 is for streaming models, which exp/epoch-1.pt is"),
        ({"context_size": 3}, r"1 tensor differs: decoder.conv.weight is \(8, 4, 2\) in the file"),
    ],
)
def test_what_contradicts_our_settings(typed: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        stored_model(of_ours(), typed)


def test_typed_values_out_of_range_are_the_users() -> None:
    with pytest.raises(UserError, match="--num-encoder-layers has 2 values") as info:
        stored_model(of_ours(), {"num_encoder_layers": (1, 1)})
    assert info.value.exit_code == 2


def test_a_streaming_model_takes_any_chunk_size(causal: ZipformerConfig) -> None:
    typed = {"chunk_size": (16,), "left_context_frames": (128,)}
    found = stored_model(of_ours(causal), typed).encoder
    assert (found.chunk_size, found.left_context_frames) == ((16,), (128,))
    assert stored_model(of_ours(causal), {}).encoder == causal


def test_chunks_that_a_model_has_not_met_are_told(causal: ZipformerConfig) -> None:
    ours = of_ours(causal)
    assert untrained(ours, {"chunk_size": (16,), "left_context_frames": (128,)}) == []
    (line,) = untrained(ours, {"chunk_size": (40,), "left_context_frames": (128,)})
    assert line.startswith("--chunk-size 40: ")
    assert "was trained for 16,32,64,-1" in line
    # What only the weights tell says nothing about training.
    assert untrained(chosen(), {"chunk_size": (40,)}) == []


def test_flags_beside_the_weights_are_read_as_icefall_keeps_them() -> None:
    entries = {
        "num_encoder_layers": "2,2,3",
        "query_head_dim": "32",
        "encoder_dim": (16, 24),
        "pos_dim": 48,
        "causal": True,
        "use_ctc": False,
        "use_cr_ctc": 1,
        "chunk_size": "16,32,-1",
        "joiner_dim": {"of": "something else"},
        "dropout": None,
        "batch_idx_train": 7,
    }
    assert plain_flags(entries) == {
        "num_encoder_layers": (2, 2, 3),
        "query_head_dim": (32,),
        "encoder_dim": (16, 24),
        "pos_dim": 48,
        "causal": True,
        "use_ctc": False,
        "use_cr_ctc": True,
        "chunk_size": (16, 32, -1),
    }


def test_flags_in_the_file_tell_what_the_weights_do_not() -> None:
    flags = {"num_heads": "2", "query_head_dim": "4", "value_head_dim": "3", "pos_head_dim": "2"}
    rest = {"encoder_unmasked_dim": "8,12,20", "chunk_size": "16", "decoder_dim": 8}
    found = stored_model(chosen(**flags, **rest), {})
    assert found.encoder.per_stack("num_heads") == (2, 2, 2)
    assert found.encoder.encoder_unmasked_dim == (8, 12, 20)
    assert found.encoder.chunk_size == (16,)
    assert found.notes == ("sizes are read off the weights, and agree with the flags in the file",)


def test_typed_flags_tell_what_a_plain_file_does_not() -> None:
    typed = {"num_heads": (2, 2, 2), "encoder_unmasked_dim": (8,), "dropout": 0.1}
    found = stored_model(chosen(), typed)
    assert found.encoder.per_stack("query_head_dim") == (4, 4, 4)
    assert (found.encoder.encoder_unmasked_dim, found.encoder.dropout) == ((8,), 0.1)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"num_heads": "5"}, "its flags say num_heads 5, its weights are those of a Zipformer"),
        ({"encoder_dim": "16,24,24"}, "its flags say encoder_dim 16,24,24,"),
        ({"use_ctc": True, "pos_dim": "6"}, "its flags say pos_dim 6, use_ctc 1,"),
    ],
)
def test_a_file_that_contradicts_itself(entries: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=f"exp/epoch-1.pt contradicts itself: {words}"):
        stored_model(chosen(**entries), {})


def test_flags_of_heads_that_are_off_do_not_count() -> None:
    model = ModelConfig(use_transducer=False, use_ctc=True)
    weights = dict(build_model(CONFIG, model, 12).state_dict())
    flags = {"decoder_dim": 100, "context_size": 4, "attention_decoder_dim": 6, "use_ctc": True}
    found = stored_model(LoadedWeights(PATH, {"model": weights, **flags}, weights), {})
    assert isinstance(found, StoredModel)
    assert found.model == model
