"""transcribe.py on what published recipes and export.py write: the words of the checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.nn import functional as F

from tests import speaking_model, tones
from tests.speaking_model import FIRST, HEADS, SECOND, features_of
from zipasr.checkpoint.averaging import read_chosen
from zipasr.checkpoint.checkpoint_file import load_checkpoint
from zipasr.checkpoint.config import ChooseCheckpoint
from zipasr.checkpoint.model_file import stored_model
from zipasr.cli import export, transcribe
from zipasr.encoder.protocol import EncoderConfig, Geometry
from zipasr.exporting.exporters import ExportJob
from zipasr.exporting.parity import chunkwise
from zipasr.model.config import ModelConfig
from zipasr.model.transducer import AsrModel
from zipasr.recognition.acoustic_model import LOG_ZERO
from zipasr.recognition.config import ModelFileConfig
from zipasr.recognition.exported_model import Chunks, read_model_file
from zipasr.search.ctc_greedy import CtcGreedySearch, CtcHead
from zipasr.search.greedy import GreedySearch
from zipasr.search.transducer_step import TransducerSteps
from zipasr.text.tokenizer import Tokenizer

pytest.importorskip("onnxruntime", reason="export-requirements.txt is not installed")
pytest.importorskip("onnx", reason="export-requirements.txt is not installed")

SECOND_CAUSAL = replace(SECOND, causal=True, chunk_size=(16,), left_context_frames=(32,))
FIRST_CAUSAL = replace(FIRST, causal=True, num_left_chunks=2)
METHODS = ("greedy_search", "modified_beam_search", "fast_beam_search", "ctc-greedy-search")

Make = Callable[..., Path]


def exported(folder: Path, is_talkative: bool = True) -> Path:
    """Export the model in ``exp/epoch-2.pt``, once it says a lot."""
    sound = next((folder / "source").rglob("*.flac"))
    model = folder / "exp" / "epoch-2.pt"
    if is_talkative:
        speaking_model.write_talkative(model, model, sound)
    flags = ["--recipe", str(folder / "tones"), "--checkpoint", str(model), "--jit", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert export.main([*flags, "--output-dir", str(folder / "out")]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def make(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Export a model with random weights."""

    def build(name: str, encoder: EncoderConfig, heads: ModelConfig = HEADS) -> Path:
        folder = tmp_path_factory.mktemp(name) / "run"
        shutil.copytree(prepared, folder)
        bpe = folder / "data" / "tones" / "lang_bpe" / "bpe.model"
        speaking_model.write_untrained(folder / "exp" / "epoch-2.pt", encoder, bpe, heads)
        return exported(folder, heads.use_transducer)

    return build


@pytest.fixture(scope="module")
def whole(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(trained, folder)
    return exported(folder)


@pytest.fixture(scope="module")
def ctc(make: Make) -> Path:
    return make("ctc", SECOND, ModelConfig(use_transducer=False, use_ctc=True))


@pytest.fixture(scope="module")
def streaming(make: Make) -> Path:
    return make("streaming", SECOND_CAUSAL)


@pytest.fixture(scope="module")
def streaming_first(make: Make) -> Path:
    return make("first", FIRST_CAUSAL)


@pytest.fixture
def heard(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """Run the command in an empty folder and return what it printed, line by line."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> list[str]:
        capsys.readouterr()
        status = transcribe.main([str(word) for word in words])
        told = capsys.readouterr()
        assert status == 0, told.err
        return told.out.splitlines()

    return run


@pytest.fixture
def refusal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Run the command and return its one line of error."""
    monkeypatch.chdir(tmp_path)

    def run(status: int, *words: object) -> str:
        capsys.readouterr()
        assert transcribe.main([str(word) for word in words]) == status
        (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
        return line

    return run


def sounds(out: Path) -> list[Path]:
    paths = sorted((out.parent / "source" / "test").glob("*.flac"))[:4]
    assert len(paths) == 4
    return paths


def one(out: Path, pattern: str) -> Path:
    (path,) = [x for x in out.glob(pattern) if ".int8." not in x.name]
    return path


def parts(out: Path) -> list[object]:
    names = ("encoder", "decoder", "joiner")
    return [x for n in names for x in (f"--{n}-model-filename", one(out, f"{n}-*.onnx"))]


def alone(path: Path, folder: Path) -> Path:
    """Copy a file to a folder without anything beside it."""
    folder.mkdir(exist_ok=True)
    return Path(shutil.copy(path, folder))


# Whole recordings -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_files_find_the_words_of_the_checkpoint(
    whole: Path, method: str, heard: Callable[..., list[str]]
) -> None:
    rest = ("--method", method, "--sample-rate", 16000, *sounds(whole))
    expected = heard("--checkpoint", whole / "pretrained.pt", *rest)
    assert len({*expected}) > 1
    tokens = ("--tokens", whole / "tokens.txt")
    script = whole / "jit_script.pt"
    assert heard("--nn-model-filename", script, *tokens, *rest) == expected
    assert heard("--model", whole, *rest) == expected
    if method == "ctc-greedy-search":
        assert heard("--nn-model", whole / "model.onnx", *tokens, *rest) == expected
    else:
        assert heard(*parts(whole), *tokens, *rest) == expected


def test_int8_files_are_named_one_by_one(whole: Path, heard: Callable[..., list[str]]) -> None:
    words = [str(word).replace(".onnx", ".int8.onnx") for word in parts(whole)]
    assert len(heard(*words, *sounds(whole))) == 4


def test_weights_alone_and_a_table_of_tokens(
    whole: Path, tmp_path: Path, heard: Callable[..., list[str]]
) -> None:
    plain = tmp_path / "plain.pt"
    torch.save({"model": load_checkpoint(whole / "pretrained.pt")["model"]}, plain)
    table = alone(whole / "tokens.txt", tmp_path / "lang")
    expected = heard("--checkpoint", whole / "pretrained.pt", *sounds(whole))
    assert heard("--checkpoint", plain, "--tokens", table, *sounds(whole)) == expected


def test_a_ctc_model_needs_no_method(ctc: Path, heard: Callable[..., list[str]]) -> None:
    rest = sounds(ctc)
    expected = heard("--checkpoint", ctc / "pretrained.pt", "--method", "ctc-decoding", *rest)
    assert heard("--checkpoint", ctc / "pretrained.pt", *rest) == expected
    assert heard("--nn-model", ctc / "model.onnx", *rest) == expected
    assert heard("--model-filename", ctc / "jit_script.pt", *rest) == expected
    assert heard("--model", ctc, *rest) == expected


def test_the_first_zipformer_and_words_file(
    make: Make, heard: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out = make("old", FIRST)
    expected = heard("--checkpoint", out / "pretrained.pt", *sounds(out))
    assert heard("--nn-model-filename", out / "jit_script.pt", *sounds(out)) == expected
    assert heard("--model", out, *sounds(out)) == expected
    words = ["--model", str(out), "--words-file", "words.txt", str(sounds(out)[0])]
    assert transcribe.main(words) == 0
    assert "--words-file has no effect" in capsys.readouterr().err


# Speech as it comes ---------------------------------------------------------------------------


def model_in(out: Path) -> AsrModel:
    choose = ChooseCheckpoint(checkpoint=out / "pretrained.pt")
    return stored_model(read_chosen(out, choose), {}).build().eval()


@torch.no_grad()
def words_of_full_chunks(out: Path, encoder: EncoderConfig, is_ctc: bool) -> list[str]:
    """What the model says whose chunks are always full, as those of ONNX files are."""
    model, tokenizer = model_in(out), Tokenizer.from_file(out / "bpe.model")
    job = ExportJob(model, encoder, out, "", [])
    encode = chunkwise(job.start, job.size, job.step)
    assert model.decoder is not None
    assert model.joiner is not None
    search = (
        CtcGreedySearch(CtcHead(model.ctc_log_probs))
        if is_ctc
        else GreedySearch(TransducerSteps(model.decoder, model.joiner))
    )
    tokens = []
    for path in sounds(out):
        features = F.pad(
            features_of(soundfile.read(path, dtype="float32")[0]),
            (0, 0, 0, Geometry().tail),
            value=LOG_ZERO,
        )
        num = features.size(1)
        frames, _ = encode(features, torch.tensor([num]))
        tokens.append(search(frames, torch.tensor([Geometry().output_lens(num)]))[0].tokens)
    return tokenizer.decode(tokens)


STREAMING = pytest.mark.parametrize(
    ("name", "encoder"), [("streaming", SECOND_CAUSAL), ("streaming_first", FIRST_CAUSAL)]
)


@STREAMING
def test_streaming_files_find_the_words_of_full_chunks(
    name: str,
    encoder: EncoderConfig,
    request: pytest.FixtureRequest,
    heard: Callable[..., list[str]],
) -> None:
    out = request.getfixturevalue(name)
    script = ("--nn-model-filename", one(out, "jit_script_chunk_*.pt"))
    expected = words_of_full_chunks(out, encoder, is_ctc=False)
    assert any(expected)
    assert heard(*script, *sounds(out)) == expected
    assert heard(*parts(out), *sounds(out)) == expected
    assert heard("--model", out, *sounds(out)) == expected
    expected = words_of_full_chunks(out, encoder, is_ctc=True)
    assert heard(*script, "--method", "ctc-greedy-search", *sounds(out)) == expected
    assert heard("--model-filename", one(out, "model-*.onnx"), *sounds(out)) == expected


def test_streaming_files_take_the_searches_that_go_on(
    streaming: Path, heard: Callable[..., list[str]], refusal: Callable[..., str]
) -> None:
    rest = ("--method", "modified_beam_search", *sounds(streaming))
    script = one(streaming, "jit_script_chunk_*.pt")
    assert heard("--jit-filename", script, *rest) == heard("--model", streaming, *rest)
    said = refusal(2, "--model", streaming, "--method", "beam_search", sounds(streaming)[0])
    assert "beam_search needs whole utterances" in said
    said = refusal(2, "--model", streaming, "--align", "LOW", sounds(streaming)[0])
    assert "the model in the file works chunk by chunk" in said


@STREAMING
def test_frames_of_the_last_chunk_are_counted_as_the_model_does(
    name: str, encoder: EncoderConfig, request: pytest.FixtureRequest
) -> None:
    out = request.getfixturevalue(name)
    model = model_in(out)
    chunks = read_model_file(ModelFileConfig(model=out), prefers_ctc=False).encoder
    assert isinstance(chunks, Chunks)
    assert chunks.size == model.chunk_encoder.size()
    features = torch.zeros(1, chunks.size.frames, 80)
    for valid in range(chunks.size.frames + 1):
        lens = torch.tensor([valid])
        expected = model.encode_chunk(features, lens, model.init_state(1))[0].lens
        _, num, _ = chunks.step(features, lens, chunks.start(1))
        assert num.tolist() == expected.tolist(), valid


def test_raw_sound_through_a_streaming_file(
    streaming: Path, heard: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, _ = soundfile.read(sounds(streaming)[0], dtype="int16")
    expected = heard("--model", streaming, sounds(streaming)[0])
    pcm = streaming.parent / "raw.pcm"
    pcm.write_bytes(samples.astype("<i2").tobytes())
    with pcm.open() as source:
        monkeypatch.setattr("sys.stdin", source)
        assert heard("--model", streaming, "--enable-endpoint", "0", "-") == expected


# What is wrong --------------------------------------------------------------------------------


def test_what_is_no_model_is_said(whole: Path, tmp_path: Path, refusal: Callable[..., str]) -> None:
    sound = sounds(whole)[0]
    weights = whole / "pretrained.pt"
    assert "is not a recogniser in TorchScript. Fix: give a jit_script" in refusal(
        4, "--nn-model-filename", weights, sound
    )
    damaged = tmp_path / "model.onnx"
    damaged.write_bytes((whole / "model.onnx").read_bytes()[:1000])
    table = ("--tokens", whole / "tokens.txt")
    assert "is no ONNX file that onnxruntime can run" in refusal(
        4, "--nn-model", damaged, *table, sound
    )
    assert "there is no file lost.onnx" in refusal(4, "--nn-model", "lost.onnx", *table, sound)
    assert "there is no folder --model lost" in refusal(4, "--model", "lost", sound)
    (tmp_path / "empty").mkdir()
    assert "has no encoder*.onnx of float32" in refusal(4, "--model", tmp_path / "empty", sound)
    decoder = ("--decoder-model-filename", one(whole, "joiner-*.onnx"))
    assert "the files do not say their vocab_size" in refusal(
        4, *parts(whole), *decoder, *table, sound
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--keep-x-lens", "0"], "takes no lengths"),
        (["--max-len", "100", "--dynamic-axes", "0"], "takes utterances of 100 frames only"),
    ],
)
def test_files_for_other_programs(
    ctc: Path, flags: list[str], message: str, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    words = ["--checkpoint", str(ctc / "pretrained.pt"), "--enable-int8-quantization", "0"]
    recipe = ["--recipe", str(ctc.parent / "tones")]
    assert export.main([*recipe, *words, *flags, "--output-dir", str(tmp_path / "out")]) == 0
    assert message in refusal(4, "--model", tmp_path / "out", sounds(ctc)[0])


def test_several_models_in_a_folder(
    whole: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    for name in ("encoder-epoch-1-avg-1.onnx", "encoder-epoch-2-avg-1.onnx"):
        (tmp_path / name).touch()
    assert "holds several models: encoder-epoch-1-avg-1.onnx, encoder-epoch-2-avg-1.onnx" in (
        refusal(2, "--model", tmp_path, sounds(whole)[0])
    )


def test_tokens_of_another_model(whole: Path, tmp_path: Path, refusal: Callable[..., str]) -> None:
    sound, script = sounds(whole)[0], whole / "jit_script.pt"
    table = tmp_path / "tokens.txt"
    lines = (whole / "tokens.txt").read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    said = refusal(4, "--nn-model-filename", script, "--tokens", table, sound)
    assert f"has a vocabulary of {len(lines)}, but --tokens {table} has {len(lines) - 1}" in said
    said = refusal(4, "--checkpoint", whole / "pretrained.pt", "--tokens", table, sound)
    assert f"it has {len(lines) - 1} tokens, not {len(lines)}" in said
    lonely = alone(script, tmp_path / "lonely")
    assert "there is no tokens.txt beside" in refusal(3, "--nn-model-filename", lonely, sound)
    assert "there is no --tokens lost.txt" in refusal(
        3, "--nn-model-filename", lonely, "--tokens", "lost.txt", sound
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "a", "--nn-model", "b"], "give one model"),
        (["--encoder-model-filename", "a"], "--decoder-model-filename, --joiner-model-filename is"),
        (["--model", "a", "--checkpoint", "b"], "there are two models"),
        (["--model", "a", "--causal", "1"], "--causal cannot change the model in a"),
        (["--model", "a", "--use-bf16", "1"], "--use-bf16 1: a computes in the precision"),
        (["--sample-rate", "8000"], "--sample-rate 8000: models here hear 16000"),
        (["--HLG", "HLG.pt"], "--HLG HLG.pt: graphs of other programs are not read"),
    ],
)
def test_flags_that_contradict_each_other(
    words: list[str], message: str, refusal: Callable[..., str]
) -> None:
    assert message in refusal(2, *words, "a.wav")


def test_a_file_for_whole_recordings_is_not_for_speech_as_it_comes(
    whole: Path, refusal: Callable[..., str]
) -> None:
    sound = sounds(whole)[0]
    assert "is for whole recordings" in refusal(2, "--model", whole, "--streaming", "1", sound)
    assert "is for whole recordings" in refusal(2, "--model", whole, "-")


def test_hot_words_need_more_than_a_table(
    whole: Path, tmp_path: Path, refusal: Callable[..., str], heard: Callable[..., list[str]]
) -> None:
    phrases = tmp_path / "phrases.txt"
    phrases.write_text("HIGH TOP\n", encoding="utf-8")
    model = ("--nn-model-filename", alone(whole / "jit_script.pt", tmp_path / "jit"))
    rest = ("--method", "modified_beam_search", "--context-file", phrases, sounds(whole)[0])
    table = ("--tokens", alone(whole / "tokens.txt", tmp_path / "lang"))
    assert "give --bpe-model as well" in refusal(3, *model, *table, *rest)
    bpe = ("--bpe-model", whole / "bpe.model")
    expected = heard("--checkpoint", whole / "pretrained.pt", *rest)
    assert heard(*model, *table, *bpe, *rest) == expected
    assert heard(*model, "--tokens", whole / "tokens.txt", *rest) == expected


def test_long_recordings_have_times(whole: Path, heard: Callable[..., list[str]]) -> None:
    samples = np.concatenate([soundfile.read(x, dtype="float32")[0] for x in sounds(whole)] * 4)
    path = whole.parent / "long.wav"
    soundfile.write(path, samples, tones.RATE)
    rest = ("--window", "6", "--format", "json", path)
    found = "\n".join(heard("--model", whole, "--method", "ctc-greedy-search", *rest))
    expected = heard(
        "--checkpoint", whole / "pretrained.pt", "--method", "ctc-greedy-search", *rest
    )
    results = json.loads(found), json.loads("\n".join(expected))
    # Two engines; what they find is rounded to four digits.
    sure, as_expected = ([word.pop("confidence") for word in one["words"]] for one in results)
    assert sure == pytest.approx(as_expected, abs=2e-4)
    assert results[0] == results[1]
