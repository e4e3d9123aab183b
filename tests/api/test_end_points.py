"""Ends of utterances in streams: where sherpa-onnx itself finds them, on the same sound."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile

import zipasr
from tests import tones
from zipasr.audio.loading import Samples
from zipasr.recognition.config import EndpointConfig

sherpa_onnx = pytest.importorskip("sherpa_onnx", reason="sherpa-onnx is not installed")

RUN, SCRIPT, FOLDER = "exp/epoch-2.pt", "out/jit_script_chunk_32_left_32.pt", "out"
PIECE = tones.RATE // 10

#: Rules of which others than usual come first.
EARLY = {"rule1_min_trailing_silence": 1.0}
SHORT = {"rule2_min_trailing_silence": 0.4, "rule3_min_utterance_length": 3.0}

#: Seconds of silence before each sentence.
PAUSES = (2.6, 0.1, 1.6, 0.5, 3.0)


class Ended(NamedTuple):
    seconds: float
    text: str


@pytest.fixture(scope="module")
def sound(pausing: Path) -> Samples:
    parts = []
    for index, pause in enumerate(PAUSES):
        path = pausing / "source" / "test" / f"test-{index:03d}.flac"
        parts += [np.zeros(int(tones.RATE * pause)), soundfile.read(path, dtype="float32")[0]]
    return np.concatenate([*parts, np.zeros(2 * tones.RATE)]).astype(np.float32)


def ends_in_sherpa(folder: Path, method: str, sound: Samples, rules: dict) -> list[Ended]:
    """What a program on sherpa-onnx makes of the sound."""

    def file(pattern: str) -> str:
        (path,) = (p for p in folder.glob(pattern) if "int8" not in p.name)
        return str(path)

    kind = sherpa_onnx.OnlineRecognizer
    own = {"tokens": file("tokens.txt"), "enable_endpoint_detection": True, **rules}
    if method.startswith("ctc"):
        client = kind.from_zipformer2_ctc(model=file("model*.onnx"), **own)
    else:
        parts = {part: file(f"{part}*.onnx") for part in ("encoder", "decoder", "joiner")}
        client = kind.from_transducer(**parts, decoding_method=method, **own)
    stream, ended, num_tokens = client.create_stream(), [], 0
    for at in range(0, len(sound), PIECE):
        stream.accept_waveform(tones.RATE, sound[at : at + PIECE])
        while client.is_ready(stream):
            client.decode_stream(stream)
            if client.is_endpoint(stream):
                result = client.get_result_all(stream)
                num_tokens += len(result.tokens)
                client.reset(stream)
                begin = client.get_result_all(stream).start_time
                ended.append(Ended(round(begin, 2), " ".join(result.text.split())))
    assert num_tokens, "the model says nothing at all"
    return ended


def ends_in(stream: zipasr.Stream, sound: Samples, piece: int = PIECE) -> list[Ended]:
    for at in range(0, len(sound), piece):
        stream.accept(sound[at : at + piece])
    return [Ended(round(one.end_point, 2), one.text) for one in stream.segments]


@pytest.mark.parametrize(
    ("method", "form", "rules"),
    [
        ("greedy_search", RUN, {}),
        ("greedy_search", RUN, EARLY),
        ("greedy_search", SCRIPT, SHORT),
        ("greedy_search", FOLDER, SHORT),
        ("ctc-greedy-search", RUN, {}),
        ("ctc-greedy-search", FOLDER, EARLY),
    ],
)
def test_utterances_end_where_the_client_ends_them(
    pausing: Path, sound: Samples, method: str, form: str, rules: dict
) -> None:
    want = ends_in_sherpa(pausing / "out", method, sound, rules)
    model = zipasr.load_model(pausing / form, decoding_method=method)
    found = ends_in(model.stream(enable_endpoint=True, **rules), sound)
    assert [one.seconds for one in found] == [one.seconds for one in want]
    texts = [one.text for one in want]
    assert any(texts)
    assert method.startswith("ctc") or not all(texts), "rule 1 ended no utterance"
    # Behind an utterance without words the client's decoder sees one token of context, ours two.
    spoken = next(n for n, text in enumerate(texts) if text)
    alike = len(texts) if method.startswith("ctc") else [*texts[spoken:], ""].index("") + spoken
    assert [one.text for one in found[:alike]] == texts[:alike]
    # The pieces in which the sound comes do not matter.
    assert ends_in(model.stream(enable_endpoint=True, **rules), sound, len(sound)) == found


def test_the_first_utterance_of_a_beam_search_ends_there_too(pausing: Path, sound: Samples) -> None:
    # Behind it sherpa-onnx goes on with the sums of log-probabilities of all utterances before.
    want = ends_in_sherpa(pausing / "out", "modified_beam_search", sound, {})
    model = zipasr.load_model(pausing / RUN, decoding_method="modified_beam_search")
    found = ends_in(model.stream(enable_endpoint=True), sound)
    first = next(n for n, one in enumerate(want) if one.text)
    assert [one.seconds for one in found[: first + 1]] == [one.seconds for one in want[: first + 1]]


@pytest.mark.parametrize("form", [RUN, FOLDER])
def test_greedy_search_finds_the_same_words_with_and_without_end_points(
    pausing: Path, sound: Samples, form: str
) -> None:
    model = zipasr.load_model(pausing / form)
    with model.stream() as plain, model.stream(enable_endpoint=True) as cut:
        for stream in (plain, cut):
            stream.accept(sound)
    assert plain.finish().text == plain.text == cut.finish().text
    for one, other in zip(plain.finish().tokens, cut.finish().tokens, strict=True):
        assert one.text == other.text
        assert one.start == pytest.approx(other.start, abs=1e-3)
    (whole,) = plain.segments
    assert (whole.text, whole.end_point) == (plain.text, plain.seconds)


def test_segments_have_the_words_in_order(pausing: Path, sound: Samples) -> None:
    stream = zipasr.load_model(pausing / RUN).stream(enable_endpoint=True)
    num_segments = 0
    for at in range(0, len(sound), PIECE):
        stream.accept(sound[at : at + PIECE])
        if len(stream.segments) > num_segments:
            assert stream.segments[-1].end_point <= stream.seconds
            num_segments = len(stream.segments)
    stream.finish()
    before = 0.0
    for segment in stream.segments:
        assert before <= segment.start <= segment.end <= segment.end_point + 0.04
        assert bool(segment.words) or segment.start == segment.end == segment.end_point
        before = segment.end_point
    assert stream.segments[-1].end_point <= stream.seconds


def test_defaults_are_those_of_the_client() -> None:
    client = sherpa_onnx.lib._sherpa_onnx.EndpointConfig()
    own = EndpointConfig()
    assert own.rule1_min_trailing_silence == pytest.approx(client.rule1.min_trailing_silence)
    assert own.rule2_min_trailing_silence == pytest.approx(client.rule2.min_trailing_silence)
    assert own.rule3_min_utterance_length == pytest.approx(client.rule3.min_utterance_length)
    arguments = inspect.signature(zipasr.Model.stream).parameters
    for name, value in asdict(own).items():
        assert arguments[name].default == (value or False)
    theirs = inspect.signature(sherpa_onnx.OnlineRecognizer.from_transducer).parameters
    assert set(asdict(own)) - {"enable_endpoint"} <= set(theirs)


def test_an_export_says_by_which_flags_utterances_end(pausing: Path) -> None:
    folder = pausing / "out"
    (flags,) = re.findall(r"`(--enable-endpoint=true [^`]*)`", (folder / "README.md").read_text())
    given = dict(word[2:].split("=") for word in flags.split())
    stored = json.loads((folder / "config.json").read_text())["endpoint"]
    assert stored == asdict(EndpointConfig(enable_endpoint=True))
    assert {name.replace("-", "_"): value for name, value in given.items()} == {
        name: str(value).lower() for name, value in stored.items()
    }
    program = Path(sys.executable).with_name("sherpa-onnx")
    if not program.is_file():
        pytest.skip("sherpa-onnx-bin is not installed")
    known = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    for name, value in given.items():
        (default,) = re.findall(rf"--{name} .*default = (\S+)\)", known.stdout + known.stderr)
        assert default in (value, value.removesuffix(".0"))


def test_a_rule_needs_a_time(pausing: Path) -> None:
    model = zipasr.load_model(pausing / RUN)
    for value in (0.0, -1.0, float("nan")):
        with pytest.raises(zipasr.UserError, match=r"rule2_min_trailing_silence=.* is no time"):
            model.stream(enable_endpoint=True, rule2_min_trailing_silence=value)
    assert not ends_in(
        model.stream(
            enable_endpoint=True,
            rule1_min_trailing_silence=float("inf"),
            rule2_min_trailing_silence=float("inf"),
            rule3_min_utterance_length=float("inf"),
        ),
        np.zeros(4 * tones.RATE, np.float32),
    )
