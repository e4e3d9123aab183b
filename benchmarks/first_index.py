"""A manifest as stage 2 writes it, and the time to the first batch from it; see ``sampling``."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from lhotse import CutSet

from zipasr.data.config import cuts_path
from zipasr.data.filters import TrainFilter
from zipasr.data.index import load_train_cuts
from zipasr.encoder.protocol import Geometry
from zipasr.text.bpe import train_bpe
from zipasr.text.config import BpeConfig
from zipasr.text.tokenizer import Tokenizer

WORDS_A_SECOND = 2.8  # of LibriSpeech
SPEEDS = (0.9, 1.0, 1.1)
_VOCABULARY, _SYLLABLES = 20_000, 400
_TEXTS_FOR_TOKENS = 5_000
_NUM_TOKENS = 500


def _texts(seconds: np.ndarray) -> Iterator[str]:
    """Yield transcripts of words that are drawn, frequent ones often, as long as speech takes."""
    rng = np.random.default_rng(1)
    letters = np.array(list("ETAOINSHRDLUCMWFGYPBVK"))
    syllables = ["".join(rng.choice(letters, rng.integers(2, 4))) for _ in range(_SYLLABLES)]
    counts = np.minimum(rng.geometric(0.6, _VOCABULARY), 4)
    words = np.array(["".join(rng.choice(syllables, count)) for count in counts], object)
    chances = np.cumsum(1 / (np.arange(_VOCABULARY) + 3.0))
    for length in seconds:
        drawn = rng.random(max(1, round(length * WORDS_A_SECOND))) * chances[-1]
        yield " ".join(words[np.searchsorted(chances, drawn)])


def _row(number: int, seconds: float, text: str) -> dict[str, Any]:
    speed = SPEEDS[number % len(SPEEDS)]
    name = f"{number // 60_000}-{number // 600}-{number:06d}"
    copy = name if speed == 1.0 else f"{name}_sp{speed}"
    samples = round(seconds * 16000)
    source = f"download/LibriSpeech/train-clean-360/{name.replace('-', '/', 2)}.flac"
    recording = {
        "id": copy,
        "sources": [{"type": "file", "channels": [0], "source": source}],
        "sampling_rate": 16000,
        "num_samples": samples,
        "duration": samples / 16000,
        "channel_ids": [0],
    }
    if copy != name:
        recording["transforms"] = [{"name": "Speed", "kwargs": {"factor": speed}}]
    duration = samples / 16000
    return {
        "id": f"{name}-0{copy.removeprefix(name)}",
        "start": 0,
        "duration": duration,
        "channel": 0,
        "supervisions": [
            {
                "id": copy,
                "recording_id": copy,
                "start": 0.0,
                "duration": duration,
                "channel": 0,
                "text": text,
                "language": "English",
                "speaker": name.partition("-")[0],
            }
        ],
        "features": {
            "type": "kaldi-fbank",
            "num_frames": round(100 * duration),
            "num_features": 80,
            "frame_shift": 0.01,
            "sampling_rate": 16000,
            "start": 0,
            "duration": duration,
            "storage_type": "lilcom_chunky",
            "storage_path": f"data/fbank/librispeech_feats_train/feats-{number % 80:05d}.lca",
            "storage_key": f"{number * 70_000},43211,40127,20411",
            "channels": 0,
        },
        "recording": recording,
        "type": "MonoCut",
    }


def write_manifest(folder: Path, seconds: np.ndarray) -> Tokenizer:
    """Write the manifest of cuts of these durations; return a tokenizer of their transcripts."""
    texts = list(islice(_texts(seconds), _TEXTS_FOR_TOKENS))
    config = BpeConfig(lang_dir=folder / "lang", vocab_size=_NUM_TOKENS, unit="bpe")
    tokenizer = train_bpe(texts, config)
    # Any level is read equally fast.
    with gzip.open(cuts_path(folder, "synthetic", "train"), "wt", 1, encoding="utf-8") as file:
        for number, (length, text) in enumerate(zip(seconds, _texts(seconds), strict=True)):
            file.write(json.dumps(_row(number, float(length), text)) + "\n")
    return tokenizer


def time_of_starts(
    seconds: np.ndarray, time_of_first_batch: Callable[[CutSet], float], folder: Path | None
) -> None:
    """Write a manifest, time the first starts of zipasr and lhotse from it, and print.

    Args:
        seconds: durations of its cuts.
        time_of_first_batch: seconds of lhotse's sampler.
        folder: in which a folder is made for the manifest; None is the system's for such files.
    """
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        wanted = TrainFilter(
            encode=write_manifest(place, seconds).encode,
            output_lens=Geometry().output_lens,
            use_ctc=True,
        )
        manifest = cuts_path(place, "synthetic", "train")
        size, spent, taken = manifest.stat().st_size, [], []
        for _ in range(2):
            begun, used = time.perf_counter(), sum(os.times()[:4])
            cuts, _ = load_train_cuts(place, "synthetic", ["train"], wanted, tokenizer="bpe")
            spent.append(time.perf_counter() - begun)
            taken.append(sum(os.times()[:4]) - used)
        used = sum(os.times()[:4])
        theirs = time_of_first_batch(CutSet.from_jsonl_lazy(manifest))
        their_cpu = sum(os.times()[:4]) - used
    print(
        f"\nmanifest of {len(seconds)} cuts, {size / 1e6:.0f} MB, {len(cuts)} kept; "
        f"{len(os.sched_getaffinity(0))} cores\n{'':34} {'seconds':>10} {'processor':>10} "
        f"{'lhotse / ours':>14}"
    )
    rows = [("the first index", spent[0], taken[0]), ("a later start", spent[1], taken[1])]
    for what, wall, cpu in (*rows, ("lhotse, to the first batch", theirs, their_cpu)):
        print(f"{what:34} {wall:10.3g} {cpu:10.3g} {theirs / wall:14.3g}")
