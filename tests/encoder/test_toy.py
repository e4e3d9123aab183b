"""A third encoder takes a file of its own and one line: no module of the library knows it.

Its heads are those of the Zapformer, it halves the frame rate once, and its features have 80 mel
bins, since those on disk have.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests import tones
from tests.encoder.toy.config import ToyConfig
from zipasr.encoder.registry import ENCODER_TYPES
from zipasr.model.build import build_model
from zipasr.model.config import ModelConfig, TransducerConfig
from zipasr.model.decoder import CachedDecoder

HEADS = ModelConfig(decoder_dim=8, joiner_dim=8, use_ctc=True)
TRAIN = "train --encoder-type toy --preset tiny --causal 1 --valid-interval 100"
CHUNK = "--toy-chunk 8 --decoding-method modified_beam_search"
MODEL = f"--epoch 4 --avg 1 --use-averaged-model 0 {CHUNK}"
FOLDER = "exp/export-epoch-4-avg-1-toy-8"
SOUNDS = "source/test/test-000.flac source/test/test-001.flac"
METHOD = "--method modified_beam_search"


def run(folder: Path, *commands: str) -> str:
    """Run commands in one process that knows the toy encoder; return what they said."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.encoder.toy"],
        cwd=folder,
        env=tones.environment() | {"PYTHONPATH": str(tones.ROOT)},
        input="".join(f"{command}\n" for command in commands),
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    tones.check(done)
    return done.stderr + done.stdout


@pytest.fixture(scope="module")
def folder(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the toy encoder, resumed after its second epoch with another chunk."""
    folder = tmp_path_factory.mktemp("toy") / "run"
    shutil.copytree(prepared, folder)
    recipe = "--recipe ./tones"
    said = run(
        folder, f"{TRAIN} {recipe} --num-epochs 2", f"{TRAIN} {recipe} --num-epochs 4 --toy-chunk 8"
    )
    assert "continuing from exp/epoch-2.pt" in said
    assert "--toy-chunk 8,16 -> 8" in said
    return folder


def result(folder: Path, pattern: str) -> str:
    (path,) = (folder / "exp").glob(pattern)
    return path.read_text(encoding="utf-8")


def test_checkpoint(folder: Path) -> None:
    checkpoint = torch.load(folder / "exp" / "epoch-4.pt", weights_only=True)
    assert checkpoint["configs"]["toy.1"]["toy_dim"] == 24
    assert "ctc_output.0.weight" in checkpoint["model"]
    # Of the rank, through the resumption.
    updates = checkpoint["batch_idx_train"]
    assert checkpoint["balancer_calls"] == [{"calls": updates}]
    # Its clock counts updates, not seconds: those are 25 times as many here.
    assert 0 < checkpoint["shown_schedule_count"] < updates < checkpoint["schedule_count"]


def test_decode_stream_and_infer(folder: Path) -> None:
    weights = torch.load(folder / "exp" / "epoch-4.pt", weights_only=True)["model"]
    torch.save({"model": weights}, folder / "exp" / "plain.pt")
    recipe = "--recipe ./tones"
    said = run(
        folder,
        f"decode {recipe} {MODEL}",
        f"decode {recipe} {MODEL} --decoding-method ctc-greedy-search",
        f"decode:streaming {recipe} {MODEL} --num-decode-streams 3",
        f"decode {recipe} --checkpoint exp/plain.pt {CHUNK}",
    )
    assert "toy with 2 layers of 24 channels, causal" in said
    assert "sizes are read off the weights" in said
    whole = result(folder, "modified_beam_search/recogs-test-epoch-4_*_toy-chunk-8_*")
    assert "'TOP'" in whole or "'LOW'" in whole
    assert result(folder, "streaming/*/recogs-test_*_toy-chunk-8_*") == whole
    assert result(folder, "modified_beam_search/recogs-test-plain_toy-chunk-8_*") == whole
    # Frames of 20 ms: half as long as those of the Zipformer, so that all tokens are in the sound.
    rows = result(folder, "modified_beam_search/utterances-test-epoch-4_*").splitlines()
    times = [time for row in rows for time in json.loads(row).get("timestamps", [])]
    assert max(times, default=0.0) < 3.0


def test_export(folder: Path) -> None:
    pytest.importorskip("onnxruntime", reason="export-requirements.txt is not installed")
    said = run(
        folder,
        f"export --recipe ./tones {MODEL.removesuffix(CHUNK)} --toy-chunk 8 --jit 1",
        f"transcribe --checkpoint exp/epoch-4.pt --toy-chunk 8 {METHOD} --output-dir model "
        f"{SOUNDS}",
        f"transcribe --nn-model-filename {FOLDER}/jit_script_toy_8.pt {METHOD} --output-dir jit "
        f"{SOUNDS}",
        f"transcribe --model {FOLDER} {METHOD} --output-dir onnx {SOUNDS}",
    )
    assert "no client knows the toy encoder" in said
    settings = json.loads((folder / FOLDER / "config.json").read_text())
    assert (settings["model_type"], settings["encoder_schema"]) == ("toy", "toy.1")
    assert all(check["difference"] < 0.1 for check in settings["checks"])
    texts = [[p.read_text() for p in texts_in(folder / name)] for name in ("model", "jit", "onnx")]
    assert len(texts[0]) == 2
    assert "".join(texts[0]).strip()
    assert texts[1:] == texts[:1] * 2


def texts_in(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.glob("*.txt")))


def test_it_is_registered_in_its_own_process_alone() -> None:
    assert "toy" not in ENCODER_TYPES


@pytest.fixture
def features() -> Tensor:
    return torch.randn(2, 50, 80, generator=torch.Generator().manual_seed(1)) * 3 - 9


def test_whole_and_chunks(features: Tensor) -> None:
    torch.manual_seed(0)
    model = build_model(ToyConfig(causal=True, toy_chunk=(8,)), HEADS, 7).eval()
    lens = torch.tensor([50, 37])
    whole = model.encode(features, lens)
    assert whole.lens.tolist() == [24, 18]
    size, state, found = model.chunk_encoder.size(), model.init_state(2), []
    for index in range(size.num_chunks(50)):
        chunk = features[:, index * size.step :][:, : size.frames]
        chunk = torch.nn.functional.pad(chunk, (0, 0, 0, size.frames - chunk.size(1)))
        valid = torch.tensor([size.valid(index, n) for n in lens.tolist()])
        encoded, state = model.encode_chunk(chunk, valid, state)
        assert torch.equal(encoded.lens, size.output_lens(valid, encoded.frames.size(1)))
        found.append(encoded)
    for row, num in enumerate(whole.lens.tolist()):
        parts = torch.cat([one.frames[row, : one.lens[row]] for one in found])
        torch.testing.assert_close(parts, whole.frames[row, :num], rtol=0, atol=1e-6)


def test_losses_and_gains(features: Tensor) -> None:
    torch.manual_seed(0)
    model = build_model(ToyConfig(), HEADS, 7)
    lens, tokens = torch.tensor([50, 37]), [[1, 2], [3]]
    losses = model(features, lens, tokens, TransducerConfig())
    assert losses.pruned is not None
    assert losses.ctc is not None
    (losses.pruned + losses.ctc).backward()
    decoder, joiner = model.decoder, model.joiner
    assert decoder is not None
    assert joiner is not None
    # The gain is on the embeddings, which begin small, and on the logits.
    assert 0.05 < float(decoder.embedding.weight.detach().std()) < 0.2
    history = torch.tensor([[0, 3], [2, 5]])
    with torch.no_grad():
        expected = decoder(history, need_pad=False)
        torch.testing.assert_close(CachedDecoder(decoder)(history), expected)
        decoder.gain = 1.0
        torch.testing.assert_close(20.0 * decoder(history, need_pad=False), expected)
        frames = torch.randn(3, 32)
        context = expected[:1, 0].expand(3, -1)
        logits = joiner(frames, context)
        joiner.gain = 1.0
        torch.testing.assert_close(2.0 * joiner(frames, context), logits)
