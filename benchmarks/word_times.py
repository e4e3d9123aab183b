"""Starts and ends of words of a model against the event times of the synthesiser.

Run from the repository root, after egs/espeak/run.sh:

    OMP_NUM_THREADS=1 python -m benchmarks.espeak_events > events.jsonl
    OMP_NUM_THREADS=1 python -m benchmarks.word_times --events events.jsonl --splits dev
    OMP_NUM_THREADS=1 python -m benchmarks.word_times --events events.jsonl --splits test

For words as they are recognised and words of the transcript as they are aligned, by either head:
the median of what starts and ends are off, without sign, the share of words that are off by more
than 100 ms, and whether words overlap or are short. Of recognised words, those are measured that
are right, and of all words those whose border the synthesiser tells.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

import zipasr
from benchmarks.espeak_events import WordEvents
from zipasr.scoring.word_errors import GAP, align

LARGE = 0.1
SHORT = 0.06

Words = Sequence[zipasr.Word]


class Differences(NamedTuple):
    """Seconds by which starts and ends are off; the lengths of words; pairs that overlap."""

    starts: list[float]
    ends: list[float]
    lengths: list[float]
    overlaps: int


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--events", type=Path, required=True, help="from benchmarks.espeak_events")
    parser.add_argument("--exp-dir", default="exp/espeak")
    parser.add_argument("--audio-dir", type=Path, default=Path("data/espeak/audio"))
    parser.add_argument("--splits", default="test", help="comma list of splits")
    parser.add_argument("--decoding-method", default="greedy_search")
    args = parser.parse_args(argv)
    lines = args.events.read_text(encoding="utf-8").splitlines()
    told = [one for one in map(_read, lines) if one.split in args.splits.split(",")]
    print(f"{len(told)} utterances of {args.splits}, milliseconds; off: by more than 100 ms")
    print(f"{'words':<28} {'starts':>17} {'ends':>17} {'shortest':>9} {'overlaps':>9}")
    print(f"{'':<28} {'median   off  n':>17} {'median   off  n':>17}")
    for times in ("transducer", "ctc"):
        model = zipasr.load_model(
            args.exp_dir, decoding_method=args.decoding_method, word_times=times
        )

        def aligned(path: Path, text: str, model: zipasr.Model = model) -> Words:
            return model.align(path, text)

        def recognised(path: Path, _: str, model: zipasr.Model = model) -> Words:
            return model.transcribe(path).words

        for name, words_of in (("recognised", recognised), ("aligned", aligned)):
            print(_row(f"{name}, {times}", measure(told, args.audio_dir, words_of)))


def _read(line: str) -> WordEvents:
    return WordEvents(**json.loads(line))


def measure(
    told: Sequence[WordEvents], audio_dir: Path, words_of: Callable[[Path, str], Words]
) -> Differences:
    """Compare the words of all utterances with what the synthesiser tells."""
    starts, ends, lengths, overlaps = [], [], [], 0
    for one in told:
        found = words_of(audio_dir / one.split / f"{one.id}.flac", " ".join(one.words))
        lengths += [word.end - word.start for word in found]
        overlaps += sum(left.end > right.start for left, right in pairwise(found))
        heard, said = iter(found), iter(zip(one.starts, one.ends, strict=True))
        for pair in align(one.words, [word.text for word in found]):
            word = None if pair.hyp == GAP else next(heard)
            start, end = (None, None) if pair.ref == GAP else next(said)
            if word is None or not pair.is_correct:
                continue
            starts += [] if start is None else [word.start - start]
            ends += [] if end is None else [word.end - end]
    return Differences(starts, ends, lengths, overlaps)


def _row(name: str, found: Differences) -> str:
    cells = [
        f"{1000 * np.median(off):7.1f} {100 * np.mean(off > LARGE):4.1f}% {len(off):4d}"
        for off in (np.abs(found.starts), np.abs(found.ends))
    ]
    shortest = 1000 * min(found.lengths)
    return f"{name:<28} {cells[0]:>17} {cells[1]:>17} {shortest:9.1f} {found.overlaps:9d}"


if __name__ == "__main__":
    main()
