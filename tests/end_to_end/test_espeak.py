"""The embedded recipe, shortened: from a grammar to a word error rate, by the typed commands."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tones
from tests.end_to_end.results import word_error_rate
from zipasr.base.recipe import load_recipe

# Two thirds of the steps of the recipe, without its masks: a rough model, in minutes.
SHORT = {
    "--num-epochs": "4",
    "--lr-batches": "355",
    "--lr-epochs": "1.3",
    "--ctc-only-batches": "450",
    "--warm-step": "150",
    "--enable-spec-aug": "0",
}


def decode(folder: Path, *flags: str) -> None:
    tones.check(
        tones.run(
            tones.ROOT,
            "decode.py",
            *("--recipe", "espeak", "--exp-dir", str(folder), "--test-sets", "dev"),
            *("--epoch", "4", "--avg", "1", *flags),
        )
    )


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="espeakng-loader is not installed"
)
def test_speech_made_here_is_learnt_and_labels_do_not_wait(tmp_path: Path) -> None:
    prepared = subprocess.run(
        [tones.ROOT / "prepare.sh", "--recipe", "espeak"],
        env=tones.environment() | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    tones.check(prepared)
    world = ("--world-size", str(min(2, os.cpu_count() or 1)))
    flags = ("--recipe", "espeak", "--exp-dir", str(tmp_path), *world)
    short = [word for pair in SHORT.items() for word in pair]
    tones.check(tones.run(tones.ROOT, "train.py", *flags, *short))
    for symbols in ("1", "3"):
        decode(tmp_path, "--max-sym-per-frame", symbols)
    decode(tmp_path, "--decoding-method", "modified_beam_search")
    one, three = (
        word_error_rate(tmp_path, "greedy_search", "dev", f"max-sym-per-frame-{n}") for n in (1, 3)
    )
    bound = load_recipe("espeak").expected["dev.short_run.wer"]
    assert one < bound
    assert word_error_rate(tmp_path, "modified_beam_search", "dev") < bound
    # A transducer that puts its labels off to the end needs many symbols at one frame there.
    assert abs(one - three) < 1.0
