"""A corpus of beeps, for tests of whole commands: each word is a tone.

``make_recipe`` writes audio, manifests and a recipe; the commands then run on it as on any corpus.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet

ROOT = Path(__file__).resolve().parents[1]
RATE = 16000
TONES = {"LOW": 300.0, "MID": 700.0, "HIGH": 1500.0, "TOP": 3000.0}

FLAGS = """
vocab-size = 20
num-encoder-layers = "1,1"
downsampling-factor = "1,2"
encoder-dim = "32,40"
encoder-unmasked-dim = "24,32"
feedforward-dim = "48,64"
num-heads = "2"
query-head-dim = "8"
value-head-dim = "8"
pos-head-dim = "4"
pos-dim = 16
cnn-module-kernel = "7"
embed-channels = "4,8,16"
decoder-dim = 32
joiner-dim = 32
use-ctc = 1
rnnt-type = "constrained"
ctc-loss-scale = 1.0
ctc-only-batches = 6
warm-step = 10
dropout = 0.05
num-epochs = 2
max-duration = 10
lr-batches = 100
warmup-batches = 5
ref-duration = 0.4
min-cut-duration = 0.3
num-workers = 1
enable-musan = 0
average-period = 2
save-every-n = 4
keep-last-k = 2
log-interval = 5
epoch = 2
avg = 1
tensorboard = 0
curves = 0
"""


def make_recipe(folder: Path, *, train: int = 60, evaluation: int = 8, flags: str = "") -> Path:
    """Write a recipe called ``tones`` into ``folder`` and return the recipe's folder.

    Args:
        folder: becomes the working directory of the commands.
        train: number of training utterances.
        evaluation: number of utterances in each of dev and test.
        flags: more lines for the table of flags.
    """
    source, recipe = folder / "source", folder / "tones"
    for seed, (split, count) in enumerate(
        {"train": train, "dev": evaluation, "test": evaluation}.items()
    ):
        write_split(source, split, count, np.random.default_rng(seed))
    recipe.mkdir()
    lines = FLAGS.strip().splitlines() + flags.strip().splitlines()
    given = {line.split(" = ")[0]: line for line in lines if line}
    (recipe / "recipe.toml").write_text(
        f"""
corpus = "manifests"
[corpus-options]
from = "{source}"
[splits]
train = ["train"]
valid = ["dev"]
test = ["test"]
[flags]
manifest-dir = "data/tones/fbank"
lang-dir = "data/tones/lang_bpe"
bpe-model = "data/tones/lang_bpe/bpe.model"
exp-dir = "exp"
"""
        + "\n".join(given.values())
    )
    return recipe


def write_split(source: Path, split: str, count: int, rng: np.random.Generator) -> None:
    spoken = {}
    for index in range(count):
        words = [str(word) for word in rng.choice(list(TONES), size=rng.integers(2, 5))]
        path = source / split / f"{split}-{index:03d}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, audio_of(words, rng), RATE)
        spoken[path] = " ".join(words)
    write_manifests(source, split, spoken)


def write_manifests(source: Path, split: str, spoken: dict[Path, str]) -> None:
    """Write the two manifests of a split: audio files, named as their utterances, and texts."""
    recordings = [Recording.from_file(path, recording_id=path.stem) for path in spoken]
    supervisions = [
        SupervisionSegment(recording.id, recording.id, 0.0, recording.duration, text=text)
        for recording, text in zip(recordings, spoken.values(), strict=True)
    ]
    RecordingSet.from_recordings(recordings).to_file(source / f"{split}_recordings.jsonl.gz")
    SupervisionSet.from_segments(supervisions).to_file(source / f"{split}_supervisions.jsonl.gz")


def audio_of(words: list[str], rng: np.random.Generator) -> np.ndarray:
    parts = []
    for word in words:
        time = np.arange(int(RATE * rng.uniform(0.25, 0.35))) / RATE
        parts += [0.3 * np.sin(2 * np.pi * TONES[word] * time), np.zeros(RATE // 20)]
    speech = np.concatenate(parts)
    return (speech + 0.005 * rng.standard_normal(len(speech))).astype(np.float32)


def environment() -> dict[str, str]:
    return {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"} | os.environ


def command(folder: Path, *words: str) -> list[str]:
    script, *flags = words
    return [sys.executable, str(ROOT / script), "--recipe", str(folder / "tones"), *flags]


def processes() -> int:
    """How many training processes the machine has cores for; two at most."""
    return min(2, os.cpu_count() or 1)


def check(done: subprocess.CompletedProcess[str]) -> None:
    """Show what a command said when it failed."""
    assert done.returncode == 0, done.stderr


def run(folder: Path, *words: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
    """Run a script of the repository in ``folder``, at most ``timeout`` s: what it said."""
    return subprocess.run(
        command(folder, *words),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def prepare(folder: Path, recipe: Path) -> None:
    """Run the preparation stages, in this process, on a recipe."""
    from zipasr.cli import prepare as stages

    before = Path.cwd()
    os.chdir(folder)
    try:
        for stage in (
            stages.make_manifests,
            stages.compute_features,
            stages.train_tokenizer,
            stages.validate,
        ):
            assert stage(["--recipe", str(recipe)]) == 0
    finally:
        os.chdir(before)
