"""A corpus of half a minute, made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, Recording, RecordingSet, SupervisionSegment, SupervisionSet

from zipasr.data.config import FbankConfig
from zipasr.data.fbank import compute_and_store
from zipasr.data.loaders import load_cuts

WORDS = ["TURN", "THE", "LIGHT", "ON", "OFF", "AT", "NINE", "IN", "KITCHEN", "PLEASE"]
NUM_CUTS = 24
CONFIG = FbankConfig(num_jobs=1)


class TinyCorpus(NamedTuple):
    manifests: Path
    fbank: Path
    cuts: CutSet


def write_recording(folder: Path, name: str, seconds: float, seed: int = 0) -> Recording:
    """A decaying tone in noise, as 16 kHz FLAC."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * 16000)) / 16000
    tone = 0.3 * np.sin(2 * np.pi * rng.uniform(200, 3000) * time) * np.exp(-time)
    path = folder / f"{name}.flac"
    soundfile.write(path, tone + rng.normal(scale=0.01, size=time.size), 16000)
    return Recording.from_file(path, recording_id=name)


def supervision_of(recording: Recording, text: str) -> SupervisionSegment:
    return SupervisionSegment(
        recording.id, recording.id, start=0.0, duration=recording.duration, text=text
    )


def write_manifests(
    folder: Path, split: str, recordings: list[Recording], texts: list[str]
) -> None:
    supervisions = [supervision_of(*pair) for pair in zip(recordings, texts, strict=True)]
    RecordingSet.from_recordings(recordings).to_file(folder / f"tiny_recordings_{split}.jsonl.gz")
    SupervisionSet.from_segments(supervisions).to_file(
        folder / f"tiny_supervisions_{split}.jsonl.gz"
    )


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> TinyCorpus:
    root = tmp_path_factory.mktemp("tiny")
    audio, manifests, fbank = (root / name for name in ("audio", "manifests", "fbank"))
    audio.mkdir()
    manifests.mkdir()
    rng = np.random.default_rng(0)
    lengths = rng.uniform(1.0, 3.0, size=NUM_CUTS)
    recordings = [
        write_recording(audio, f"utt{i:02d}", float(seconds), seed=i)
        for i, seconds in enumerate(lengths)
    ]
    texts = [" ".join(rng.choice(WORDS, size=3)) for _ in recordings]
    write_manifests(manifests, "train", recordings, texts)
    compute_and_store("tiny", "train", manifests, fbank, CONFIG)
    return TinyCorpus(manifests, fbank, load_cuts(fbank, "tiny", ["train"]))
