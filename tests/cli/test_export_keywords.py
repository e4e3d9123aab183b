"""Phrases of export.py --keywords-file in the keyword spotter of sherpa-onnx."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch

from tests import speaking_model, tones
from tests.cli.conftest import Call
from tests.speaking_model import HEADS, SECOND
from zipasr.checkpoint.checkpoint_file import load_checkpoint, save_checkpoint
from zipasr.cli import export
from zipasr.text.tokenizer import Tokenizer

PROGRAM = Path(sys.executable).with_name("sherpa-onnx-keyword-spotter")
CHOOSE = ("--checkpoint", "exp/model.pt", "--enable-int8-quantization", "0")
CHUNKS = ("--chunk-size", "16", "--left-context-frames", "32")
PHRASES = "LOW :1.5\n\n  HIGH   MID :3 #0.001 @HM\nTOP #0.001\n"
LINES = ["▁LOW :1.5 @LOW", "▁HIGH ▁MID :3 #0.001 @HM", "▁TOP #0.001 @TOP"]


@pytest.fixture
def folder(workdir: Path) -> Path:
    """A prepared corpus with a causal model that says whole words, and a list of phrases."""
    bpe = workdir / "data" / "tones" / "lang_bpe" / "bpe.model"
    model = workdir / "exp" / "model.pt"
    speaking_model.write_untrained(model, replace(SECOND, causal=True), bpe, HEADS)
    sound = next((workdir / "source").rglob("*.flac"))
    speaking_model.write_talkative(model, model, sound)
    checkpoint = load_checkpoint(model)
    bias = checkpoint["model"]["joiner.output_linear.bias"]
    words = [
        piece in ("▁LOW", "▁HIGH", "▁MID", "▁TOP") for piece in Tokenizer.from_file(bpe).pieces()
    ]
    assert sum(words) == 4
    bias[~torch.tensor([True, *words[1:]])] = -1000.0
    # The spotter waits for a blank behind a phrase.
    bias[0] += 2.0
    save_checkpoint(model, checkpoint)
    (workdir / "phrases.txt").write_text(PHRASES, encoding="utf-8")
    return workdir


def test_the_spotter_finds_phrases_of_the_list(folder: Path, call: Call) -> None:
    pytest.importorskip("onnx", reason="export-requirements.txt is not installed")
    words = (*CHOOSE, *CHUNKS, "--format", "onnx", "--output-dir", "out")
    said = call(export.main, folder, *words, "--keywords-file", "phrases.txt")
    assert said.status == 0, said.err
    assert (folder / "out" / "keywords.txt").read_text(encoding="utf-8").splitlines() == LINES
    (line,) = (line for line in said.out.splitlines() if "keyword-spotter" in line)
    assert line.replace(" ", "") in (
        (folder / "out" / "README.md")
        .read_text(encoding="utf-8")
        .replace("\\\n", "")
        .replace(" ", "")
    )
    if not PROGRAM.is_file():
        pytest.skip("sherpa-onnx-bin is not installed")
    sounds = sorted((folder / "source").rglob("*.flac"))[:20]
    waves = []
    for number, path in enumerate(sounds):
        waves.append(f"test_wavs/sound{number}.wav")
        soundfile.write(folder / "out" / waves[-1], *soundfile.read(path))
    tokens = {line.partition("@")[2]: line.split(" :")[0].split(" #")[0].split() for line in LINES}
    found = []
    for listed in (LINES, LINES[1:2]):
        (folder / "out" / "keywords.txt").write_text("\n".join(listed) + "\n", encoding="utf-8")
        done = subprocess.run(
            ["bash", "-c", " ".join((line, *waves))],
            cwd=folder / "out",
            env=os.environ | {"PATH": f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        tones.check(done)
        reports = [
            one
            for one in (done.stdout + done.stderr).splitlines()
            if one.startswith('{"start_time"')
        ]
        found.append([json.loads(one) for one in reports])
    for one in (*found[0], *found[1]):
        assert [token.replace(" ", "▁") for token in one["tokens"]] == tokens[one["keyword"]]
    assert {one["keyword"] for one in found[0]} >= {"HM", "TOP"}
    assert {one["keyword"] for one in found[1]} == {"HM"}


@pytest.mark.parametrize(
    ("phrases", "words", "message"),
    [
        (
            PHRASES,
            (),
            "--keywords-file: sherpa-onnx spots keywords with the ONNX files of a transd",
        ),
        (PHRASES, ("--format", "pretrained", *CHUNKS), "export a causal model with --chunk-size"),
        ("LOW :fast\n", CHUNKS, "phrases.txt:1: 'fast' is not a number."),
        ("\n", CHUNKS, "phrases.txt has no phrase. Fix: write one phrase per line."),
        ("TOP\nQUERY\n", CHUNKS, "phrases.txt:2 has no phrase that the model can write."),
    ],
)
def test_what_cannot_be_is_one_line(
    phrases: str, words: tuple[str, ...], message: str, folder: Path, call: Call
) -> None:
    (folder / "phrases.txt").write_text(phrases, encoding="utf-8")
    whole = () if words else ("--chunk-size", "-1", "--left-context-frames", "-1")
    said = call(export.main, folder, *CHOOSE, *words, *whole, "--keywords-file", "phrases.txt")
    assert said.status == (2 if "Fix: export" in said.error else 3)
    assert message in said.error
