"""Word times of the eSpeak NG synthesiser in the cuts of the embedded corpus, as lhotse alignments.

Run from the repository root, after egs/espeak/run.sh:

    python -m benchmarks.espeak_events --splits test > events.jsonl
    python -m benchmarks.word_alignments --events events.jsonl --splits test

``streaming_decode.py`` then tells how late words are shown after the end of their sound. Words that
the synthesiser says together with the word before share its time in equal parts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.supervision import AlignmentItem

from benchmarks.espeak_events import WordEvents
from zipasr.base.files import atomic_path
from zipasr.data.loaders import load_cuts


def main(argv: Sequence[str] | None = None) -> None:
    """Write the cuts of each split again, with alignments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--events", type=Path, required=True, help="from benchmarks.espeak_events")
    parser.add_argument("--manifest-dir", type=Path, default=Path("data/espeak/fbank"))
    parser.add_argument("--splits", default="test", help="comma list of splits")
    args = parser.parse_args(argv)
    lines = args.events.read_text(encoding="utf-8").splitlines()
    told = {one.id: one for one in (WordEvents(**json.loads(line)) for line in lines)}
    for split in args.splits.split(","):
        cuts = load_cuts(args.manifest_dir, "espeak", [split])
        aligned = CutSet.from_cuts(with_alignment(cut, told) for cut in cuts)
        path = args.manifest_dir / f"espeak_cuts_{split}.jsonl.gz"
        with atomic_path(path) as temporary:
            aligned.to_file(temporary)
        print(f"{path}: {len(aligned)} cuts")


def with_alignment(cut: Cut, told: dict[str, WordEvents]) -> Cut:
    """Return a cut of one supervision with the times of its words."""
    (supervision,) = cut.supervisions
    one = told[supervision.recording_id]
    items = [
        AlignmentItem(word, round(start, 3), round(end - start, 3))
        for word, (start, end) in zip(one.words, times_of(one), strict=True)
    ]
    cut.supervisions = [supervision.with_alignment("word", items)]
    return cut


def times_of(one: WordEvents) -> list[tuple[float, float]]:
    """Return start and end of each word; unknown borders part the time in equal parts."""
    starts = [n for n, start in enumerate(one.starts) if start is not None]
    times: list[tuple[float, float]] = []
    for first, behind in pairwise([*starts, len(one.words)]):
        begin, end = one.starts[first], one.ends[behind - 1]
        assert begin is not None
        assert end is not None
        borders = np.linspace(begin, end, behind - first + 1).tolist()
        times += pairwise(borders)
    return times


if __name__ == "__main__":
    main()
