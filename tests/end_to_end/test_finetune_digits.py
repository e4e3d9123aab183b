"""From a synthetic voice to real ones: digits said by eSpeak, then by people, one held out."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from tests import tones
from tests.end_to_end import test_fsdd as fsdd
from tests.end_to_end.results import word_error_rate
from zipasr.corpora.espeak.espeak_corpus import synthesise
from zipasr.corpora.espeak.voice import Order

HELD_OUT = "theo"
REAL_EPOCHS = 10
SPOKEN = {"train": 800, "dev": 20, "test": 20}  # digit strings by eSpeak
REAL = {"train": 300, "dev": 30, "test": 100}
VOICES = [
    (accent, sex) for accent in ("en-us", "en-gb-x-rp") for sex in ("m1", "m4", "m6", "f1", "f2")
]
WORDS = ["ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE"]


def write_spoken(source: Path, split: str, count: int, seed: int) -> None:
    """Let eSpeak say two to five digits, in voices of all kinds."""
    rng = np.random.default_rng(seed)
    spoken, orders = {}, []
    for index in range(count):
        path = source / split / f"{split}-{index:04d}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        spoken[path] = " ".join(str(word) for word in rng.choice(WORDS, size=rng.integers(2, 6)))
        accent, variant = VOICES[index % len(VOICES)]
        orders.append(
            Order(
                id=path.stem,
                path=str(path),
                text=spoken[path],
                accent=accent,
                variant=variant,
                rate=int(rng.integers(110, 200)),
                pitch=int(rng.integers(20, 80)),
                size=float(rng.uniform(0.85, 1.15)),
                noise="white",
                snr_db=float(rng.uniform(15, 40)),
                level_dbfs=float(rng.uniform(-30, -15)),
                seed=index,
                sample_rate=fsdd.RATE,
            )
        )
    synthesise(orders, tones.processes())
    tones.write_manifests(source, split, spoken)


def prepare(folder: Path, epochs: int) -> tuple[str, ...]:
    """Prepare a corpus whose sound and manifests are there; return the flags that name it."""
    fsdd.write_recipe(folder / "fsdd")
    file = folder / "fsdd" / "recipe.toml"
    file.write_text(file.read_text().replace("num-epochs = 9", f"num-epochs = {epochs}"))
    tones.prepare(folder, folder / "fsdd")
    return ("--recipe", str(folder / "fsdd"), "--world-size", str(tones.processes()))


@pytest.mark.slow
@pytest.mark.skipif(
    "LONG_TESTS" not in os.environ, reason="takes five minutes: run it with LONG_TESTS=1"
)
@pytest.mark.skipif(not fsdd.FSDD.is_dir(), reason="the spoken digits are not beside this clone")
@pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None or not hasattr(os, "fork"),
    reason="espeakng-loader is not installed",
)
def test_a_model_of_synthetic_voices_learns_real_ones(tmp_path: Path) -> None:
    synthetic, real = tmp_path / "synthetic", tmp_path / "real"
    for seed, (split, count) in enumerate(SPOKEN.items()):
        write_spoken(synthetic / "source", split, count, seed)
    flags = prepare(synthetic, epochs=8)
    tones.check(tones.run(synthetic, "train.py", *flags, "--exp-dir", "exp", timeout=1800))
    for seed, (split, count) in enumerate(REAL.items()):
        fsdd.write_strings(real / "source", split, count, seed, HELD_OUT)
    flags = prepare(real, epochs=REAL_EPOCHS)
    file = str(synthetic / "exp" / "epoch-8.pt")
    before = ("--exp-dir", str(real / "before"), "--checkpoint", file)
    tones.check(tones.run(real, "decode.py", *flags[:2], *before))
    fine = ("--do-finetune", "1", "--finetune-ckpt", file, "--exp-dir", "fine")
    fine += ("--num-epochs", str(REAL_EPOCHS))
    tones.check(tones.run(real, "train.py", *flags, *fine, timeout=1800))
    after = ("--exp-dir", "fine", "--checkpoint", f"fine/epoch-{REAL_EPOCHS}.pt")
    tones.check(tones.run(real, "decode.py", *flags[:2], *after))
    rates = [
        word_error_rate(folder, "greedy_search", "test")
        for folder in (real / "before", real / "fine")
    ]
    assert rates[1] < 0.7 * rates[0]
