"""What export.py refuses, what it leaves alone, and what it does without."""

from __future__ import annotations

import copy
import gzip
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests import disk, speaking_model, tones
from tests.cli.conftest import Call
from tests.speaking_model import HEADS, SECOND
from zipasr.cli import export
from zipasr.exporting import torchscript
from zipasr.exporting.parity import LOG_ZERO
from zipasr.model.transducer import AsrModel

CHOOSE = ("--checkpoint", "exp/model.pt")
SCRIPT = (*CHOOSE, "--format", "torchscript")


@pytest.fixture
def folder(workdir: Path) -> Path:
    """A prepared corpus with a model that has learnt nothing."""
    bpe = workdir / "data" / "tones" / "lang_bpe" / "bpe.model"
    speaking_model.write_untrained(workdir / "exp" / "model.pt", SECOND, bpe, HEADS)
    (workdir / "exp" / "config.json").write_text("{}")
    return workdir


def test_a_model_that_differs_leaves_no_folder(
    folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = torchscript.scripted

    def wrong(model: AsrModel, streaming: bool) -> torch.jit.ScriptModule:
        other = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in other.encoder.parameters():
                parameter.mul_(1.5)
        return right(other, streaming)

    monkeypatch.setattr(torchscript, "scripted", wrong)
    said = call(export.main, folder, *SCRIPT)
    assert said.status == 6
    assert "jit_script.pt differs from the model" in said.err.splitlines()[-1]
    assert sorted(path.name for path in (folder / "exp").iterdir()) == ["config.json", "model.pt"]


def test_a_full_disk_is_one_line(folder: Path, call: Call) -> None:
    with disk.small(folder / "small", 400_000) as place:
        said = call(export.main, folder, *SCRIPT, "--output-dir", "small/out")
        assert said.status == 5
        assert "small/out cannot be written: No space left on device." in said.error
        assert not list(place.iterdir())


def test_without_the_sound_and_features_of_the_test_set(folder: Path, call: Call) -> None:
    fbank = folder / "data" / "tones" / "fbank"
    shutil.rmtree(fbank / "manifests_feats_test")
    cuts = fbank / "manifests_cuts_test.jsonl.gz"
    text = gzip.decompress(cuts.read_bytes())
    assert b"/source/" in text
    cuts.write_bytes(gzip.compress(text.replace(b"/source/", b"/gone/")))
    said = call(export.main, folder, *CHOOSE, "--format", "pretrained")
    assert said.status == 0, said.err
    assert "models are compared on noise" in said.err
    assert "the folder has no sample" in said.err
    out = folder / "exp" / "export-model"
    assert not (out / "test_wavs").exists()
    assert (out / "README.md").read_text().startswith("# model: Zipformer with 1,1 layers")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*SCRIPT, "--output-dir", "exp"), "it holds model.pt. Fix: choose another --output-dir."),
        ((*SCRIPT, "--output-dir", "tones/recipe.toml"), "is a file, not a folder"),
        ((*SCRIPT, "--fp16", "1"), "--fp16 1 is for ONNX files: add onnx to --format"),
        ((*SCRIPT, "--lm-exp-dir", "lm"), "a language model is exported as an ONNX file"),
        ((*CHOOSE, "--format", "onxx"), "did you mean 'onnx'?"),
        ((*CHOOSE, "--dynamic-axes", "0"), "--dynamic-axes 0 settles the length of utterances"),
        ((*CHOOSE, "--static-shapes", "0.05"), "--static-shapes must be at least 0.09 seconds"),
        (
            (*CHOOSE, "--static-shapes", "5", "--dynamic-axes", "0", "--max-len", "500"),
            "--static-shapes is --dynamic-axes 0 and --max-len in one: choose",
        ),
        ((*CHOOSE, "--max-len", "8"), "--max-len must be at least 9 frames, or -1"),
        ((*SCRIPT, "--use-int32-inputs", "1"), "are for ONNX files: add onnx to --format"),
    ],
)
def test_what_cannot_be_is_one_line(
    words: tuple[str, ...], message: str, folder: Path, call: Call
) -> None:
    said = call(export.main, folder, *words)
    assert said.status == 2
    assert message in said.error
    assert (folder / "exp" / "model.pt").is_file()


def test_files_for_other_programs_say_so(folder: Path, call: Call) -> None:
    pytest.importorskip("onnx", reason="export-requirements.txt is not installed")
    words = ("--format", "onnx", "--enable-int8-quantization", "0", "--output-dir", "out")
    shape = ("--static-shapes", "0.9", "--keep-x-lens", "0")
    said = call(export.main, folder, *CHOOSE, *words, *shape, "--use-int32-inputs", "1")
    assert said.status == 0, said.err
    for flag in ("--static-shapes", "--keep-x-lens 0", "--use-int32-inputs 1"):
        assert f"{flag}: the ONNX files are for other programs than sherpa-onnx." in said.err
    assert "sherpa-onnx" not in (folder / "out" / "README.md").read_text()


def test_files_of_one_length_say_what_the_others_say(folder: Path, call: Call) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("kaldi_native_fbank", reason="kaldi-native-fbank is not installed")
    sounds = sorted((folder / "source" / "test").glob("*.flac"))
    speaking_model.write_talkative(
        folder / "exp" / "model.pt", folder / "exp" / "model.pt", sounds[0]
    )
    words = ("--format", "onnx", "--enable-int8-quantization", "0", "--output-dir")
    said = call(export.main, folder, *CHOOSE, *words, "any")
    fixed = ("--static-shapes", "2.5", "--use-int32-inputs", "1")
    said = call(export.main, folder, *CHOOSE, *words, "npu", *fixed)
    assert said.status == 0, said.err
    (line,) = (line for line in said.out.splitlines() if line.startswith("python "))
    assert "sherpa-onnx" not in said.out
    texts, frames = [], []
    for name in ("any", "npu"):
        done = subprocess.run(
            [sys.executable, *line.split()[1:2], *map(str, sounds)],
            cwd=folder / name,
            capture_output=True,
            text=True,
            check=False,
        )
        tones.check(done)
        texts.append(done.stdout)
        session = onnxruntime.InferenceSession(str(folder / name / "encoder-model.onnx"))
        x, lens = session.get_inputs()
        features = speaking_model.features_of(soundfile.read(sounds[0], dtype="float32")[0]).numpy()
        num, dtype = features.shape[1], {"tensor(int32)": "int32"}.get(lens.type, "int64")
        if name == "npu":
            assert (x.shape, lens.shape, lens.type) == ([1, 250, 80], [1], "tensor(int32)")
            features = np.pad(features, ((0, 0), (0, 250 - num), (0, 0)), constant_values=LOG_ZERO)
        given = {"x": features, "x_lens": np.array([num], dtype)}
        encoded, nums = session.run(None, given)
        frames.append(encoded[0, : nums[0]])
    assert len(texts[0].split()) > 2 * len(sounds)
    assert texts[0] == texts[1]
    np.testing.assert_allclose(*frames, rtol=0, atol=1e-4)


def test_streaming_files_take_chunks_alone(workdir: Path, call: Call) -> None:
    bpe = workdir / "data" / "tones" / "lang_bpe" / "bpe.model"
    causal = replace(SECOND, causal=True, chunk_size=(16,), left_context_frames=(32,))
    speaking_model.write_untrained(workdir / "exp" / "model.pt", causal, bpe, HEADS)
    said = call(export.main, workdir, *CHOOSE, "--keep-x-lens", "0")
    assert said.status == 2
    assert "are for files that take whole utterances, and this model hears chunks." in said.err
