"""Noisy copies of the test set of the embedded corpus, and noise to train with.

    python -m benchmarks.noisy_sets data/espeak

reads the manifests of the corpus in ``fbank`` and writes, beside them, the cuts of four splits
without features: ``test-noise`` (babble, brown noise, hum, 0 to 15 dB below the speech),
``test-room``, ``test-telephone`` and ``test-all`` (noise, then room, then telephone). The recipe
``data/espeak/noisy`` has them as test sets:

    ./decode.py --recipe ./data/espeak/noisy --exp-dir exp/espeak --on-the-fly-feats 1

It also writes the folder ``noise``, for ``./prepare.sh --noise-dir``. Its babble is of training
voices, that of the test sets is of dev voices; its other noise has another spectrum.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile
from lhotse import CutSet, Recording, SupervisionSegment
from numpy.random import Generator

from zipasr.base.constants import SAMPLING_RATE as RATE
from zipasr.base.recipe import load_recipe
from zipasr.data.config import cuts_path
from zipasr.data.sound_effects import in_room, over_telephone

CORPUS = "espeak"
SECONDS = 60
SNR = (0.0, 15.0)

Noise = Callable[[Generator, int], np.ndarray]


def coloured(exponent: float) -> Noise:
    """Return noise whose power falls with the frequency to this exponent."""

    def make(draws: Generator, length: int) -> np.ndarray:
        spectrum = np.fft.rfft(draws.standard_normal(length))
        frequencies = np.maximum(np.fft.rfftfreq(length, 1 / RATE), 20.0)
        return np.fft.irfft(spectrum * frequencies ** (-exponent / 2), n=length)

    return make


def hum(lowest: float) -> Noise:
    """Return the hum of a machine: harmonics of a tone that wavers, and a hiss."""

    def make(draws: Generator, length: int) -> np.ndarray:
        wavering = 1 + 0.01 * np.sin(2 * np.pi * 0.7 * np.arange(length) / RATE)
        phase = 2 * np.pi * np.cumsum(lowest * wavering) / RATE
        tones = sum(np.sin(n * phase + draws.uniform(0, 6)) / n for n in range(1, 20))
        return np.asarray(tones + 0.2 * draws.standard_normal(length))

    return make


def babble(cuts: Sequence[np.ndarray]) -> Noise:
    """Return six voices that speak at once, of these utterances."""

    def make(draws: Generator, length: int) -> np.ndarray:
        mixed = np.zeros(length)
        for _ in range(6):
            voice = np.concatenate([cuts[n] for n in draws.permutation(len(cuts))[:60]])
            start = draws.integers(len(voice) - length) if len(voice) > length else 0
            part = voice[start : start + length]
            mixed[: len(part)] += part
        return mixed

    return make


def scaled(samples: np.ndarray, power: float) -> np.ndarray:
    """Return the samples with this mean power."""
    return samples * np.sqrt(power / (np.mean(samples**2) + 1e-12))


def sounds(folder: Path, split: str, most: int) -> list[np.ndarray]:
    """Return the sound of some utterances."""
    cuts = [
        cut for cut in CutSet.from_file(cuts_path(folder, CORPUS, split)) if "_sp" not in cut.id
    ]
    return [cut.load_audio()[0] for cut in cuts[:most]]


def write_noise(data: Path) -> None:
    """Write a minute of each kind of noise to train with."""
    draws, folder = np.random.default_rng(1), data / "noise"
    folder.mkdir(parents=True, exist_ok=True)
    voices = babble(sounds(data / "fbank", "train", 600))
    kinds: dict[str, Noise] = {
        "white": coloured(0.0),
        "pink": coloured(1.0),
        "steep": coloured(2.5),
        "hum-60": hum(60.0),
        "hum-160": hum(160.0),
        **{f"babble-{n}": voices for n in range(4)},
    }
    for name, make in kinds.items():
        noise = scaled(make(draws, SECONDS * RATE), 0.01)
        soundfile.write(folder / f"{name}.flac", np.clip(noise, -1, 1), RATE)


def write_test_sets(data: Path) -> None:
    """Write the four noisy splits, as sound and cuts."""
    draws = np.random.default_rng(2)
    kinds = (coloured(2.0), hum(110.0), babble(sounds(data / "fbank", "dev", 100)))

    def noisy(samples: np.ndarray) -> np.ndarray:
        noise = kinds[draws.integers(len(kinds))](draws, samples.shape[1])
        power = np.mean(samples**2) * 10 ** (-draws.uniform(*SNR) / 10)
        return (samples + scaled(noise, power)[None]).astype(np.float32)

    def room(samples: np.ndarray) -> np.ndarray:
        return in_room(samples, draws)

    def telephone(samples: np.ndarray) -> np.ndarray:
        return over_telephone(samples, draws)

    effects = {
        "noise": [noisy],
        "room": [room],
        "telephone": [telephone],
        "all": [noisy, room, telephone],
    }
    cuts = list(CutSet.from_file(cuts_path(data / "fbank", CORPUS, "test")))
    for name, steps in effects.items():
        made = []
        for cut in cuts:
            samples = cut.load_audio()
            for step in steps:
                samples = step(samples)
            path = data / "noisy" / f"test-{name}" / f"{cut.id}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.clip(samples[0], -1, 1), RATE)
            recording = Recording.from_file(path, recording_id=f"{cut.id}-{name}")
            (said,) = cut.supervisions
            text = SupervisionSegment(
                recording.id, recording.id, 0.0, recording.duration, text=said.text
            )
            whole = recording.to_cut()
            whole.supervisions = [text]
            made.append(whole)
        CutSet.from_cuts(made).to_file(cuts_path(data / "fbank", CORPUS, f"test-{name}"))


def write_recipe(data: Path) -> None:
    """Write the embedded recipe with all test sets."""
    text = (load_recipe(CORPUS).folder / "recipe.toml").read_text(encoding="utf-8")
    names = ["test", *(f"test-{name}" for name in ("noise", "room", "telephone", "all"))]
    text = text.replace('test = ["test"]', f"test = {json.dumps(names)}")
    (data / "noisy" / "recipe.toml").write_text(text, encoding="utf-8")


def main() -> None:
    """Write noise, test sets and their recipe below the folder of the corpus."""
    data = Path(sys.argv[1])
    write_noise(data)
    write_test_sets(data)
    write_recipe(data)


if __name__ == "__main__":
    main()
