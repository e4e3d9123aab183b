"""Training and decoding with the first Zipformer, through the command line."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch

from tests import tones
from zipasr.base.errors import UserError
from zipasr.cli import decode
from zipasr.cli.command_flags import encoder_config, read
from zipasr.cli.training_commands import TRAIN
from zipasr.encoder.zipformer1.config import Zipformer1Config

SIZES = shlex.split(
    "--num-encoder-layers 1,1 --zipformer-downsampling-factors 1,2 --encoder-dims 24,24 "
    "--attention-dims 16,16 --nhead 2,2 --feedforward-dims 32,32 --encoder-unmasked-dims 16,16 "
    "--cnn-module-kernels 5,5"
)
# Of the published command of pruned_transducer_stateless7.
PUBLISHED = shlex.split(
    "--world-size 4 --num-epochs 30 --full-libri 1 --use-fp16 1 --max-duration 750 "
    "--exp-dir pruned_transducer_stateless7/exp --feedforward-dims 1024,1024,2048,2048,1024 "
    "--master-port 12535"
)


def test_published_command(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('corpus = "x"\n[splits]\ntrain = ["a"]\nvalid = ["b"]\ntest = ["c"]\n')
    run = read(TRAIN, ["--recipe", str(tmp_path), "--encoder-type", "zipformer1", *PUBLISHED])
    assert encoder_config(run) == Zipformer1Config()
    with pytest.raises(UserError, match="unrecognized arguments: --encoder-dim"):
        read(TRAIN, ["--encoder-type", "zipformer1", "--encoder-dim", "24"])
    with pytest.raises(UserError, match="unrecognized arguments: --preset small"):
        read(TRAIN, ["--encoder-type", "zipformer1", "--preset", "small"])


def test_help_is_about_the_encoder_that_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read(TRAIN, ["--encoder-type", "zipformer1", "--help-all"])
    text = capsys.readouterr().out
    assert "--encoder-dims" in text
    assert "--query-head-dim" not in text


def test_train_decode_and_stream(
    workdir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ("--encoder-type", "zipformer1", "--causal", "1", "--num-epochs", "1", *SIZES)
    tones.check(tones.run(workdir, "train.py", *flags))
    exp = workdir / "exp"
    checkpoint = torch.load(exp / "epoch-1.pt", weights_only=True)
    assert checkpoint["configs"]["zipformer1"]["encoder_dims"] == [24, 24]
    assert checkpoint["model"]["encoder.encoders.0.layers.0.balancer.count"] > 0
    # The schedules of the model have seen plain batches, as the published recipe counts.
    last_shown = (checkpoint["batch_idx_train"] - 1) // 10 * 10
    assert checkpoint["shown_schedule_count"] == last_shown
    monkeypatch.chdir(workdir)
    model = ["--recipe", "./tones", "--epoch", "1", "--avg", "1", "--use-averaged-model", "0"]
    same = ["--encoder-type", "zipformer1"]  # known to the checkpoint, but may be typed
    assert decode.main([*model, *same, "--decode-chunk-len", "64"]) == 0
    (summary,) = (exp / "greedy_search").glob("wer-summary-*")
    assert "streaming-chunk-size-64" in summary.name
    assert decode.main([*model, "--encoder-dim", "24,24"]) == 4
    assert "--encoder-dim is not a setting of" in capsys.readouterr().err
    assert decode.main([*model, "--encoder-type", "zipformer"]) == 4
    assert "--encoder-type zipformer was asked for, but" in capsys.readouterr().err
    # Chunk by chunk, three utterances at a time, with the published spelling of the beam.
    beam = [*model, "--decode-chunk-len", "32", "--decoding-method", "modified_beam_search"]
    assert decode.main([*beam, "--beam-size", "3", "--pad-look-ahead", "1"]) == 0
    streams = ["--num_active_paths", "3", "--num-decode-streams", "3"]
    assert decode.streaming([*beam, *streams]) == 0
    (masked,) = exp.glob("modified_beam_search/recogs-test-*chunk-size-32*beam-size-3*")
    (chunks,) = exp.glob("streaming/*/recogs-test_num-active-paths-3_*chunk-size-32*")
    assert chunks.read_text() == masked.read_text()
    assert "'" in masked.read_text()
