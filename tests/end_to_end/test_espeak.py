"""The embedded recipe, shortened: from a grammar to a word error rate, and to another program."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lhotse import CutSet

from tests import tones
from tests.end_to_end.results import word_error_rate
from zipasr.base.recipe import load_recipe
from zipasr.cli import decode, export
from zipasr.data.fbank import cuts_path
from zipasr.data.loaders import load_cuts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("espeakng_loader") is None,
        reason="espeakng-loader is not installed",
    ),
]

# Two thirds of the steps of the recipe, without its masks: a rough model, in minutes.
SHORT = {
    "--num-epochs": "4",
    "--lr-batches": "355",
    "--lr-epochs": "1.3",
    "--ctc-only-batches": "450",
    "--warm-step": "150",
    "--enable-spec-aug": "0",
    # The batches of the recipe's two processes in one: another file is tested on the other core.
    "--accumulate": "2",
}
METHODS = ("greedy_search", "modified_beam_search")
NUM_HEARD = 40


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short training, from the grammar on."""
    prepared = subprocess.run(
        [tones.ROOT / "prepare.sh", "--recipe", "espeak"],
        env=tones.environment() | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    tones.check(prepared)
    folder = tmp_path_factory.mktemp("espeak")
    flags = ("--recipe", "espeak", "--exp-dir", str(folder))
    short = [word for pair in SHORT.items() for word in pair]
    tones.check(tones.run(tones.ROOT, "train.py", *flags, *short, timeout=1800))
    return folder


@pytest.fixture
def trained_short(short_run: Path, monkeypatch: pytest.MonkeyPatch, put_back: None) -> Path:
    """The same, in the folder that the paths of the recipe count from."""
    monkeypatch.chdir(tones.ROOT)
    return short_run


def flags_of(folder: Path, *words: str) -> list[str]:
    model = ("--recipe", "espeak", "--exp-dir", str(folder), "--epoch", "4", "--avg", "1")
    return [*model, *words]


def test_speech_made_here_is_learnt_and_labels_do_not_wait(trained_short: Path) -> None:
    dev = ("--test-sets", "dev")
    for symbols in ("1", "3"):
        assert decode.main(flags_of(trained_short, *dev, "--max-sym-per-frame", symbols)) == 0
    beam = ("--decoding-method", "modified_beam_search")
    assert decode.main(flags_of(trained_short, *dev, *beam)) == 0
    one, three = (
        word_error_rate(trained_short, "greedy_search", "dev", f"max-sym-per-frame-{n}")
        for n in (1, 3)
    )
    bound = load_recipe("espeak").expected["dev.short_run.wer"]
    assert one < bound
    assert word_error_rate(trained_short, "modified_beam_search", "dev") < bound
    # A transducer that puts its labels off to the end needs many symbols at one frame there.
    assert abs(one - three) < 1.0


def test_the_client_hears_what_decode_writes(trained_short: Path, tmp_path: Path) -> None:
    sherpa_onnx: Any = pytest.importorskip("sherpa_onnx", reason="sherpa-onnx is not installed")
    pytest.importorskip("onnx", reason="export-requirements.txt is not installed")
    cuts = load_cuts(Path("data/espeak/fbank"), "espeak", ["dev"]).subset(first=NUM_HEARD)
    assert {cut.num_frames % 2 for cut in cuts} == {0, 1}
    cuts.to_file(cuts_path(tmp_path, "espeak", "test"))
    few = ("--manifest-dir", str(tmp_path))
    small = ("--enable-int8-quantization", "0", "--output-dir", str(tmp_path / "out"))
    assert export.main(flags_of(trained_short, *few, *small)) == 0
    parts = {
        part: str(tmp_path / "out" / f"{part}-epoch-4-avg-1.onnx")
        for part in ("encoder", "decoder", "joiner")
    }
    tokens = str(tmp_path / "out" / "tokens.txt")
    for method in METHODS:
        client = sherpa_onnx.OfflineRecognizer.from_transducer(
            **parts, tokens=tokens, num_threads=1, decoding_method=method
        )
        # The client hears each by itself: no other utterance's length decides on the padding. Its
        # features are those of the sound: stored ones are rounded, which moves what is nearly even.
        alone = (*few, "--max-duration", "0.1", "--on-the-fly-feats", "1")
        alone += ("--decoding-method", method)
        assert decode.main(flags_of(trained_short, *alone)) == 0
        assert heard_by(client, cuts) == written(trained_short / method)


def heard_by(client: Any, cuts: CutSet) -> dict[str, list[str]]:
    """The words of each utterance in the ears of sherpa-onnx, from the sound."""
    heard = {}
    for cut in cuts:
        stream = client.create_stream()
        stream.accept_waveform(cut.sampling_rate, cut.load_audio()[0].astype(np.float32))
        client.decode_stream(stream)
        heard[cut.id] = stream.result.text.split()
    assert all(heard.values())
    return heard


def written(folder: Path) -> dict[str, list[str]]:
    """The words of each utterance in the result file of the test set."""
    (path,) = folder.glob("recogs-test-*.txt")
    lines = (line.split(":\thyp=") for line in path.read_text().splitlines() if ":\thyp=" in line)
    return {name: ast.literal_eval(words) for name, words in lines}
