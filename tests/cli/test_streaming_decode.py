"""Utterances decoded chunk by chunk: the words of the masked decode, for any chunks and batch."""

from __future__ import annotations

import ast
import io
import re
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO, cast

import pytest
import soundfile
import torch

from tests import speaking_model, tones
from zipasr.base.errors import DataError, UserError
from zipasr.cli import decode, live, transcribe
from zipasr.cli.command_flags import read
from zipasr.cli.live import LiveText, pcm_pieces
from zipasr.cli.recognition_commands import DECODE, STREAMING_DECODE, recognition_config
from zipasr.recognition.acoustic_model import LOG_ZERO
from zipasr.recognition.config import StreamingConfig
from zipasr.recognition.recogniser import load_recogniser
from zipasr.recognition.speech_stream import Stream as SpeechStream
from zipasr.recognition.streaming import Stream
from zipasr.recognition.transcription import Segment
from zipasr.scoring.decodings import read_decodings
from zipasr.search.config import DecodingConfig
from zipasr.text.timed_words import Word

MODEL = ("--epoch", "1", "--avg", "1", "--use-averaged-model", "0")


@pytest.fixture(scope="module")
def causal(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model that was trained for one epoch, and says a lot."""
    folder = tmp_path_factory.mktemp("causal") / "run"
    shutil.copytree(prepared, folder)
    flags = ("--chunk-size", "8,16,32", "--left-context-frames", "32", "--num-epochs", "1")
    tones.check(tones.run(folder, "train.py", "--causal", "1", *flags))
    speaking_model.make_talkative(folder, epoch=1)
    return folder


def words(folder: Path, pattern: str) -> str:
    (path,) = folder.glob(pattern)
    return path.read_text()


@pytest.mark.parametrize(
    ("chunk", "method", "streams"),
    [
        ("8", "greedy_search", "3"),
        ("16", "modified_beam_search", "2000"),
        ("32", "fast_beam_search", "5"),
    ],
)
def test_chunks_give_the_words_of_the_masked_decode(
    causal: Path,
    monkeypatch: pytest.MonkeyPatch,
    chunk: str,
    method: str,
    streams: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(causal)
    flags = ["--recipe", "./tones", *MODEL, "--chunk-size", chunk, "--left-context-frames", "32"]
    flags += ["--decoding-method", method, "--beam", "4", "--max-contexts", "4"]
    flags += ["--max-states", "32", "--pad-look-ahead", "1", "--allow-partial", "1"]
    assert decode.main(flags) == 0
    flags += ["--score-normalised", "1"]
    assert decode.streaming([*flags, "--num-decode-streams", streams]) == 0
    told = capsys.readouterr().out
    assert "test: first word shown for good " in told
    assert "test: last word shown for good " in told
    changed = re.search(r"test: (\d+) words changed after they were first shown, of (\d+)", told)
    (decoding,) = (
        one
        for one in read_decodings(causal / "exp")
        if one.is_streamed and f"chunk-{chunk}_" in one.setting.suffix
    )
    assert decoding.setting.chunk_seconds == pytest.approx(0.02 * int(chunk))
    assert decoding.setting.chunk_computing > 0
    for record in decoding.records:
        assert len(record.shown) == len(record.hyp)
        assert list(record.shown) == sorted(record.shown)
        # A word is shown after its last token, and in the chunk that brings that or later.
        assert all(
            late > min(early, record.duration - 0.01)
            for late, early in zip(record.shown, record.emitted, strict=True)
        )
    counts = [
        sum(one.changed for one in decoding.records),
        sum(len(one.hyp) for one in decoding.records),
    ]
    assert counts == [int(number) for number in changed.groups()]
    # Greedy search never takes anything back.
    assert method != "greedy_search" or counts[0] == 0
    log = words(causal / "exp" / "streaming" / method, f"log-decode-*chunk-{chunk}_*")
    assert "test: RTF " in log
    assert "upper case" in log
    assert "best for test" in log
    simulated = words(causal / "exp" / method, f"recogs-test-*chunk-{chunk}_*")
    assert (
        words(causal / "exp" / "streaming" / method, f"recogs-test_*chunk-{chunk}_*") == simulated
    )
    assert "'" in simulated


def test_the_best_average_or_else_the_last_epoch_is_decoded(
    causal: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(causal)
    recipe = causal / "tones" / "recipe.toml"
    lines = recipe.read_text()
    recipe.write_text(lines.replace("\nepoch = 2\n", "\n"))
    flags = ["--recipe", "./tones", "--chunk-size", "16", "--left-context-frames", "32"]
    flags += ["--num-workers", "0"]
    try:
        assert decode.streaming([*flags, "--label", "last"]) == 0
        line = "using --epoch 1 --avg 1 --use-averaged-model 0: exp ends with epoch 1, too few"
        assert line in capsys.readouterr().err
        best = ["--auto-avg", "1", "--use-averaged-model", "0", "--label", "best"]
        assert decode.streaming([*flags, *best]) == 0
        # There is one epoch: nothing to choose from.
        assert "using --epoch 1 --avg 1: exp ends with epoch 1." in capsys.readouterr().err
    finally:
        recipe.write_text(lines)
    folder = causal / "exp" / "streaming" / "greedy_search"
    last, best_of_all = (
        words(folder, f"recogs-test_*_epoch-1_avg-1_chunk-16_*-{label}.txt")
        for label in ("last", "best")
    )
    assert last == best_of_all


@torch.inference_mode()
def test_chunks_give_the_frames_of_the_masked_decode_to_the_last(
    causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(causal)
    flags = ["--recipe", "./tones", *MODEL, "--chunk-size", "8", "--left-context-frames", "32"]
    flags += ["--pad-look-ahead", "1"]
    recogniser = load_recogniser(recognition_config(read(DECODE, flags)))
    chunks = recogniser.acoustics.model.chunk_encoder
    lengths = torch.tensor([97, 96, 90, 61])
    features = torch.randn(4, 97, 80, generator=torch.Generator().manual_seed(0)) - 8
    batch = features.masked_fill(torch.arange(97)[:, None] >= lengths[:, None, None], LOG_ZERO)
    frames, lens = recogniser.acoustics.encode(batch, lengths)
    for row, length in enumerate(lengths.tolist()):
        stream, state, parts = Stream("a", features[row, :length]), chunks.start(1, "cpu"), []
        while not stream.is_over(chunks.size()):
            part, valid = stream.chunk(chunks.size())
            out, num, state = chunks.advance(part[None], torch.tensor([valid]), state)
            parts.append(out[0, : int(num)])
            stream.index += 1
        # The last ones too, also of the longest of the batch, with nothing but its silence behind.
        torch.testing.assert_close(
            frames[row, : int(lens[row])], torch.cat(parts), rtol=0, atol=2e-5
        )


@torch.inference_mode()
def test_whole_utterances_get_the_silence_of_the_published_decoding(
    causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(causal)
    flags = ["--recipe", "./tones", *MODEL, "--chunk-size", "8", "--left-context-frames", "32"]
    # By the modules of the model, as what they are compared with, so that they are equal.
    acoustics = load_recogniser(recognition_config(read(DECODE, flags))).acoustics
    acoustics = replace(acoustics, is_final=False)
    lengths = torch.tensor([97, 40])
    features = torch.randn(2, 97, 80, generator=torch.Generator().manual_seed(0)) - 8
    batch = features.masked_fill(torch.arange(97)[:, None] >= lengths[:, None, None], LOG_ZERO)
    frames, lens = acoustics.encode(batch, lengths)
    # 30 frames of log(1e-10), which the lengths count, and nothing beyond.
    silence = torch.full((2, 30, 80), -23.025851)
    want = acoustics.model.encode(torch.cat([batch, silence], dim=1), lengths + 30)
    assert torch.equal(frames, want.frames)
    assert torch.equal(lens, want.lens)
    # With the flag the front end sees 13 more, which the lengths do not count: the last frames of
    # the longest are others, and no frame of the other, which has silence behind it anyway.
    padded, padded_lens = replace(acoustics, pad_look_ahead=True).encode(batch, lengths)
    more = torch.full((2, 43, 80), -23.025851)
    want = acoustics.model.encode(torch.cat([batch, more], dim=1), lengths + 30)
    assert torch.equal(padded_lens, lens)
    last, short = int(lens[0]), int(lens[1])
    assert torch.equal(padded[0, :last], want.frames[0, :last])
    assert not torch.equal(padded[0, last - 1], frames[0, last - 1])
    torch.testing.assert_close(padded[0, : last - 4], frames[0, : last - 4], rtol=0, atol=2e-5)
    torch.testing.assert_close(padded[1, :short], frames[1, :short], rtol=0, atol=2e-5)


def test_the_published_command_is_understood() -> None:
    line = (
        "--epoch 30 --avg 8 --use-averaged-model 1 --exp-dir ./zipformer/exp-causal --full-libri 1 "
        "--causal 1 --chunk-size 16 --left-context-frames 128 --num-decode-streams 2000 "
        "--decoding-method modified_beam_search --beam-size 7"
    )
    run = read(STREAMING_DECODE, line.split())
    assert run[StreamingConfig].num_decode_streams == 2000
    assert run[DecodingConfig].beam_size == 7
    with pytest.raises(UserError, match="--label a/b"):
        read(STREAMING_DECODE, ["--label", "a/b"])
    for words in (["--num_active_paths=7"], ["--num_active_paths", "7"]):
        assert read(STREAMING_DECODE, words)[DecodingConfig].beam_size == 7


def test_live_text_is_that_of_the_streams(
    causal: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(causal)
    flags = ["--recipe", "./tones", *MODEL, "--chunk-size", "8", "--left-context-frames", "32"]
    # Without it two tokens are a near tie (1e-4 nats), which rounding decides.
    flags += ["--blank-penalty", "0.2"]
    assert decode.streaming(flags) == 0
    recogs = words(
        causal / "exp" / "streaming" / "greedy_search", "recogs-test_*blank-penalty-0.2*"
    )
    expected = [
        " ".join(ast.literal_eval(line.split("hyp=")[1]))
        for line in recogs.splitlines()
        if "\thyp=" in line
    ]
    audio = sorted((causal / "source" / "test").glob("*.flac"))
    capsys.readouterr()
    assert transcribe.main([*flags, "--streaming", "1", *map(str, audio)]) == 0
    assert capsys.readouterr().out.splitlines() == expected
    # The same through a pipe, in pieces that end in the middle of a sample.
    samples = soundfile.read(audio[0], dtype="int16")[0]
    pieces = [samples.tobytes()[start : start + 777] for start in range(0, 2 * len(samples), 777)]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=Pipe(pieces)))
    assert transcribe.main([*flags, "-"]) == 0
    told = capsys.readouterr()
    # One utterance that no rule has ended: a line with the times of its first and last word.
    (line,) = told.out.splitlines()
    start, end, text = re.fullmatch(r" *([\d.]+) to +([\d.]+) s  (.*)", line).groups()
    assert text == expected[0]
    assert 0 <= float(start) < float(end) <= len(samples) / tones.RATE + 0.01
    # Nothing is written over where there is no terminal; what grows is another stream's.
    assert "\r" not in told.err
    partial = told.err.splitlines()[:-1]
    assert partial
    assert all(expected[0].startswith(one) for one in partial)
    for more in (["--enable-endpoint", "0"], ["--format", "ctm"]):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=Pipe(pieces)))
        assert transcribe.main([*flags, *more, "-"]) == 0
        told = capsys.readouterr()
        assert (line in told.err) == ("--format" in more)
        if "--format" in more:
            assert [row.split()[4] for row in told.out.splitlines()] == expected[0].split()
        else:
            assert told.out.splitlines() == expected[:1]
    # Cut after each half second: every word once, in the same order.
    cut = ["--enable-endpoint", "1", "--rule3-min-utterance-length", "0.5"]
    assert transcribe.main([*flags, *cut, "--streaming", "1", str(audio[0])]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 1
    assert "".join(one.partition(" s  ")[2] for one in lines).replace(" ", "") == expected[
        0
    ].replace(" ", "")
    assert transcribe.main([*flags, "--rule1-min-trailing-silence", "0", "-"]) == 2
    assert "--rule1-min-trailing-silence must be above 0" in capsys.readouterr().err


class Screen(io.StringIO):
    """A terminal of 24 columns."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_what_fits_and_keeps_what_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(live, "terminal_width", lambda: 24)
    word = Word("ON", 0.5, 1.25)
    stream = SimpleNamespace(text="TURN ON", segments=())
    text = LiveText(screen.write)
    text.update(cast("SpeechStream", stream))
    text.update(cast("SpeechStream", stream))
    assert screen.getvalue() == "\r\x1b[KTURN ON"
    stream.text = "A SENTENCE LONGER THAN THE SCREEN"
    text.update(cast("SpeechStream", stream))
    assert screen.getvalue().rpartition("\x1b[K")[2] == "...ONGER THAN THE SCREEN"
    screen.truncate(0)
    screen.seek(0)
    # Utterances that have ended take the place of what was shown; those without words do not.
    stream.text, stream.segments = "", (Segment((word,), 2.0), Segment((), 5.0))
    text.update(cast("SpeechStream", stream))
    text.end(cast("SpeechStream", stream))
    assert screen.getvalue() == "\r\x1b[K      0.50 to     1.25 s  ON\n"


def test_ctrl_c_ends_the_sound_while_it_is_recognised_too() -> None:
    before = signal.getsignal(signal.SIGINT)
    pieces = pcm_pieces(cast("BinaryIO", Pipe([b"\0\0" * 3] * 9)))
    assert len(next(pieces)) == 3
    signal.raise_signal(signal.SIGINT)  # the first piece is worked on
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert list(pieces) == []
    assert signal.getsignal(signal.SIGINT) is before


def test_a_sound_file_is_no_raw_sound() -> None:
    with pytest.raises(DataError, match="a sound file, not raw sound"):
        next(pcm_pieces(cast("BinaryIO", Pipe([b"RIFF\0\0"]))))


class Pipe:
    """Gives what it has, less than was asked for, and Ctrl-C at the end."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = iter(pieces)

    def read(self, _size: int) -> bytes:
        try:
            return next(self._pieces)
        except StopIteration:
            raise KeyboardInterrupt from None


def test_speech_that_comes_cannot_be_seen_as_a_whole(
    causal: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(causal)
    flags = ["--recipe", "./tones", *MODEL, "--chunk-size", "8", "--left-context-frames", "-1"]
    assert transcribe.main([*flags, "-"]) == 2
    assert "error: streaming needs one positive --chunk-size" in capsys.readouterr().err


def test_a_model_for_whole_utterances_cannot_stream(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trained)
    assert transcribe.main(["--recipe", "./tones", "--epoch", "2", "--avg", "1", "-"]) == 2
    assert "the model is not causal" in capsys.readouterr().err
