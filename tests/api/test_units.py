"""Models of characters and of bytes: the exported folder writes and cuts text as the model does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import zipasr
from tests import tones
from tests.speaking_model import HEADS, SECOND, write_talkative, write_untrained
from zipasr.checkpoint.checkpoint_file import load_checkpoint, save_checkpoint
from zipasr.cli import export
from zipasr.text.bpe import train_bpe
from zipasr.text.config import BpeConfig
from zipasr.text.scripts import Unit
from zipasr.text.tokenizer import Tokenizer

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("sherpa_onnx", reason="sherpa-onnx is not installed")

MODELS: dict[str, tuple[Unit, list[str], list[str]]] = {
    "cjkchar": ("char", ["今天天气很好", "我们去北京", "你好世界"], ["你好", "我们去"]),
    "cjkchar+bpe": ("char", ["打开 windows 系统", "T恤 love 你"], ["系统", "windows", "T恤"]),
    "bpe": ("byte-bpe", ["打开windows系统 very good", "我 love 你"], ["系统", "very good"]),
}


@pytest.mark.parametrize("modeling_unit", MODELS)
def test_an_exported_folder_writes_and_cuts_text_as_the_model_does(
    modeling_unit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit, texts, phrases = MODELS[modeling_unit]
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    train_bpe(texts, BpeConfig(lang_dir=tmp_path, unit=unit, vocab_size=300))
    rng = np.random.default_rng(0)
    texts_of_tones = ("LOW TOP MID", "TOP MID HIGH TOP", "MID LOW HIGH", "HIGH LOW TOP LOW")
    sounds = [tones.audio_of(words.split(), rng) for words in texts_of_tones]
    soundfile.write("sound.flac", sounds[0], tones.RATE)
    checkpoint, folder = tmp_path / "model.pt", tmp_path / "out"
    write_untrained(checkpoint, SECOND, tmp_path / "bpe.model", HEADS)
    write_talkative(checkpoint, checkpoint, Path("sound.flac"))
    favour(checkpoint, phrases, tmp_path / "bpe.model")
    words = ["--checkpoint", str(checkpoint), "--exp-dir", str(tmp_path), "--format", "onnx"]
    words += ["--output-dir", str(folder), "--enable-int8-quantization", "0"]
    assert export.main(words) == 0
    assert json.loads((folder / "config.json").read_text())["modeling_unit"] == modeling_unit
    assert f"--modeling-unit={modeling_unit}" in (folder / "README.md").read_text()
    settings = {"decoding_method": "modified_beam_search", "context_score": 60.0}
    model = zipasr.load_model(checkpoint, **settings)
    client = zipasr.load_model(folder, **settings)
    changed = 0
    for sound in sounds:
        ours, theirs = (one.transcribe((sound, tones.RATE)) for one in (model, client))
        assert ours.text == theirs.text
        assert [word.text for word in ours.words] == [word.text for word in theirs.words]
        ours, theirs = (
            one.transcribe((sound, tones.RATE), hot_words=phrases) for one in (model, client)
        )
        assert ours.text == theirs.text
        changed += ours.text != model.transcribe((sound, tones.RATE)).text
    assert changed


def favour(checkpoint: Path, phrases: list[str], bpe: Path) -> None:
    """Let a model of random weights consider the tokens of phrases: a beam has to hold them."""
    weights = load_checkpoint(checkpoint)
    for tokens in Tokenizer.from_file(bpe).encode(phrases):
        weights["model"]["joiner.output_linear.bias"][tokens] += 4.0
    save_checkpoint(checkpoint, weights)
