"""Heads and losses together: which settings fit, and a short training of each combination."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.short import train
from zipasr.base.errors import UserError
from zipasr.cli import decode
from zipasr.data.config import AugmentConfig
from zipasr.model.config import ModelConfig
from zipasr.training.config import LossConfig, check_heads

PLAIN = AugmentConfig(enable_spec_aug=False)
MASKS = AugmentConfig(enable_spec_aug=True)


def attention_decoder_alone_with_ctc(ctc: float, attention: float) -> dict[str, Any]:
    return {
        "model": ModelConfig(use_transducer=False, use_ctc=True, use_attention_decoder=True),
        "loss": LossConfig(ctc_loss_scale=ctc, attention_decoder_loss_scale=attention),
    }


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"model": ModelConfig(use_ctc=True, use_cr_ctc=True), "augment": MASKS},
            "--use-cr-ctc 1 .* Fix: add --enable-spec-aug 0",
        ),
        ({"loss": LossConfig(ctc_only_batches=5)}, "--ctc-only-batches 5 needs a CTC head"),
        (
            attention_decoder_alone_with_ctc(0.2, 0.9),
            "--ctc-loss-scale 0.2 and --attention-decoder-loss-scale 0.9 must add up to 1",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_heads(**{"model": ModelConfig(), "loss": LossConfig(), "augment": PLAIN, **settings})


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"augment": MASKS},
        {"model": ModelConfig(use_ctc=True, use_cr_ctc=True)},
        {"model": ModelConfig(use_ctc=True), "loss": LossConfig(ctc_only_batches=5)},
        {"model": ModelConfig(use_transducer=False, use_ctc=True)},
        {"model": ModelConfig(use_attention_decoder=True)},
        attention_decoder_alone_with_ctc(0.1, 0.9),
        attention_decoder_alone_with_ctc(0.2, 0.8),
    ],
)
def test_published_combinations_are_accepted(settings: dict[str, Any]) -> None:
    check_heads(**{"model": ModelConfig(), "loss": LossConfig(), "augment": PLAIN, **settings})


# ---------------------------------------------------------------------------- short trainings

CTC = "--use-transducer 0 --use-ctc 1"
CONSISTENT = "--use-ctc 1 --use-cr-ctc 1 --enable-spec-aug 0"
ATTENTION = """
--use-attention-decoder 1 --attention-decoder-dim 16 --attention-decoder-num-layers 2
--attention-decoder-attention-dim 16 --attention-decoder-num-heads 2
--attention-decoder-feedforward-dim 32
"""
SHARES = "--ctc-loss-scale 0.1 --attention-decoder-loss-scale 0.9"


def logged(exp_dir: Path) -> tuple[str, str]:
    """The last line about a training batch, and the line about the validation."""
    (log,) = (exp_dir / "log").iterdir()
    lines = log.read_text().splitlines()
    batches = [line for line in lines if " utterances: " in line]
    (valid,) = [line for line in lines if "validation" in line]
    return batches[-1], valid


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("flags", "losses", "method"),
    [
        (CTC, ["ctc"], "ctc_greedy_search"),
        (f"{CTC} {ATTENTION} {SHARES}", ["attn_decoder", "ctc"], "ctc_greedy_search"),
        (f"--use-ctc 0 {ATTENTION}", ["attn_decoder", "pruned", "simple"], "greedy_search"),
        (f"--use-transducer 0 {CONSISTENT}", ["cr", "ctc"], "ctc_greedy_search"),
        (
            f"{CONSISTENT} {ATTENTION}",
            ["attn_decoder", "cr", "ctc", "pruned", "simple"],
            "modified_beam_search",
        ),
    ],
    ids=["ctc", "ctc-attention", "transducer-attention", "cr-ctc", "all"],
)
def test_each_combination_of_heads_trains_and_decodes(
    flags: str, losses: list[str], method: str, tmp_path: Path
) -> None:
    checkpoint = train(tmp_path, flags)
    batch, valid = logged(tmp_path)
    for loss in ("attn_decoder", "cr", "ctc", "pruned", "simple"):
        assert (f" {loss}_loss " in batch) == (loss in losses)
        # There is no second view in validation.
        assert (f" {loss}_loss " in valid) == (loss in losses and loss != "cr")
    assert math.isfinite(checkpoint["best_valid_loss"])
    heads = {key.split(".")[0] for key in checkpoint["model"]}
    assert ("attention_decoder" in heads) == ("attn_decoder" in losses)
    assert ("joiner" in heads) == ("pruned" in losses)
    assert ("ctc_output" in heads) == ("ctc" in losses)
    assert all(value.isfinite().all() for value in checkpoint["model"].values())
    words = f"--recipe ./tones --exp-dir {tmp_path} --epoch 1 --use-averaged-model 0"
    assert decode.main(f"{words} --decoding-method {method} --num-workers 0".split()) == 0
    assert list((tmp_path / method).glob("recogs-test-*"))


@pytest.mark.usefixtures("here")
def test_consistency_training_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    flags = f"--use-transducer 0 {CONSISTENT}"
    whole = train(tmp_path / "whole", f"{flags} --num-epochs 2")
    train(tmp_path / "parts", flags)
    resumed = train(tmp_path / "parts", f"{flags} --num-epochs 2")
    assert whole["batch_idx_train"] == resumed["batch_idx_train"]
    for name, value in whole["model"].items():
        assert torch.equal(value, resumed["model"][name]), name
