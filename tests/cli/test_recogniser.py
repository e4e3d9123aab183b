"""What decoding does for streaming models, before there is one and after."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Call
from tests.speaking_model import SECOND
from zipasr.base.errors import UserError
from zipasr.checkpoint.model_file import StoredModel
from zipasr.cli import decode
from zipasr.encoder.zipformer.config import ZipformerConfig
from zipasr.model.build import build_model
from zipasr.model.config import ModelConfig
from zipasr.recognition.acoustic_model import LOG_ZERO, check_is_settled, with_silence

HERE = ("--num-workers", "0", "--checkpoint", "exp/pretrained.pt")


def stored(**changes: object) -> StoredModel:
    return StoredModel(Path("exp/a.pt"), ZipformerConfig(**changes), ModelConfig(), 500, {})


@pytest.mark.parametrize(("tail", "beyond"), [(0, 0), (30, 13)])
@pytest.mark.parametrize("longest", [3, 9, 40])
def test_silence_follows_every_utterance(tail: int, beyond: int, longest: int) -> None:
    features, lens = torch.ones(2, longest, 80), torch.tensor([longest, 2])
    features[1, 2:] = LOG_ZERO
    found, found_lens = with_silence(features, lens, 9, tail, beyond)
    assert found_lens.tolist() == [max(9, longest + tail), max(9, 2 + tail)]
    assert found.size(1) == found_lens.max() + beyond
    assert torch.equal(found[:, :longest], features)
    assert found[:, longest:].eq(LOG_ZERO).all()


def test_a_streaming_model_needs_one_chunk_size() -> None:
    check_is_settled(stored())
    check_is_settled(stored(causal=True, chunk_size=(32,), left_context_frames=(256,)))
    with pytest.raises(UserError) as info:
        check_is_settled(stored(causal=True))
    assert str(info.value) == (
        "exp/a.pt is a streaming model for --chunk-size 16,32,64,-1 and --left-context-frames "
        "64,128,256,-1: choose one of each. Fix: add, for example, --chunk-size 16 "
        "--left-context-frames 64"
    )
    with pytest.raises(UserError, match=r"for --left-context-frames 64,128,256,-1: choose"):
        check_is_settled(stored(causal=True, chunk_size=(32,)))


def test_a_streaming_model_is_decoded_with_the_chunks_that_are_typed(
    run_folder: Path, call: Call
) -> None:
    config = replace(SECOND, causal=True)
    weights = build_model(config, ModelConfig(decoder_dim=32, joiner_dim=32), 18).state_dict()
    torch.save({"model": weights}, run_folder / "exp" / "pretrained.pt")
    said = call(decode.main, run_folder, *HERE)
    assert said.status == 2
    assert "exp/pretrained.pt is a streaming model for --chunk-size 16,32,64,-1 and" in said.error
    words = ("--chunk-size", "16", "--left-context-frames", "128")
    said = call(decode.main, run_folder, *HERE, *words)
    assert said.status == 0, said.err
    assert ", causal, " in said.out
    name = "recogs-test-pretrained_chunk-16_left-context-128_context-2_max-sym-per-frame-1.txt"
    assert (run_folder / "exp" / "greedy_search" / name).is_file()
