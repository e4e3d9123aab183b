"""Results of ``Model``: any kind of sound, lists, hypotheses, confidence, hot-words, times."""

from __future__ import annotations

import io
import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

import zipasr
from tests import tones
from zipasr.audio.loading import Audio
from zipasr.audio.segmentation import Window
from zipasr.recognition.long_form import join_hypotheses
from zipasr.recognition.transcription import TimedHypothesis
from zipasr.text.timed_words import Token, Word

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(whole: Path) -> zipasr.Model:
    return zipasr.load_model(whole / "exp" / "epoch-2.pt")


@pytest.fixture(scope="module")
def beam(whole: Path) -> zipasr.Model:
    path = whole / "exp" / "epoch-2.pt"
    return zipasr.load_model(path, decoding_method="modified_beam_search", beam_size=8)


@pytest.fixture(scope="module", params=["torch", "sherpa"])
def any_model(request: pytest.FixtureRequest, whole: Path, model: zipasr.Model) -> zipasr.Model:
    if request.param == "torch":
        return model
    pytest.importorskip("sherpa_onnx", reason="sherpa-onnx is not installed")
    return zipasr.load_model(whole / "out")


def as_wav(samples: np.ndarray, rate: int) -> io.BytesIO:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    file.seek(0)
    return file


def test_every_kind_of_sound_says_the_same(model: zipasr.Model, sounds: list[Path]) -> None:
    samples, rate = soundfile.read(sounds[0], dtype="float32")
    integers = soundfile.read(sounds[0], dtype="int16")[0]
    stereo = np.stack([samples, np.zeros_like(samples)])
    kinds: list[Audio] = [
        sounds[0],
        str(sounds[0]),
        (samples, rate),
        (samples.astype(np.float64), rate),
        (integers, rate),
        (integers.tolist(), rate),
        (integers.astype(np.int32), rate),
        (integers.astype(np.int32) << 16, rate),
        (torch.from_numpy(samples), rate),
        (torch.from_numpy(stereo), rate),
        (stereo.T, rate),
        as_wav(samples, rate),
    ]
    expected = model.transcribe(sounds[0]).text
    assert expected
    for kind in kinds:
        assert model.transcribe(kind).text == expected
    with sounds[0].open("rb") as file:
        assert model.transcribe(file).text == expected
    assert "2 channels" in model.transcribe((stereo, rate)).about
    with soundfile.SoundFile(sounds[0]) as info:
        assert model.transcribe(sounds[0]).seconds == pytest.approx(info.frames / rate)


def test_a_list_gives_a_list_in_its_order(any_model: zipasr.Model, sounds: list[Path]) -> None:
    alone = [any_model.transcribe(one) for one in sounds]
    together = any_model.transcribe([*sounds], batch_seconds=1.5)
    assert [one.text for one in together] == [one.text for one in alone]
    assert [one.name for one in together] == [str(one) for one in sounds]
    assert any_model.transcribe([]) == []


def test_words_have_times_tokens_and_confidence(
    any_model: zipasr.Model, sounds: list[Path]
) -> None:
    result = any_model.transcribe(sounds[0])
    assert result.words
    for word in result.words:
        assert 0 <= word.start <= word.end <= result.seconds
        assert 0 < word.confidence <= 1
        assert word.confidence == pytest.approx(np.mean([t.confidence for t in word.tokens]))
        assert "".join(token.text for token in word.tokens).replace("\u2581", "") == word.text
    starts = [token.start for token in result.tokens]
    assert starts == sorted(starts)
    assert result.nbest[0].text == result.text
    with pytest.raises(AttributeError):
        result.words = ()  # type: ignore[misc]


def test_both_engines_give_the_same_confidence(
    whole: Path, model: zipasr.Model, sounds: list[Path]
) -> None:
    pytest.importorskip("sherpa_onnx", reason="sherpa-onnx is not installed")
    ours = model.transcribe(sounds[0])
    theirs = zipasr.load_model(whole / "out").transcribe(sounds[0])
    assert [one.text for one in theirs.tokens] == [one.text for one in ours.tokens]
    for one, other in zip(theirs.tokens, ours.tokens, strict=True):
        assert one.confidence == pytest.approx(other.confidence, abs=5e-3)


def test_hypotheses_of_a_beam(beam: zipasr.Model, sounds: list[Path]) -> None:
    result = beam.transcribe(sounds[0], nbest=5)
    assert 1 < len(result.nbest) <= 5
    assert result.nbest[0].text == result.text
    assert len({one.tokens for one in result.nbest}) == len(result.nbest)
    assert all(math.isfinite(one.log_prob) for one in result.nbest)
    assert beam.transcribe(sounds[0]).words == result.words


@pytest.mark.parametrize("method", ["greedy_search", "ctc-greedy-search", "fast_beam_search"])
def test_a_search_without_hypotheses_says_so(whole: Path, sounds: list[Path], method: str) -> None:
    model = zipasr.load_model(whole / "exp" / "epoch-2.pt", decoding_method=method)
    assert model.transcribe(sounds[0]).text
    with pytest.raises(zipasr.UserError, match=f"{method} keeps one hypothesis"):
        model.transcribe(sounds[0], nbest=2)


def test_hot_words_are_those_of_a_context_file(
    beam: zipasr.Model,
    model: zipasr.Model,
    whole: Path,
    sounds: list[Path],
    tmp_path: Path,
) -> None:
    phrases = [f"{word} :-20" for word in tones.TONES]
    (tmp_path / "phrases.txt").write_text("\n".join(phrases), encoding="utf-8")
    with_file = zipasr.load_model(
        whole / "exp" / "epoch-2.pt",
        decoding_method="modified_beam_search",
        beam_size=8,
        context_file=str(tmp_path / "phrases.txt"),
    )
    before = beam.transcribe(sounds[0])
    found = beam.transcribe(sounds[0], hot_words=phrases)
    assert found == with_file.transcribe(sounds[0])
    assert found.nbest[0].log_prob < before.nbest[0].log_prob
    assert beam.transcribe(sounds[0]) == before
    with pytest.raises(zipasr.UserError, match="greedy_search cannot use the hot-words"):
        model.transcribe(sounds[0], hot_words=["TOP"])
    with pytest.raises(zipasr.UserError, match="is one string"):
        beam.transcribe(sounds[0], hot_words="TOP")
    with pytest.raises(zipasr.DataError, match="hot_words:1: the score 'x' is not a number"):
        beam.transcribe(sounds[0], hot_words=["TOP :x"])


def test_long_recordings_are_cut_and_joined(whole: Path, model: zipasr.Model) -> None:
    draws = np.random.default_rng(3)
    words = [str(word) for word in draws.choice(list(tones.TONES), size=40)]
    samples = tones.audio_of(words, draws)
    short = zipasr.load_model(whole / "exp" / "epoch-2.pt", window=5.0, overlap=1.0)
    result = short.transcribe((samples, tones.RATE))
    assert result.seconds > 10
    assert len(result.words) > 3
    assert [word.start for word in result.words] == sorted(word.start for word in result.words)
    assert result.words[-1].end > 8
    assert model.transcribe((samples, tones.RATE)).words[-1].end <= result.seconds


def test_files_that_cannot_be_read(model: zipasr.Model, sounds: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no sound")
    with pytest.raises(zipasr.DataError, match=r"bad\.wav: cannot be decoded"):
        model.transcribe([sounds[0], bad])
    kept = list(model.transcribe_many([bad, sounds[0]], on_error="keep", progress=False))
    assert isinstance(kept[0].error, zipasr.DataError)
    assert (kept[0].text, kept[0].name) == ("", str(bad))
    assert kept[1].error is None
    assert kept[1].text == model.transcribe(sounds[0]).text


def test_files_are_read_as_they_are_needed(model: zipasr.Model, sounds: list[Path]) -> None:
    taken: list[int] = []

    def endless() -> itertools.chain[Path]:
        for number in itertools.count():
            taken.append(number)
            yield sounds[0]

    found = model.transcribe_many(endless(), batch_seconds=1.0, progress=False)
    texts = [next(found).text for _ in range(3)]
    assert len(set(texts)) == 1
    assert len(taken) < 50


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ("missing.wav", "the file does not exist"),
        (3.0, "float is no sound"),
        ((np.zeros((2, 2, 2)), 16000), "are no sound"),
        ((np.array(["a"]), 16000), "are no sound"),
        ((np.zeros(100), 0), "are no sound"),
        ((np.zeros(100), "16000"), "are no sound"),
        ((np.zeros(100),), "give a path, an open file, or a pair of samples and their rate"),
        ((np.full(1000, np.nan), 16000), "not all finite"),
        (io.StringIO("text"), "gives text, not bytes"),
        (io.BytesIO(b""), "empty file"),
        (io.BytesIO(b"nothing that is sound"), "open file: cannot be decoded"),
    ],
)
def test_what_is_no_sound(model: zipasr.Model, audio: Audio, message: str) -> None:
    with pytest.raises(zipasr.DataError, match=message):
        model.transcribe(audio)


@pytest.mark.parametrize("num_samples", [400, 800, 1359, 1360])
def test_less_than_the_encoder_takes_is_filled_up(
    any_model: zipasr.Model, num_samples: int
) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(num_samples).astype(np.float32)
    assert any_model.transcribe((noise, 16000)).seconds == num_samples / 16000


def test_silence_says_nothing(any_model: zipasr.Model) -> None:
    for samples in (np.zeros(16000), np.zeros(0), np.ones(10)):
        result = any_model.transcribe((samples, 16000))
        assert (result.text, result.nbest, result.error) == ("", (), None)


def test_frames_and_times_of_a_transcript(
    model: zipasr.Model, whole: Path, sounds: list[Path]
) -> None:
    encoding = model.encode(sounds[0])
    seconds = model.transcribe(sounds[0]).seconds
    assert encoding.frames.shape[0] * encoding.seconds_per_frame == pytest.approx(seconds, abs=0.1)
    words = model.align(sounds[0], "LOW TOP")
    assert [word.text for word in words] == ["LOW", "TOP"]
    assert 0 <= words[0].start < words[1].end <= seconds
    assert all(0 < word.confidence <= 1 for word in words)
    with pytest.raises(zipasr.DataError, match="no tokens for"):
        model.align(sounds[0], "\u00c4")
    pytest.importorskip("sherpa_onnx", reason="sherpa-onnx is not installed")
    client = zipasr.load_model(whole / "out")
    with pytest.raises(zipasr.UserError, match="cannot align 'LOW'"):
        client.align(sounds[0], "LOW")
    with pytest.raises(zipasr.UserError, match="does not show encoder frames"):
        client.encode(sounds[0])


scores = st.lists(st.floats(-20, 0), min_size=1, max_size=4).map(lambda all: sorted(all)[::-1])


@given(st.lists(scores, min_size=1, max_size=4), st.integers(1, 6))
def test_hypotheses_of_windows_are_joined_best_first(
    log_probs: list[list[float]], num: int
) -> None:
    windows = [Window(10.0 * n, 10.0 * (n + 1)) for n in range(len(log_probs))]
    found = [
        [hypothesis(f"{n}-{rank}", 10.0 * n + 5, score) for rank, score in enumerate(one)]
        for n, one in enumerate(log_probs)
    ]
    joined = join_hypotheses(windows, found, num)
    every = sorted((sum(choice) for choice in itertools.product(*log_probs)), reverse=True)
    assert [one.log_prob for one in joined] == pytest.approx(every[:num])
    assert [word.text for word in joined[0].words] == [f"{n}-0" for n in range(len(windows))]


def hypothesis(text: str, start: float, log_prob: float) -> TimedHypothesis:
    token = Token(f"\u2581{text}", start, start + 0.1, log_prob)
    return TimedHypothesis((Word(text, start, start + 0.1, 1.0, (token,)),), log_prob)


def test_a_warning_sets_up_no_logging_in_the_program(whole: Path, sounds: list[Path]) -> None:
    program = (
        "import logging, zipasr\n"
        f"model = zipasr.load_model({str(whole / 'exp' / 'epoch-2.pt')!r}, "
        "decoding_method='modified_beam_search')\n"
        f"model.transcribe({str(sounds[0])!r}, hot_words=['äöü', 'LOW'])\n"
        "print(logging.getLogger().handlers)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "[]\n"
    assert "the tokenizer cannot write 'äöü'; left out" in done.stderr
