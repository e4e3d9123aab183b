"""transcribe.py --align: words and tokens of a given transcript with times and scores."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tests import speaking_model, tones
from tests.speaking_model import SECOND, features_of
from zipasr.audio.loading import Sound
from zipasr.checkpoint.averaging import read_chosen
from zipasr.checkpoint.config import ChooseCheckpoint
from zipasr.checkpoint.model_file import stored_model
from zipasr.cli import transcribe
from zipasr.encoder.protocol import Geometry
from zipasr.model.config import ModelConfig
from zipasr.model.transducer import AsrModel
from zipasr.recognition import alignment
from zipasr.recognition.long_form import Cutting
from zipasr.recognition.recogniser import Recogniser
from zipasr.recognition.word_bounds import SHORTEST_WORD
from zipasr.search.components import ModelParts
from zipasr.search.ctc_greedy import CtcGreedySearch, CtcHead
from zipasr.search.forced_alignment import ctc_alignment, transducer_alignment
from zipasr.search.methods import method_of
from zipasr.search.transducer_step import TransducerSteps
from zipasr.text.tokenizer import Tokenizer

TEXT = "HIGH LOW MID"
SEED = 4


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("align") / "said.wav"
    soundfile.write(path, tones.audio_of(TEXT.split(), np.random.default_rng(SEED)), tones.RATE)
    return path


@pytest.fixture(scope="module")
def checkpoint(trained: Path) -> Path:
    return trained / "exp" / "epoch-2.pt"


@pytest.fixture
def told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Run the command in an empty folder: what it printed, or its error."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object, status: int = 0) -> str:
        capsys.readouterr()
        found = transcribe.main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert found == status, err
        return out if status == 0 else err

    return run


def loaded(path: Path) -> tuple[AsrModel, Tokenizer]:
    chosen = read_chosen(path, ChooseCheckpoint(checkpoint=path))
    tokenizer = Tokenizer.from_bytes(bytes(chosen.checkpoint["tokenizer"].tolist()))
    return stored_model(chosen, {}).build().eval(), tokenizer


@torch.no_grad()
def expected(path: Path, sound: Path, uses_ctc: bool) -> list[tuple[str, float, float, float]]:
    """Token, start, end and score, from the model and the alignment that is tested elsewhere."""
    model, tokenizer = loaded(path)
    features = features_of(soundfile.read(sound, dtype="float32")[0])
    frames = model.encode(features, torch.tensor([features.size(1)])).frames[0]
    (tokens,) = tokenizer.encode([TEXT])
    if uses_ctc:
        spans = ctc_alignment(model.ctc_log_probs(frames[None])[0], tokens)
    else:
        assert model.decoder is not None
        assert model.joiner is not None
        spans = transducer_alignment(frames, tokens, TransducerSteps(model.decoder, model.joiner))
    assert spans is not None
    names = tokenizer.pieces()
    return [
        (names[token], 0.04 * span.start, 0.04 * span.end, math.exp(span.log_prob))
        for token, span in zip(tokens, spans, strict=True)
    ]


def tokens_in(words: list[dict[str, Any]]) -> list[tuple[str, float, float, float]]:
    keys = ("token", "start", "end", "score")
    return [tuple(one[key] for key in keys) for word in words for one in word["tokens"]]


@pytest.mark.parametrize("times", ["auto", "ctc", "transducer"])
def test_times_and_scores_are_those_of_the_alignment(
    times: str, checkpoint: Path, sound: Path, told: Callable[..., str]
) -> None:
    flags = ("--checkpoint", checkpoint, "--word-times", times, "--align", TEXT)
    content = json.loads(told(*flags, "--format", "json", sound))
    assert content["file"] == sound.name
    assert content["text"] == TEXT
    assert [word["word"] for word in content["words"]] == TEXT.split()
    found, wanted = tokens_in(content["words"]), expected(checkpoint, sound, times != "transducer")
    assert [one[0] for one in found] == [one[0] for one in wanted]
    for left, right in zip(found, wanted, strict=True):
        assert left[1:] == pytest.approx(right[1:], abs=2e-3)
    for before, after in pairwise(content["words"]):
        assert before["end"] <= after["start"]
    for word in content["words"]:
        tokens = word["tokens"]
        assert word["duration"] > SHORTEST_WORD - 2e-3
        assert word["duration"] == pytest.approx(word["end"] - word["start"], abs=2e-3)
        assert 0 <= word["score"] <= 1
        scores = [one["score"] for one in tokens]
        assert min(scores) - 1e-3 <= word["score"] <= max(scores) + 1e-3


def test_a_transcript_in_a_file_in_all_formats(
    checkpoint: Path, sound: Path, tmp_path: Path, told: Callable[..., str]
) -> None:
    text = tmp_path / "said.txt"
    text.write_text("\ufeffHIGH  LOW\nMID\n", encoding="utf-8")
    flags = ("--checkpoint", checkpoint, "--align", text)
    out = tmp_path / "out"
    assert told(*flags, "--format", "txt,json,srt,ctm", "--output-dir", out, sound) == ""
    words = json.loads((out / "said.json").read_text(encoding="utf-8"))["words"]
    assert [word["word"] for word in words] == TEXT.split()
    rows = (out / "said.txt").read_text(encoding="utf-8").splitlines()
    assert rows[0].split() == ["word", "start", "duration", "score"]
    assert len(rows) == 1 + len(words) + len(tokens_in(words))
    of_words = [row.split() for row in rows[1:] if not row.startswith(" ")]
    numbers = [
        [word["word"], f"{word['start']:.3f}", f"{word['duration']:.3f}", f"{word['score']:.4f}"]
        for word in words
    ]
    assert of_words == numbers
    ctm = [line.split() for line in (out / "said.ctm").read_text(encoding="utf-8").splitlines()]
    assert ctm == [["said.wav", "1", start, length, w, s] for w, start, length, s in numbers]
    assert TEXT in (out / "said.srt").read_text(encoding="utf-8")


def test_exported_files_align_as_the_checkpoint_does(
    trained: Path, checkpoint: Path, sound: Path, tmp_path: Path, told: Callable[..., str]
) -> None:
    pytest.importorskip("onnxruntime", reason="export-requirements.txt is not installed")
    pytest.importorskip("onnx", reason="export-requirements.txt is not installed")
    from zipasr.cli import export

    out = tmp_path / "out"
    flags = ["--checkpoint", str(checkpoint), "--jit", "1", "--output-dir", str(out)]
    assert export.main(["--recipe", str(trained / "tones"), *flags]) == 0
    rest = ("--align", TEXT, "--format", "json", sound)
    for times in ("auto", "transducer"):
        flags = ("--word-times", times, *rest)
        wanted = tokens_in(json.loads(told("--checkpoint", checkpoint, *flags))["words"])
        for words in (["--model", out], ["--nn-model-filename", out / "jit_script.pt"]):
            found = tokens_in(json.loads(told(*words, *flags))["words"])
            assert [one[:3] for one in found] == [one[:3] for one in wanted]
            scores = [one[3] for one in wanted]
            assert [one[3] for one in found] == pytest.approx(scores, abs=2e-3)


def test_a_ctc_model_aligns_without_a_method(
    prepared: Path, sound: Path, tmp_path: Path, told: Callable[..., str]
) -> None:
    path = tmp_path / "ctc.pt"
    bpe = prepared / "data" / "tones" / "lang_bpe" / "bpe.model"
    heads = ModelConfig(use_transducer=False, use_ctc=True)
    speaking_model.write_untrained(path, SECOND, bpe, heads)
    assert told("--checkpoint", path, "--align", TEXT, sound).startswith("word")
    said = told(
        "--checkpoint", path, "--align", TEXT, "--word-times", "transducer", sound, status=2
    )
    assert "the model has no transducer" in said


class Clock:
    """A model whose frames say when they were, and a transcript of one token that is now."""

    geometry = Geometry()

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.geometry = Geometry()
        self.parts = ModelParts(None, None, self.ctc_log_probs)
        self.frames: list[torch.Tensor] = []

    def encode(self, features: torch.Tensor, lens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        num = lens // 4
        frames = features[:, : 4 * int(num) : 4, :1]
        self.frames.append(frames)
        return frames, num

    def ctc_log_probs(self, frames: torch.Tensor) -> torch.Tensor:
        loud = frames > -10.0
        scores = torch.full((*frames.shape[:2], self.vocab_size), -5.0)
        scores[..., 3] = torch.where(loud[..., 0], 0.0, -5.0)
        scores[..., 0] = torch.where(loud[..., 0], -5.0, 0.0)
        return scores


def test_windows_of_a_long_recording_are_one_alignment(checkpoint: Path) -> None:
    _, tokenizer = loaded(checkpoint)
    draws = np.random.default_rng(0)
    samples = (1e-4 * draws.standard_normal(60 * tones.RATE)).astype(np.float32)
    moments = [3.2, 17.0, 24.4, 41.2, 58.6]
    for moment in moments:
        begin = round(moment * tones.RATE)
        samples[begin : begin + tones.RATE // 2] += draws.standard_normal(tones.RATE // 2)
    clock, sound = Clock(tokenizer.vocab_size), Sound(samples, "")
    method = method_of("ctc-greedy-search")
    search = CtcGreedySearch(CtcHead(clock.ctc_log_probs))
    recogniser = Recogniser(clock, tokenizer, method, search)
    words = alignment.align(recogniser, sound, [3] * 5, Cutting(12.0, 2.0, 1), "auto")
    assert len(clock.frames) > 4
    tokens = [token for word in words for token in word.tokens]
    assert [token.start for token in tokens] == pytest.approx(moments, abs=0.05)
    assert [token.end for token in tokens] == pytest.approx([m + 0.5 for m in moments], abs=0.05)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--align", "low", "a.wav"], 3, "the model has no tokens for 'low'"),
        (["--align", " ", "a.wav"], 3, "there are no words in the transcript"),
        (["--align", "lost.txt", "a.wav"], 3, "there is no file --align lost.txt"),
        (["--align", "LOW", "a.wav", "b.wav"], 2, "the transcript of one recording, there are 2"),
        (["--align", "LOW", "-"], 2, "--align needs the whole recording"),
        (["--align", "LOW", "--streaming", "1", "a.wav"], 2, "leave --streaming out"),
        (["--align", "LOW " * 200, "SOUND"], 3, "too short for the"),
    ],
)
def test_what_cannot_be_aligned(
    words: list[str],
    status: int,
    message: str,
    checkpoint: Path,
    sound: Path,
    told: Callable[..., str],
) -> None:
    named = [str(sound) if word == "SOUND" else word for word in words]
    said = told("--checkpoint", checkpoint, *named, status=status).splitlines()
    (line,) = [one for one in said if one.startswith("error: ")]
    assert message in line


def test_a_table_of_tokens_cuts_no_transcript(
    trained: Path, checkpoint: Path, sound: Path, tmp_path: Path, told: Callable[..., str]
) -> None:
    plain, table = tmp_path / "plain.pt", tmp_path / "tokens.txt"
    torch.save({"model": torch.load(checkpoint, weights_only=False)["model"]}, plain)
    lang = trained / "data" / "tones" / "lang_bpe"
    shutil.copy(lang / "tokens.txt", table)
    flags = ("--checkpoint", plain, "--tokens", table, "--align", TEXT, sound)
    assert "give --bpe-model as well" in told(*flags, status=3)
    assert told("--bpe-model", lang / "bpe.model", *flags).startswith("word")
