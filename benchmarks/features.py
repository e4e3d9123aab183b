"""Log-mel features against kaldi-native-fbank and torchaudio, in times real time on one core.

Run from the repository root, on an idle machine:

    python -m benchmarks.features
    python -m benchmarks.features --seconds 15 --utterances 20 --repeats 9

The systems compute 80 bins of the same utterances on one thread and take turns, so that all meet
the same disturbances; the best repeat counts. kaldi-native-fbank takes its samples as a list and
gives its frames one by one: its first row is the time from an array of samples to an array of
frames, as a training needs it; "its own part" leaves both conversions out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import kaldi_native_fbank as knf
import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray

from zipasr.data.feature_store import fbank_extractor

RATE = 16000
Samples = NDArray[np.float32]
Clock = Callable[[Samples], float]


def main() -> None:
    """Print one row for each system."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=15.0, help="of an utterance")
    parser.add_argument("--utterances", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    size = (args.utterances, int(args.seconds * RATE))
    utterances = rng.normal(scale=0.1, size=size).astype(np.float32)
    systems: dict[str, Clock] = {
        "ours": ours(),
        "torchaudio": by_torchaudio,
        "kaldi-native-fbank": native,
        "kaldi-native-fbank, its own part": native_alone,
    }
    times: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(args.repeats):
        for name, clock in systems.items():
            times[name].append(sum(map(clock, utterances)))
    speech = args.seconds * args.utterances
    print(f"{args.utterances} utterances of {args.seconds:g} s, best of {args.repeats}\n")
    print("| system | times real time | speed over ours |\n|---|---|---|")
    best = {name: min(values) for name, values in times.items()}
    for name, value in best.items():
        print(f"| {name} | {speech / value:.0f} | {best['ours'] / value:.2f} |")


def ours() -> Clock:
    """Return a clock around the extractor of the recipes."""
    extractor = fbank_extractor()

    def clock(samples: Samples) -> float:
        begun = time.perf_counter()
        extractor.extract(samples[None], RATE)
        return time.perf_counter() - begun

    return clock


def by_torchaudio(samples: Samples) -> float:
    """Return the seconds that torchaudio takes."""
    begun = time.perf_counter()
    torchaudio.compliance.kaldi.fbank(
        torch.from_numpy(samples)[None],
        num_mel_bins=80,
        dither=0.0,
        snip_edges=False,
        high_freq=-400.0,
        sample_frequency=float(RATE),
    )
    return time.perf_counter() - begun


def native(samples: Samples) -> float:
    """Return the seconds from an array of samples to an array of frames."""
    begun = time.perf_counter()
    computer = knf.OnlineFbank(options())
    computer.accept_waveform(RATE, samples.tolist())
    computer.input_finished()
    np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)])
    return time.perf_counter() - begun


def native_alone(samples: Samples) -> float:
    """Return the seconds that pass while the library computes."""
    computer, numbers = knf.OnlineFbank(options()), samples.tolist()
    begun = time.perf_counter()
    computer.accept_waveform(RATE, numbers)
    computer.input_finished()
    return time.perf_counter() - begun


def options() -> knf.FbankOptions:
    """Return the settings of the recipes."""
    chosen = knf.FbankOptions()
    chosen.frame_opts.dither = 0.0
    chosen.frame_opts.snip_edges = False
    chosen.mel_opts.num_bins = 80
    chosen.mel_opts.high_freq = -400.0
    return chosen


if __name__ == "__main__":
    main()
