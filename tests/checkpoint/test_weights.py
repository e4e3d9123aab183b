from pathlib import Path

import pytest
import torch
from torch import nn

from tests.encoder.sizes import small_config
from zipasr.base.errors import CheckpointError
from zipasr.checkpoint.weights import load_model, model_state, unwrapped
from zipasr.model.build import build_model
from zipasr.model.config import ModelConfig
from zipasr.model.transducer import AsrModel

HEADS = ModelConfig(decoder_dim=8, joiner_dim=8)
PATH = Path("exp/pretrained.pt")


def model(heads: ModelConfig = HEADS, vocab_size: int = 12, **changes: object) -> AsrModel:
    return build_model(small_config(**changes), heads, vocab_size)


@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "module.module."]
)
@pytest.mark.parametrize("bare", [True, False])
def test_wrappers_and_bare_weights(prefix: str, bare: bool) -> None:
    weights = {f"{prefix}w": torch.ones(2), f"{prefix}b": torch.zeros(1)}
    found = model_state(weights if bare else {"model": weights, "epoch": 3})
    assert list(found) == ["w", "b"]


def test_a_module_of_that_name_is_no_wrapper() -> None:
    assert list(unwrapped({"module.w": torch.ones(1), "w": torch.ones(1)})) == ["module.w", "w"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "holds nothing"),
        ({"optimizer": {"state": {}}}, "it holds 'optimizer'"),
        ({"model": {"w": "text"}}, "no entry 'model' with the weights"),
        ({"model": None, "epoch": 1}, "no entry 'model' with the weights"),
    ],
)
def test_a_file_without_weights(content: dict[str, object], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        model_state(content, "exp/a.pt")


def test_all_weights_are_loaded() -> None:
    source, target = model(), model()
    load_model(target, {f"module.{k}": v for k, v in source.state_dict().items()}, PATH)
    assert all(
        torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True)
    )


def test_half_precision_is_taken() -> None:
    source, target = model(), model()
    load_model(target, {k: v.half() for k, v in source.state_dict().items()}, PATH)
    assert {p.dtype for p in target.parameters()} == {torch.float32}


def test_another_model_changes_nothing_and_both_are_named() -> None:
    target = model()
    before = {key: value.clone() for key, value in target.state_dict().items()}
    other = model(
        ModelConfig(decoder_dim=8, joiner_dim=8, use_ctc=True), 14, encoder_dim=(16, 32, 20)
    )
    with pytest.raises(CheckpointError) as info:
        load_model(target, other.state_dict(), PATH)
    message = str(info.value)
    assert message.startswith("exp/pretrained.pt holds another model than the flags describe")
    assert "it holds a Zipformer with 1,2,1 layers of 16,32,20 channels, non-causal, " in message
    assert "parameters, transducer + CTC, vocabulary 14" in message
    assert "they describe a Zipformer with 1,2,1 layers of 16,24,20 channels, " in message
    assert "parameters, transducer, vocabulary 12" in message
    assert (
        "encoder.encoders.1.encoder.layers.0.bypass_scale is (32,) in the file and (24,) by the "
        "flags" in message
    )
    assert message.count(" in the file and ") == 3
    assert "\n" not in message
    assert all(torch.equal(before[key], value) for key, value in target.state_dict().items())


@pytest.mark.parametrize(
    ("drop", "add", "words"),
    [
        ("joiner.output_linear.bias", None, r"1 tensor differs: .*bias \(12,\) is not in the file"),
        (None, "extra", r"1 tensor differs: extra \(2,\) is only there"),
    ],
)
def test_a_tensor_too_few_or_too_many(drop: str | None, add: str | None, words: str) -> None:
    weights = dict(model().state_dict())
    weights.pop(drop, None)
    if add:
        weights[add] = torch.ones(2)
    with pytest.raises(CheckpointError, match=words):
        load_model(model(), weights, PATH)


def test_something_else_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"it holds an unknown model .*'weight'"):
        load_model(model(), nn.Linear(2, 2).state_dict(), PATH)
