"""Speech as it comes through ``Model.stream``: our engine and sherpa-onnx, any rate."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import zipasr
from tests import tones
from zipasr.audio.loading import Samples
from zipasr.recognition import streaming
from zipasr.recognition.torch_model import TorchModel
from zipasr.scoring.calibration import Calibration


@pytest.fixture(scope="module")
def samples(causal: Path) -> Samples:
    sound = sorted((causal / "source" / "test").glob("*.flac"))[0]
    found: Samples = soundfile.read(sound, dtype="float32")[0]
    return found


@pytest.fixture(
    params=["exp/epoch-2.pt", f"out/jit_script_chunk_{32}_left_32.pt", "out/pretrained.pt", "out"]
)
def model(request: pytest.FixtureRequest, causal: Path) -> zipasr.Model:
    if request.param == "out":
        pytest.importorskip("sherpa_onnx", reason="sherpa-onnx is not installed")
    return zipasr.load_model(causal / request.param)


def pieces(samples: Samples, size: int = 1600) -> list[Samples]:
    return [samples[at : at + size] for at in range(0, len(samples), size)]


def test_text_grows_and_does_not_depend_on_the_pieces(
    model: zipasr.Model, samples: Samples
) -> None:
    lengths = []
    with model.stream() as stream:
        for piece in pieces(samples):
            stream.accept(piece)
            lengths.append(len(stream.words))
    assert stream.text
    assert lengths == sorted(lengths)
    assert stream.seconds == pytest.approx(len(samples) / tones.RATE)
    assert all(0 <= word.start <= word.end <= stream.seconds for word in stream.words)
    with model.stream() as at_once:
        at_once.accept(torch.from_numpy(samples), tones.RATE)
    assert at_once.text == stream.text
    whole, again = stream.finish(), at_once.finish()
    assert [(one.text, one.start, one.end) for one in whole.words] == [
        (one.text, one.start, one.end) for one in again.words
    ]
    # Products of other numbers of rows are rounded differently on some processors.
    assert [one.confidence for one in whole.words] == pytest.approx(
        [one.confidence for one in again.words], rel=1e-4
    )
    assert (stream.finish(), whole.seconds) == (whole, again.seconds)
    assert whole.text == stream.text
    with pytest.raises(zipasr.UserError, match="the stream is over"):
        stream.accept(samples)


def test_streams_are_independent(model: zipasr.Model, samples: Samples) -> None:
    with model.stream() as alone:
        alone.accept(samples)
    with model.stream() as first, model.stream() as second:
        for piece in pieces(samples):
            first.accept(piece)
            second.accept(np.zeros(800, np.float32))
    assert first.text == alone.text
    assert second.text == ""


def test_other_rates_are_resampled_as_they_come(model: zipasr.Model, samples: Samples) -> None:
    integers = (np.repeat(samples, 3) * 32767).astype(np.int16)
    with model.stream() as stream:
        for piece in pieces(integers, 4800):
            stream.accept(piece, 3 * tones.RATE)
    assert stream.seconds == pytest.approx(len(samples) / tones.RATE, abs=0.01)
    with model.stream() as stream:
        stream.accept(samples, 8000)
        with pytest.raises(zipasr.DataError, match="the rate was 8000 Hz, now it is 16000 Hz"):
            stream.accept(samples)
        with pytest.raises(zipasr.DataError, match="arrays of one dimension"):
            stream.accept(np.zeros((2, 100)))
        for value in (np.inf, -np.inf, np.nan):
            with pytest.raises(zipasr.DataError, match="not all finite"):
                stream.accept(np.full(100, value, np.float32), 8000)


def test_the_engines_agree(causal: Path, samples: Samples) -> None:
    texts = []
    for form in ("exp/epoch-2.pt", "out/jit_script_chunk_32_left_32.pt"):
        with zipasr.load_model(causal / form).stream() as stream:
            stream.accept(samples)
        texts.append(stream.text)
    assert texts[0] == texts[1]
    assert (
        zipasr.load_model(causal / "out/jit_script_chunk_32_left_32.pt")
        .transcribe((samples, tones.RATE))
        .text.startswith(texts[0][:5])
    )


def test_a_model_for_whole_recordings_says_so(whole: Path) -> None:
    for form in ("exp/epoch-2.pt", "out/jit_script.pt", "out"):
        with pytest.raises(zipasr.UserError, match=r"causal|whole recordings"):
            zipasr.load_model(whole / form).stream()


@pytest.mark.parametrize("kept", [500, 4])
def test_the_confidence_of_words_is_that_of_the_whole_recording(
    causal: Path, samples: Samples, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "KEPT_FRAMES", kept)
    sound = np.tile(samples, 3)
    model = zipasr.load_model(causal / "exp/epoch-2.pt", chunk_size=16, left_context_frames=32)
    whole = model.transcribe((sound, tones.RATE))
    with model.stream() as stream:
        for piece in pieces(sound):
            stream.accept(piece)
    streamed = stream.finish()
    assert len({word.confidence for word in streamed.words}) > 1
    pairs = [
        (one.confidence, other.confidence)
        for one, other in zip(streamed.words, whole.words, strict=False)
        if one.text == other.text and one.end < len(sound) / tones.RATE - 0.5
    ]
    assert pairs
    assert [one for one, _ in pairs] == pytest.approx([other for _, other in pairs], abs=1e-3)


def test_a_calibration_of_the_run_holds_for_its_streams(causal: Path, samples: Samples) -> None:
    settings: dict[str, Any] = {"chunk_size": 16, "left_context_frames": 32, "epoch": 2, "avg": 1}
    plain = zipasr.load_model(causal / "exp", **settings, use_averaged_model=False)
    assert isinstance(plain, TorchModel)
    halving = Calibration(scale=0.0, offset=0.0, fitted_on="dev")
    model = copy.copy(plain)
    model.recogniser = plain.recogniser.calibrated_by(halving)
    with model.stream() as stream:
        stream.accept(samples)
    assert stream.words
    assert {word.confidence for word in stream.words} == {0.5}
    with plain.stream() as stream:
        stream.accept(samples)
    assert {word.confidence for word in stream.words} != {0.5}


@pytest.mark.parametrize("method", ["greedy_search", "modified_beam_search"])
def test_all_engines_give_the_same_confidence(causal: Path, samples: Samples, method: str) -> None:
    pytest.importorskip("sherpa_onnx", reason="sherpa-onnx is not installed")
    chunks = {"chunk_size": 32, "left_context_frames": 32}
    forms: dict[str, dict[str, int]] = {
        "exp/epoch-2.pt": chunks,
        "out/jit_script_chunk_32_left_32.pt": {},
        "out": {},
    }
    found = []
    for form, settings in forms.items():
        model = zipasr.load_model(causal / form, decoding_method=method, **settings)
        with model.stream() as stream:
            stream.accept(samples)
        tokens = [token for word in stream.words for token in word.tokens]
        # The last chunk is filled up in different ways.
        last = len(samples) / tones.RATE - 0.7
        found.append(
            {(one.text, round(one.start, 2)): one.confidence for one in tokens if one.end < last}
        )
    ours, *others = found
    for other in others:
        both = ours.keys() & other.keys()
        assert len(both) > len(ours) // 2
        for token in both:
            assert other[token] == pytest.approx(ours[token], abs=5e-3)
