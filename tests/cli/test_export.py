"""Exported folders in the hands of a real client: sherpa-onnx hears the words that we hear."""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
import json
import os
import re
import shlex
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tests import margins, speaking_model, tones
from tests.speaking_model import FIRST, HEADS, SECOND, features_of
from zipasr.checkpoint.averaging import LoadedWeights, read_chosen
from zipasr.checkpoint.config import ChooseCheckpoint
from zipasr.checkpoint.model_file import stored_model
from zipasr.cli import decode, export
from zipasr.encoder.protocol import EncoderConfig
from zipasr.exporting.parity import LOG_ZERO
from zipasr.model.transducer import AsrModel
from zipasr.recognition.config import RecognitionConfig
from zipasr.recognition.result_names import result_suffix
from zipasr.scoring.decodings import Decoding, Setting, read_decodings
from zipasr.search.components import ModelParts
from zipasr.search.config import DecodingConfig
from zipasr.search.ctc_greedy import CtcGreedySearch, CtcHead
from zipasr.search.hot_words import ContextGraph
from zipasr.search.registry import build_search
from zipasr.search.transducer_step import TransducerSteps
from zipasr.text.phrases import read_phrases
from zipasr.text.tokenizer import Tokenizer

pytest.importorskip("onnx", reason="export-requirements.txt is not installed")
sherpa_onnx: Any = pytest.importorskip("sherpa_onnx", reason="sherpa-onnx is not installed")

CHUNK = 16
METHODS = ("greedy_search", "modified_beam_search")
NUM_UTTERANCES = 20
# In nats. The frames of the two programs differ by 1e-5, scores of these loud heads by 1e-4.
NEARLY_EVEN = 2e-3
# The client drops what is left at the end: half a second of silence takes its place.
TAIL = tones.RATE // 2
PROGRAMS = Path(sys.executable).parent


def exported(folder: Path, *words: str) -> Path:
    """Export the model in ``exp/epoch-2.pt`` of a prepared folder, once it says a lot."""
    sound = next((folder / "source").rglob("*.flac"))
    model = folder / "exp" / "speaking_model.pt"
    speaking_model.write_talkative(folder / "exp" / "epoch-2.pt", model, sound)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        flags = [
            "--recipe",
            str(folder / "tones"),
            "--checkpoint",
            str(model),
            "--jit",
            "1",
            *words,
        ]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            assert export.main([*flags, "--output-dir", str(folder / "out")]) == 0
    (folder / "printed.txt").write_text(printed.getvalue(), encoding="utf-8")
    return folder / "out"


def tokens_of(folder: Path) -> Path:
    return folder / "data" / "tones" / "lang_bpe" / "bpe.model"


Untrained = Callable[[EncoderConfig], Path]


@pytest.fixture(scope="module")
def untrained(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Untrained:
    """Export a model with random weights."""

    def make(encoder: EncoderConfig) -> Path:
        folder = tmp_path_factory.mktemp("untrained") / "run"
        shutil.copytree(prepared, folder)
        bpe = tokens_of(folder)
        speaking_model.write_untrained(folder / "exp" / "epoch-2.pt", encoder, bpe, HEADS)
        return exported(folder)

    return make


@pytest.fixture(scope="module")
def whole(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of everything for whole utterances."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(trained, folder)
    speaking_model.write_lm(folder / "lm" / "epoch-1.pt", tokens_of(folder))
    lm = ("--lm-exp-dir", str(folder / "lm"), "--lm-epoch", "1")
    return exported(folder, "--fp16", "1", *lm)


@pytest.fixture(scope="module")
def whole_first(untrained: Untrained) -> Path:
    """The same of the first Zipformer."""
    return untrained(FIRST)


@pytest.fixture(scope="module")
def streaming(untrained: Untrained) -> Path:
    """An export of everything for speech as it comes; the client gives states of 128 channels."""
    causal = replace(SECOND, causal=True, chunk_size=(CHUNK,), left_context_frames=(32,))
    return untrained(causal)


@pytest.fixture(scope="module")
def streaming_first(untrained: Untrained) -> Path:
    """The same of the first Zipformer."""
    return untrained(replace(FIRST, causal=True, num_left_chunks=2))


@pytest.fixture
def out(request: pytest.FixtureRequest) -> Path:
    """The export that a test names."""
    folder: Path = request.getfixturevalue(request.param)
    return folder


WHOLE = pytest.mark.parametrize("out", ["whole", "whole_first"], indirect=True)
STREAMING = pytest.mark.parametrize("out", ["streaming", "streaming_first"], indirect=True)


def model_in(out: Path) -> tuple[AsrModel, Tokenizer]:
    path = out / "pretrained.pt"
    chosen: LoadedWeights = read_chosen(out, ChooseCheckpoint(checkpoint=path))
    return stored_model(chosen, {}).build().eval(), Tokenizer.from_file(out / "bpe.model")


def recordings(out: Path, tail: int = 0) -> list[np.ndarray]:
    """Twenty utterances, cut so that they have odd and even numbers of frames."""
    paths = sorted((out.parent / "source").rglob("*.flac"))[:NUM_UTTERANCES]
    assert len(paths) == NUM_UTTERANCES
    sounds = [soundfile.read(path, dtype="float32")[0] for path in paths]
    cut = [sound[: len(sound) // 160 * 160 - 160 * (i % 2)] for i, sound in enumerate(sounds)]
    return [np.pad(sound, (0, tail)) for sound in cut]


def search(model: AsrModel, method: str) -> Callable[..., Any]:
    if method == "ctc":
        return CtcGreedySearch(CtcHead(model.ctc_log_probs))
    config = DecodingConfig(decoding_method=method, beam_size=4)
    return build_search(config, ModelParts(model.decoder, model.joiner))


@torch.no_grad()
def our_words(out: Path, method: str, sounds: Sequence[np.ndarray] | None = None) -> list[str]:
    model, tokenizer = model_in(out)
    find = search(model, method)
    tokens = []
    for samples in recordings(out) if sounds is None else sounds:
        features = features_of(samples)
        encoded = model.encode(features, torch.tensor([features.size(1)]))
        tokens.append(find(encoded.frames, encoded.lens)[0].tokens)
    return tokenizer.decode(tokens)


@torch.no_grad()
def our_words_chunk_by_chunk(
    out: Path, method: str, sounds: Sequence[np.ndarray] | None = None
) -> list[str]:
    model, tokenizer = model_in(out)
    find = search(model, method)
    tokens = []
    for samples in recordings(out, TAIL) if sounds is None else sounds:
        joined = chunk_by_chunk(model, features_of(samples))
        tokens.append(find(joined, torch.tensor([joined.size(1)]))[0].tokens)
    return tokenizer.decode(tokens)


@torch.no_grad()
def page_words(out: Path, sound: np.ndarray) -> str:
    """What the page of onnxruntime does: 0.3 s of silence behind the speech, all chunks whole."""
    model, tokenizer = model_in(out)
    features = features_of(sound)
    (length, step, _), state, frames = model.chunk_encoder.size(), model.init_state(1), []
    padded = torch.nn.functional.pad(features, (0, 0, 0, 30 + length), value=LOG_ZERO)
    for start in range(0, features.size(1) + 30, step):
        part = padded[:, start : start + length]
        encoded, state = model.encode_chunk(part, torch.tensor([length]), state)
        frames.append(encoded.frames)
    joined = torch.cat(frames, dim=1)
    found = search(model, "greedy_search")(joined, torch.tensor([joined.size(1)]))[0].tokens
    return tokenizer.decode([found])[0]


def chunk_by_chunk(model: AsrModel, features: torch.Tensor) -> torch.Tensor:
    """Encode features (1, T, 80) as the client does, which waits for more than one chunk."""
    (length, step, _), state, frames = model.chunk_encoder.size(), model.init_state(1), []
    for start in range(0, features.size(1) - length, step):
        part = features[:, start : start + length]
        encoded, state = model.encode_chunk(part, torch.tensor([length]), state)
        frames.append(encoded.frames)
    return torch.cat(frames, dim=1)


@torch.no_grad()
def check_heard(
    model: AsrModel,
    method: str,
    heard: Sequence[str],
    ours: Sequence[str],
    sounds: Sequence[np.ndarray],
    *,
    streams: bool = False,
    graph: ContextGraph | None = None,
) -> None:
    """Compare words, but for utterances where the search has a nearly even choice.

    The client rounds differently, and so does every processor: what is nearer than NEARLY_EVEN in
    float64 is not held against it. Few utterances have such a choice.

    Args:
        model: what is searched.
        method: the search.
        heard: words of the client in each utterance.
        ours: our words.
        sounds: samples of each utterance.
        streams: whether it is encoded chunk by chunk.
        graph: hot-words.
    """
    decided = []
    for samples in sounds:
        features = features_of(samples)
        if streams:
            frames = chunk_by_chunk(model, features)[0].double()
        else:
            frames = model.encode(features, torch.tensor([features.size(1)])).frames[0].double()
        decided.append(nearest_choice_of(model, frames, method, graph) > NEARLY_EVEN)
    assert sum(decided) > 0.7 * len(decided)
    assert [word for word, far in zip(heard, decided, strict=True) if far] == [
        word for word, far in zip(ours, decided, strict=True) if far
    ]


def nearest_choice_of(
    model: AsrModel, frames: torch.Tensor, method: str, graph: ContextGraph | None
) -> float:
    """Return the smallest gap of a choice: encoder frames (T', C) of one utterance."""
    double = copy.deepcopy(model).double()
    if method == "ctc":
        values = double.ctc_output(frames).log_softmax(dim=-1).topk(2).values
        return float((values[:, 0] - values[:, 1]).min())
    steps = TransducerSteps(double.decoder, double.joiner)
    return margins.nearest_choice(margins.Scorer(steps, steps.project(frames)), method, graph=graph)


def files(out: Path, kind: str) -> dict[str, str]:
    (suffix,) = {
        path.name.removeprefix("encoder").removesuffix(".onnx")
        for path in out.glob("encoder*.onnx")
        if ".int8." not in path.name and ".fp16." not in path.name
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
@WHOLE
def test_the_client_hears_our_words(out: Path, method: str) -> None:
    recogniser = sherpa_onnx.OfflineRecognizer.from_transducer(
        **files(out, ".onnx"), num_threads=1, decoding_method=method
    )
    heard = heard_by(recogniser, recordings(out))
    assert all(heard)
    check_heard(model_in(out)[0], method, heard, our_words(out, method), recordings(out))


def test_the_client_asks_a_language_model(whole: Path) -> None:
    heard = []
    for scale in (0.0, 5.0):
        recogniser = sherpa_onnx.OfflineRecognizer.from_transducer(
            **files(whole, ".onnx"),
            num_threads=1,
            decoding_method="modified_beam_search",
            lm=str(whole / "lm.onnx"),
            lm_scale=scale,
        )
        heard.append(heard_by(recogniser, recordings(whole)[:5]))
    assert heard[0] == our_words(whole, "modified_beam_search", recordings(whole)[:5])
    assert heard[1] != heard[0]


@WHOLE
def test_the_client_hears_our_words_by_ctc(out: Path) -> None:
    recogniser = sherpa_onnx.OfflineRecognizer.from_zipformer_ctc(
        model=str(out / "model.onnx"), tokens=str(out / "tokens.txt"), num_threads=1
    )
    heard = heard_by(recogniser, recordings(out))
    assert any(heard)
    check_heard(model_in(out)[0], "ctc", heard, our_words(out, "ctc"), recordings(out))


@pytest.mark.parametrize("method", METHODS)
@STREAMING
def test_the_client_hears_our_words_as_they_come(out: Path, method: str) -> None:
    recogniser = sherpa_onnx.OnlineRecognizer.from_transducer(
        **files(out, ".onnx"), num_threads=1, decoding_method=method
    )
    heard = heard_by(recogniser, recordings(out, TAIL))
    assert all(heard)
    ours, sounds = our_words_chunk_by_chunk(out, method), recordings(out, TAIL)
    check_heard(model_in(out)[0], method, heard, ours, sounds, streams=True)


def test_the_client_hears_our_words_as_they_come_by_ctc(streaming: Path) -> None:
    recogniser = sherpa_onnx.OnlineRecognizer.from_zipformer2_ctc(
        model=str(streaming / f"model-chunk-{CHUNK}-left-32.onnx"),
        tokens=str(streaming / "tokens.txt"),
        num_threads=1,
    )
    heard = heard_by(recogniser, recordings(streaming, TAIL))
    assert any(heard)
    ours, sounds = our_words_chunk_by_chunk(streaming, "ctc"), recordings(streaming, TAIL)
    check_heard(model_in(streaming)[0], "ctc", heard, ours, sounds, streams=True)


@pytest.mark.parametrize("kind", [".int8.onnx", ".fp16.onnx"])
def test_small_files_run(whole: Path, kind: str) -> None:
    offline = sherpa_onnx.OfflineRecognizer.from_transducer(**files(whole, kind), num_threads=1)
    assert all(heard_by(offline, recordings(whole)[:3]))


@STREAMING
def test_small_files_run_on_speech_as_it_comes(out: Path) -> None:
    # As docs/deploy.md proposes for a phone.
    decoder = {"decoder": files(out, ".onnx")["decoder"]}
    online = sherpa_onnx.OnlineRecognizer.from_transducer(**files(out, ".int8.onnx") | decoder)
    assert all(heard_by(online, recordings(out, TAIL)[:3]))


@pytest.mark.parametrize(
    "out", ["whole", "streaming", "whole_first", "streaming_first"], indirect=True
)
def test_the_folder_is_whole(out: Path) -> None:
    names = {path.name for path in out.iterdir()}
    streams = any(out.glob("encoder*-chunk-*"))
    assert names >= {
        "pretrained.pt",
        f"jit_script_chunk_{CHUNK}_left_32.pt" if streams else "jit_script.pt",
        "tokens.txt",
        "bpe.model",
        "bpe.vocab",
        "config.json",
        "LICENSE.md",
        "RESULTS.txt",
        "README.md",
        "test_wavs",
    }
    checks = json.loads((out / "config.json").read_text())["checks"]
    strict = [check for check in checks if check["must_agree"]]
    assert len(strict) == 3 + (out / "lm.onnx").is_file()
    assert all(check["difference"] < 1e-3 for check in strict)
    assert all(check["same_tokens"] == check["utterances"] for check in strict)
    assert {length % 2 for check in strict for length in check["lengths"]} == {0, 1}
    small = [check["name"] for check in checks if ".int8." in check["name"]]
    assert len(small) == 2
    assert not [path for path in out.parent.iterdir() if path.name.startswith(".")]


needs_programs = pytest.mark.skipif(
    not (PROGRAMS / "sherpa-onnx").is_file(), reason="sherpa-onnx-bin is not installed"
)
WITH_PROGRAMS = os.environ | {"PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"}


def commands_in(out: Path) -> list[str]:
    return re.findall(r"```bash\n(.*?)```", (out / "README.md").read_text(), flags=re.DOTALL)


def server_command(out: Path) -> str:
    (command,) = (one for one in commands_in(out) if "-websocket-server" in one)
    return command


def words_of(command: str) -> list[str]:
    return shlex.split(command.replace("\\\n", " "))


def shell(command: str, folder: Path) -> str:
    """Run a line as a user would paste it; return what it says."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=WITH_PROGRAMS,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    tones.check(done)
    return done.stdout + done.stderr


def text_in(said: str) -> str:
    """Return the words in the line of JSON that the programs print."""
    lines = [line[line.index("{") :] for line in said.splitlines() if '"text":' in line]
    return " ".join(json.loads(lines[-1])["text"].split())


RECOGNISERS = ("sherpa-onnx", "sherpa-onnx-offline")


@needs_programs
@pytest.mark.parametrize("out", ["whole", "streaming"], indirect=True)
def test_the_commands_of_the_folder_run(out: Path) -> None:
    commands = [one for one in commands_in(out) if one.split()[0] in RECOGNISERS]
    heard = {words_of(command)[2]: text_in(shell(command, out)) for command in commands}
    # Of each head, each precision; the client does not stream the CTC head of the first.
    assert len(heard) == len([*out.glob("encoder*.onnx"), *out.glob("model*.onnx")])
    if (out / "jit_script.pt").is_file():
        sound = soundfile.read(out / "test_wavs" / "0.wav", dtype="float32")[0]
        by_transducer = heard[f"--encoder={Path(files(out, '.onnx')['encoder']).name}"]
        assert [by_transducer] == our_words(out, "greedy_search", [sound])
        assert [heard["--zipformer-ctc-model=model.onnx"]] == our_words(out, "ctc", [sound])


def printed_lines(out: Path) -> dict[str, str]:
    """Return what export.py prints to paste: client -> line."""
    printed = (out.parent / "printed.txt").read_text().splitlines()
    return {
        title[2:].partition(":")[0]: line
        for title, line in itertools.pairwise(printed)
        if title.startswith("# ")
    }


@needs_programs
@pytest.mark.parametrize("out", ["whole", "streaming"], indirect=True)
def test_the_printed_lines_run(out: Path) -> None:
    lines = printed_lines(out)
    streams = any(out.glob("encoder*-chunk-*"))
    assert lines.pop("the others, in the folder") == f"cd {out}"
    # The servers are started further down.
    server = lines.pop("sherpa-onnx as a server")
    assert words_of(server) == words_of(server_command(out))
    if streams:
        assert lines.pop("sherpa-onnx asking that server") in "".join(commands_in(out))
    elif not shutil.which("onnx-asr", path=WITH_PROGRAMS["PATH"]):
        assert "onnx-asr kaldi-rnnt" in lines.pop("onnx-asr")
    assert lines.keys() - {"onnx-asr"} == {"this project", "sherpa-onnx", "onnxruntime alone"}
    ours, *_ = shell(lines.pop("this project"), tones.ROOT).splitlines()
    heard = {client: shell(line, out) for client, line in lines.items()}
    by_sherpa = text_in(heard.pop("sherpa-onnx"))
    sound = soundfile.read(out / "test_wavs" / "0.wav", dtype="float32")[0]
    alone = heard.pop("onnxruntime alone").strip().removeprefix("test_wavs/0.wav: ")
    if streams:
        assert all((ours, by_sherpa))
        assert alone == page_words(out, sound)
    else:
        (wanted_text,) = our_words(out, "greedy_search", [sound])
        assert {ours, by_sherpa, alone, *map(str.strip, heard.values())} == {wanted_text}


@needs_programs
def test_hot_words_win_in_the_client_as_in_decode(whole: Path, tmp_path: Path) -> None:
    folder = whole.parent
    sounds = sorted((folder / "source" / "test").glob("*.flac"))
    waves = [tmp_path / f"{path.stem}.wav" for path in sounds]
    for path, wave in zip(sounds, waves, strict=True):
        soundfile.write(wave, *soundfile.read(path))
    phrases = tmp_path / "phrases.txt"
    phrases.write_text("TOP LOW\nMID :9\n", encoding="utf-8")
    flags = re.findall(r"`(--decoding-method=.*)`", (whole / "README.md").read_text())[0]
    (program, *model) = words_of(printed_lines(whole)["sherpa-onnx"])[:-1]
    texts = []
    for file in ("", str(phrases)):
        said = [*flags.replace("FILE", file).split()] if file else [flags.split()[0]]
        # One at a time: with longer ones beside it, the last frames of an utterance are others.
        commands = (shlex.join([program, *model, *said, str(wave)]) for wave in waves)
        texts.append([text_in(shell(command, whole)) for command in commands])
        words = ["--recipe", str(folder / "tones"), "--checkpoint", str(whole / "pretrained.pt")]
        words += ["--exp-dir", str(tmp_path / "exp"), "--decoding-method", "modified_beam_search"]
        words += ["--max-duration", "0.1", "--num-workers", "0", "--context-file", file]
        # Stored features are rounded: both hear the sound.
        words += ["--on-the-fly-feats", "1"]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            assert decode.main(words) == 0
    assert len(texts[0]) == len(waves)
    assert texts[0] != texts[1]
    decodings = {
        "hot" if "context" in one.setting.suffix else "plain": one
        for one in read_decodings(tmp_path / "exp")
    }
    model, tokenizer = model_in(whole)
    read = read_phrases(phrases, tokenizer)
    graph = ContextGraph(read.tokens, 2.0, read.scores)
    for name, heard in zip(("plain", "hot"), texts, strict=True):
        records = decodings[name].records
        hyps = {Path(record.audio).stem: " ".join(record.hyp) for record in records}
        ours = [hyps[path.stem] for path in sounds]
        audio = [soundfile.read(path, dtype="float32")[0] for path in sounds]
        method = "modified_beam_search"
        check_heard(model, method, heard, ours, audio, graph=graph if name == "hot" else None)


@needs_programs
@pytest.mark.parametrize("out", ["whole", "streaming"], indirect=True)
def test_no_sound_is_too_short(out: Path, tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(tones.RATE)
    waves = {}
    for milliseconds in (0, 1, 24, 50, 84):
        waves[milliseconds] = tmp_path / f"{milliseconds}.wav"
        sound = noise[: tones.RATE * milliseconds // 1000]
        soundfile.write(waves[milliseconds], sound, tones.RATE)
    # The features of onnx-asr are its own and need 5 ms; for us a file without samples is a fault.
    least = {"onnx-asr": 5, "this project": 1}
    lines = printed_lines(out)
    if not shutil.which("onnx-asr", path=WITH_PROGRAMS["PATH"]):
        lines.pop("onnx-asr", None)
    for client in ("this project", "sherpa-onnx", "onnx-asr", "onnxruntime alone"):
        if client in lines:
            command = lines[client].rpartition(" ")[0]
            files = [str(path) for ms, path in waves.items() if ms >= least.get(client, 0)]
            place = tones.ROOT if client == "this project" else out
            shell(
                shlex.join([*words_of(command), *files])
                if "&&" not in command
                else " ".join([command, *files]),
                place,
            )


@contextlib.contextmanager
def server(out: Path) -> Iterator[int]:
    """Start the server of a folder as its README says; give the port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = server_command(out).replace("--port=6006", f"--port={port}")
    running = subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        cwd=out,
        env=WITH_PROGRAMS,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            assert running.poll() is None
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield port
    finally:
        running.terminate()
        running.wait()


@needs_programs
def test_a_server_hears_our_words(whole: Path) -> None:
    client = pytest.importorskip("websockets.sync.client", reason="websockets is not installed")
    sounds = recordings(whole)[:2]
    sounds.append(sounds[0][:800])  # 50 ms: there is an answer
    heard = []
    with server(whole) as port:
        for samples in sounds:
            with client.connect(f"ws://127.0.0.1:{port}", proxy=None) as connection:
                head = struct.pack("<ii", tones.RATE, samples.nbytes)
                connection.send(head + samples.tobytes())
                heard.append(text_in(connection.recv()))
                connection.send("Done")
    *heard, _ = heard
    assert heard == our_words(whole, "greedy_search", sounds[:2])


@needs_programs
def test_a_server_hears_speech_as_it_comes(streaming: Path) -> None:
    with server(streaming) as port:
        words = [f"--server-port={port}", "--seconds-per-message=0.01", "test_wavs/0.wav"]
        done = subprocess.run(
            [str(PROGRAMS / "sherpa-onnx-online-websocket-client"), *words],
            cwd=streaming,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    sound = soundfile.read(streaming / "test_wavs" / "0.wav", dtype="float32")[0]
    # The server adds more silence than the last chunk needs.
    padded = np.pad(sound, (0, tones.RATE * 8 // 10))
    heard = text_in(done.stdout + done.stderr)
    assert [heard] == our_words_chunk_by_chunk(streaming, "greedy_search", [padded])


def test_the_results_say_that_weights_of_rescoring_are_the_best_on_each_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = RecognitionConfig(exp_dir=Path(), checkpoint=ChooseCheckpoint(epoch=1, avg=1))
    suffix = result_suffix("_beam", config.checkpoint)
    for key, is_told in (("nbest-rescoring_lm-scale-0.1", True), ("greedy_search", False)):
        found = [Decoding(setting=Setting(test_set="test", key=key, suffix=suffix), records=[])]
        monkeypatch.setattr(export, "read_decodings", lambda folder, found=found: found)
        about = export.results_of(config).split("\n")[0]
        assert about.endswith("of rescoring, the weights that are best on each set:") == is_told
