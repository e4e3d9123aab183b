"""Exported folders in the hands of a real client: sherpa-onnx hears the words that we hear."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from tests import tones
from zipasr.checkpoint.average import ChooseCheckpoint, Chosen, read_chosen
from zipasr.checkpoint.files import load_checkpoint, save_checkpoint
from zipasr.checkpoint.stored import stored_model
from zipasr.cli import export
from zipasr.data.fbank import fbank_extractor
from zipasr.encoder.streaming import chunk_frames
from zipasr.model.transducer import AsrModel
from zipasr.search.ctc import ctc_greedy_search
from zipasr.search.methods import search_for
from zipasr.search.types import DecodingConfig
from zipasr.text.tokenizer import Tokenizer

pytest.importorskip("onnx", reason="export-requirements.txt is not installed")
sherpa_onnx: Any = pytest.importorskip("sherpa_onnx", reason="sherpa-onnx is not installed")

MODEL = ("--checkpoint", "exp/talkative.pt")
CHUNK = 16
METHODS = ("greedy_search", "modified_beam_search")
NUM_UTTERANCES = 20
STREAMING = f"""
causal = 1
chunk-size = "{CHUNK}"
left-context-frames = "32"
"""


@torch.no_grad()
def make_talkative(folder: Path) -> None:
    """Write a checkpoint that says a lot, as the short training of the tones says nothing.

    The mean of the scores over the frames of an utterance is taken off, and what is left counts
    more; the tokens that are no text are ruled out, since the client shows them.
    """
    path = folder / "exp" / "epoch-2.pt"
    checkpoint = load_checkpoint(path)
    model = stored_model(Chosen(path, checkpoint, checkpoint["model"]), {}).build().eval()
    assert model.decoder is not None
    assert model.joiner is not None
    assert model.ctc_output is not None
    sound = soundfile.read(next((folder / "source").rglob("*.flac")), dtype="float32")[0]
    features = features_of(sound)
    frames = model.encode(features, torch.tensor([features.size(1)])).frames[0]
    context = model.decoder(torch.tensor([[-1, 0]]), need_pad=False)[0]
    logits = model.joiner(frames, context.expand(len(frames), -1))
    ctc = model.ctc_output[1]
    for layer, scores in ((model.joiner.output_linear, logits), (ctc, ctc(frames))):
        layer.bias -= scores.mean(0)
        layer.bias *= 10
        layer.weight *= 10
        layer.bias[1:3] = -1000.0
    save_checkpoint(folder / "exp" / "talkative.pt", checkpoint | {"model": model.state_dict()})


def exported(folder: Path, *words: str) -> Path:
    make_talkative(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        flags = ["--recipe", str(folder / "tones"), *MODEL, *words]
        assert export.main([*flags, "--output-dir", str(folder / "out")]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def whole(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of everything for whole utterances."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(trained, folder)
    return exported(folder, "--jit", "1")


@pytest.fixture(scope="module")
def streaming(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of everything for speech as it comes."""
    folder = tmp_path_factory.mktemp("streaming") / "run"
    shutil.copytree(prepared, folder)
    recipe = folder / "tones" / "recipe.toml"
    recipe.write_text(recipe.read_text() + STREAMING)
    tones.check(tones.run(folder, "train.py"))
    return exported(folder, "--jit", "1")


def model_in(out: Path) -> tuple[AsrModel, Tokenizer]:
    path = out / "pretrained.pt"
    chosen: Chosen = read_chosen(out, ChooseCheckpoint(checkpoint=path))
    return stored_model(chosen, {}).build().eval(), Tokenizer.from_file(out / "bpe.model")


def recordings(out: Path, tail: int = 0) -> list[np.ndarray]:
    """Twenty utterances, cut so that they have odd and even numbers of frames."""
    paths = sorted((out.parent / "source").rglob("*.flac"))[:NUM_UTTERANCES]
    assert len(paths) == NUM_UTTERANCES
    sounds = [soundfile.read(path, dtype="float32")[0] for path in paths]
    cut = [sound[: len(sound) // 160 * 160 - 160 * (i % 2)] for i, sound in enumerate(sounds)]
    return [np.pad(sound, (0, tail)) for sound in cut]


def features_of(samples: np.ndarray) -> Tensor:
    return torch.from_numpy(fbank_extractor().extract(samples, tones.RATE)).unsqueeze(0)


def search(model: AsrModel, method: str) -> Callable[..., Any]:
    config = DecodingConfig(decoding_method=method, beam_size=4)
    return search_for(config, model.decoder, model.joiner)


@torch.no_grad()
def our_words(out: Path, method: str) -> list[str]:
    model, tokenizer = model_in(out)
    find = (
        (lambda frames, lens: ctc_greedy_search(frames, lens, ctc_output=model.ctc_log_probs))
        if method == "ctc"
        else search(model, method)
    )
    tokens = []
    for samples in recordings(out):
        features = features_of(samples)
        encoded = model.encode(features, torch.tensor([features.size(1)]))
        tokens.append(find(encoded.frames, encoded.lens)[0].tokens)
    return tokenizer.decode(tokens)


@torch.no_grad()
def our_words_chunk_by_chunk(out: Path, method: str, tail: int) -> list[str]:
    model, tokenizer = model_in(out)
    find, length = search(model, method), chunk_frames(CHUNK)
    tokens = []
    for samples in recordings(out, tail):
        features, state, frames = features_of(samples), model.init_state(1), []
        # The client waits until there is more than one chunk.
        for start in range(0, features.size(1) - length, 2 * CHUNK):
            part = features[:, start : start + length]
            encoded, state = model.encode_chunk(part, torch.tensor([length]), state)
            frames.append(encoded.frames)
        joined = torch.cat(frames, dim=1)
        tokens.append(find(joined, torch.tensor([joined.size(1)]))[0].tokens)
    return tokenizer.decode(tokens)


def files(out: Path, kind: str) -> dict[str, str]:
    (suffix,) = {
        path.name.removeprefix("encoder").removesuffix(".onnx")
        for path in out.glob("encoder*.onnx")
        if ".int8." not in path.name
    }
    parts = {part: str(out / f"{part}{suffix}{kind}") for part in ("encoder", "decoder", "joiner")}
    return parts | {"tokens": str(out / "tokens.txt")}


def heard_by(recogniser: Any, sounds: Sequence[np.ndarray]) -> list[str]:
    heard = []
    for samples in sounds:
        stream = recogniser.create_stream()
        stream.accept_waveform(tones.RATE, samples)
        if hasattr(stream, "input_finished"):
            stream.input_finished()
            while recogniser.is_ready(stream):
                recogniser.decode_stream(stream)
            heard.append(recogniser.get_result(stream))
        else:
            recogniser.decode_stream(stream)
            heard.append(stream.result.text)
    return [" ".join(text.split()) for text in heard]


@pytest.mark.parametrize("method", METHODS)
def test_the_client_hears_our_words(whole: Path, method: str) -> None:
    recogniser = sherpa_onnx.OfflineRecognizer.from_transducer(
        **files(whole, ".onnx"), num_threads=1, decoding_method=method
    )
    heard = heard_by(recogniser, recordings(whole))
    assert all(heard)
    assert heard == our_words(whole, method)


def test_the_client_hears_our_words_by_ctc(whole: Path) -> None:
    recogniser = sherpa_onnx.OfflineRecognizer.from_zipformer_ctc(
        model=str(whole / "model.onnx"), tokens=str(whole / "tokens.txt"), num_threads=1
    )
    heard = heard_by(recogniser, recordings(whole))
    assert any(heard)
    assert heard == our_words(whole, "ctc")


@pytest.mark.parametrize("method", METHODS)
def test_the_client_hears_our_words_as_they_come(streaming: Path, method: str) -> None:
    tail = tones.RATE // 2
    recogniser = sherpa_onnx.OnlineRecognizer.from_transducer(
        **files(streaming, ".onnx"), num_threads=1, decoding_method=method
    )
    heard = heard_by(recogniser, recordings(streaming, tail))
    assert all(heard)
    assert heard == our_words_chunk_by_chunk(streaming, method, tail)


def test_small_files_run(whole: Path, streaming: Path) -> None:
    offline = sherpa_onnx.OfflineRecognizer.from_transducer(**files(whole, ".int8.onnx"))
    online = sherpa_onnx.OnlineRecognizer.from_transducer(**files(streaming, ".int8.onnx"))
    assert all(heard_by(offline, recordings(whole)[:3]))
    assert all(heard_by(online, recordings(streaming, tones.RATE // 2)[:3]))


def test_the_folder_is_whole(whole: Path, streaming: Path) -> None:
    names = {path.name for path in whole.iterdir()}
    assert names >= {
        "pretrained.pt",
        "jit_script.pt",
        "tokens.txt",
        "bpe.model",
        "bpe.vocab",
        "config.json",
        "LICENSE.md",
        "RESULTS.txt",
        "README.md",
        "test_wavs",
    }
    assert (streaming / f"jit_script_chunk_{CHUNK}_left_32.pt").is_file()
    for folder in (whole, streaming):
        checks = json.loads((folder / "config.json").read_text())["checks"]
        strict = [check for check in checks if check["must_agree"]]
        assert len(strict) == 3
        assert all(check["difference"] < 1e-3 for check in strict)
        assert all(check["same_tokens"] == check["utterances"] for check in strict)
        assert {length % 2 for check in strict for length in check["lengths"]} == {0, 1}
        assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]
