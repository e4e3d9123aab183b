"""A small Zapformer through the commands: training, decoding, streaming, export, fine-tuning."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from tests import tones
from tests.conftest import Call
from tests.speaking_model import make_talkative
from zipasr.base.errors import UserError
from zipasr.cli import decode, export, train, transcribe
from zipasr.cli.command_flags import encoder_config, read
from zipasr.cli.training_commands import TRAIN
from zipasr.encoder.zapformer.config import ZapformerConfig
from zipasr.encoder.zapformer.penalties import OrthogonalLinear
from zipasr.model.build import build_model
from zipasr.model.config import ModelConfig
from zipasr.training.config import LossConfig
from zipasr.training.update import loss_scales

SIZES = shlex.split(
    "--encoder-type zapformer --base-dim 8 --embed-multiple 4 --encoder-multiple 3,4 "
    "--feedforward-multiple 2 --conv-params 7"
)
# Of the published command; the data side has tests of its own.
PUBLISHED = shlex.split(
    "--world-size 4 --base-lr 0.023 --start-epoch 1 --use-fp16 1 --exp-dir zapformer/exp "
    "--use-ctc 1 --use-transducer 1 --base-dim 64 --ctc-loss-scale 0.2 --full-libri 1 "
    "--max-duration 1200"
)
CHUNKS = "--chunk-size 16 --left-context-frames 64"
MODEL = f"--epoch 2 --avg 1 --use-averaged-model 0 {CHUNKS}"
SOUNDS = "source/test/test-000.flac source/test/test-001.flac"


@pytest.fixture
def empty_recipe(tmp_path: Path) -> str:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('corpus = "x"\n[splits]\ntrain = ["a"]\nvalid = ["b"]\ntest = ["c"]\n')
    return str(tmp_path)


def test_published_command(empty_recipe: str) -> None:
    run = read(TRAIN, ["--recipe", empty_recipe, *PUBLISHED])
    assert encoder_config(run) == ZapformerConfig()
    heads = run[ModelConfig]
    assert (heads.decoder_dim, heads.joiner_dim, heads.use_ctc) == (512, 768, True)
    assert heads.attention_decoder_feedforward_dim == 2048


def test_sizes_of_the_heads_follow_the_base(empty_recipe: str) -> None:
    words = ["--recipe", empty_recipe, "--encoder-type", "zapformer"]
    heads = read(TRAIN, [*words, "--preset", "base-16"])[ModelConfig]
    assert (heads.decoder_dim, heads.joiner_dim, heads.use_ctc) == (128, 192, True)
    typed = ["--preset", "base-16", "--joiner-dim", "100", "--use-ctc", "0"]
    heads = read(TRAIN, [*words, *typed])[ModelConfig]
    assert (heads.decoder_dim, heads.joiner_dim, heads.use_ctc) == (128, 100, False)
    multiples = ["--base-dim", "32", "--decoder-multiple", "4"]
    assert read(TRAIN, [*words, *multiples])[ModelConfig].decoder_dim == 128
    # Those of other encoders stay.
    assert read(TRAIN, ["--recipe", empty_recipe])[ModelConfig] == ModelConfig()
    with pytest.raises(UserError, match="unrecognized arguments: --encoder-dim"):
        read(TRAIN, [*words, "--encoder-dim", "24"])


def test_first_weights_of_the_losses() -> None:
    config, heads, style = LossConfig(), ModelConfig(use_ctc=True), ZapformerConfig.losses
    first, last = (loss_scales(config, heads, n, style) for n in (1, 2000))
    assert (first.simple, last.simple) == (0.5, 0.5)
    assert (first.pruned, last.pruned) == (pytest.approx(0.05 + 0.95 / 2000), 1.0)


@pytest.fixture(scope="module")
def folder(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a causal model."""
    folder = tmp_path_factory.mktemp("zapformer") / "run"
    shutil.copytree(prepared, folder)
    tones.check(tones.run(folder, "train.py", *SIZES, "--causal", "1", "--num-epochs", "2"))
    make_talkative(folder)
    return folder


Run = Callable[[Callable[[list[str]], int], str], str]


@pytest.fixture
def run(folder: Path, call: Call) -> Run:
    """Run the main of a command with words; return what it said."""

    def command(main: Callable[[list[str]], int], words: str) -> str:
        said = call(main, folder, *shlex.split(words))
        assert said.status == 0, said.err
        return said.err + said.out

    return command


def result(folder: Path, pattern: str) -> str:
    (path,) = (folder / "exp").glob(pattern)
    return path.read_text(encoding="utf-8")


def test_checkpoint(folder: Path) -> None:
    checkpoint = torch.load(folder / "exp" / "epoch-2.pt", weights_only=True)
    configs = checkpoint["configs"]
    assert configs["zapformer"]["base_dim"] == 8
    # The recipe says 32 for both.
    assert (configs["heads"]["decoder_dim"], configs["heads"]["joiner_dim"]) == (32, 32)
    assert "ctc_output.0.weight" in checkpoint["model"]
    # The schedule has seen plain updates.
    assert checkpoint["shown_schedule_count"] < checkpoint["batch_idx_train"]


def test_decode_stream_and_infer(folder: Path, run: Run) -> None:
    weights = torch.load(folder / "exp" / "epoch-2.pt", weights_only=True)["model"]
    torch.save(weights, folder / "exp" / "plain.pt")
    beam = "--decoding-method modified_beam_search"
    said = run(decode.main, f"{MODEL} {beam}")
    assert "Zapformer with 1,1 layers of 24,32 channels, causal" in said
    said = run(decode.main, f"--checkpoint exp/plain.pt {CHUNKS} {beam}")
    assert "sizes are read off the weights" in said
    run(decode.streaming, f"{MODEL} {beam} --num-decode-streams 3")
    whole = result(folder, "modified_beam_search/recogs-test-epoch-2_*chunk-16_left-context-64_*")
    assert "hyp=['" in whole
    assert result(folder, "modified_beam_search/recogs-test-plain_*") == whole
    assert result(folder, "streaming/*/recogs-test_*chunk-16*") == whole
    said = run(decode.main, f"{MODEL} --methods all")
    tried = {line.split()[1] for line in said.splitlines() if line.startswith("dev ")}
    assert tried == {
        "greedy_search",
        "modified_beam_search",
        "fast_beam_search",
        "fast_beam_search_nbest",
        "ctc-greedy-search",
        "ctc-prefix-beam-search",
    }
    run(decode.main, f"--epoch 2 --avg 1 --use-averaged-model 1 {CHUNKS}")


def test_export(folder: Path, run: Run) -> None:
    pytest.importorskip("onnxruntime", reason="export-requirements.txt is not installed")
    said = run(export.main, f"{MODEL} --jit 1")
    assert "sherpa-onnx does not know the states of a streaming Zapformer" in said
    exported = folder / "exp" / "export-epoch-2-avg-1-chunk-16-left-64"
    settings = json.loads((exported / "config.json").read_text())
    assert (settings["model_type"], settings["encoder_schema"]) == ("zapformer", "zapformer")
    # Those of 8 bits may differ.
    assert all(c["difference"] < 1e-3 for c in settings["checks"] if "int8" not in c["name"])
    run(transcribe.main, f"--checkpoint exp/epoch-2.pt {CHUNKS} --output-dir model {SOUNDS}")
    run(transcribe.main, f"--model {exported} --output-dir onnx {SOUNDS}")
    jit = exported / "jit_script_chunk_16_left_64.pt"
    run(transcribe.main, f"--nn-model-filename {jit} --output-dir jit {SOUNDS}")
    texts = [
        [path.read_text() for path in sorted((folder / name).glob("*.txt"))]
        for name in ("model", "onnx", "jit")
    ]
    assert len(texts[0]) == 2
    assert "".join(texts[0]).strip()
    assert texts[1:] == texts[:1] * 2


def test_finetune_with_adapters(folder: Path, run: Run) -> None:
    start = "--do-finetune 1 --finetune-ckpt exp/epoch-2.pt --exp-dir fine"
    run(train.main, f"{start} --num-epochs 1 --lora-rank 2 --num-workers 0")
    before = torch.load(folder / "exp" / "epoch-2.pt", weights_only=True)["model"]
    after = torch.load(folder / "fine" / "epoch-1.pt", weights_only=True)["model"]
    layer = "encoder.encoders.1.layers.0."
    adapted = {
        name.removeprefix(layer).partition(".param")[0] for name in after if "lora_a" in name
    }
    assert {"self_attn.qkp_in_proj", "self_attn.vg_in_proj", "feed_forward1.in_proj"} <= adapted
    assert torch.equal(before[f"{layer}norm.scale"], after[f"{layer}norm.scale"])


def test_sherpa_onnx_hears_whole_utterances(folder: Path, run: Run) -> None:
    sherpa_onnx: Any = pytest.importorskip("sherpa_onnx", reason="sherpa-onnx is not installed")
    whole = MODEL.replace(CHUNKS, "--chunk-size -1 --left-context-frames -1")
    said = run(export.main, whole)
    assert "sherpa-onnx does not" not in said
    assert "# sherpa-onnx" in said
    files = folder / "exp" / "export-epoch-2-avg-1"
    client = sherpa_onnx.OfflineRecognizer.from_transducer(
        *(str(files / f"{part}-epoch-2-avg-1.onnx") for part in ("encoder", "decoder", "joiner")),
        tokens=str(files / "tokens.txt"),
    )
    sound = folder / SOUNDS.split()[0]
    stream = client.create_stream()
    stream.accept_waveform(tones.RATE, soundfile.read(sound, dtype="float32")[0])
    client.decode_stream(stream)
    run(transcribe.main, f"--model {files} --output-dir whole {sound}")
    (text,) = (path.read_text() for path in (folder / "whole").glob("*.txt"))
    assert stream.result.text.strip() == text.strip() != ""


def test_projections_begin_nearly_orthogonal() -> None:
    torch.manual_seed(0)
    model = build_model(ZapformerConfig.from_preset("base-16"), vocab_size=9)
    for module in model.modules():
        if isinstance(module, OrthogonalLinear):
            rows = module.weight / (0.3 * module.weight.size(1) ** 0.5)
            assert float((rows @ rows.t()).diagonal().mean()) == pytest.approx(1.0, abs=0.1)
