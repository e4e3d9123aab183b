"""Noise with texts, stored as features, for what measures the loading of batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet

from zipasr.base.constants import SAMPLING_RATE
from zipasr.data.config import FbankConfig
from zipasr.data.cuts import TrainCuts
from zipasr.data.epoch_plan import CutLengths
from zipasr.data.fbank import compute_and_store
from zipasr.data.loaders import load_cuts


def make_corpus(folder: Path, count: int, seconds: float) -> TrainCuts:
    """Write ``count`` utterances of ``seconds`` each to a folder, with their features."""
    draws = np.random.default_rng(0)
    recordings = []
    for number in range(count):
        path = folder / f"noise-{number:04}.wav"
        soundfile.write(path, draws.normal(0, 0.1, int(seconds * SAMPLING_RATE)), SAMPLING_RATE)
        recordings.append(Recording.from_file(path))
    texts = [
        SupervisionSegment(one.id, one.id, 0.0, one.duration, text="NOISE") for one in recordings
    ]
    RecordingSet.from_recordings(recordings).to_file(folder / "noise_recordings_train.jsonl.gz")
    SupervisionSet.from_segments(texts).to_file(folder / "noise_supervisions_train.jsonl.gz")
    compute_and_store("noise", "train", folder, folder, FbankConfig(num_jobs=1))
    lengths = CutLengths(np.full(count, seconds), np.full(count, 1))
    return TrainCuts(load_cuts(folder, "noise", ["train"]), lengths, names="noise")
