"""Check of manifests and features before training: what is broken, what would be dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import lhotse
import numpy as np
from lhotse import CutSet
from lhotse.cut import Cut

from zipasr.data.config import NUM_MEL_BINS
from zipasr.data.fbank import damaged_archives, features_folders, quarantine_path
from zipasr.data.filters import DropReport, TrainFilter, reason_of_error, text_of
from zipasr.data.loaders import load_cuts
from zipasr.text.scripts import units_of

NOT_ONE_SUPERVISION = "not exactly one supervision"
SUPERVISION_SHIFTED = "supervision does not start with the cut"
SUPERVISION_TOO_LONG = "supervision ends after the cut"
SAME_ID_TWICE = "same id as another cut"
INVALID = "refused by lhotse"
UNREADABLE = "features cannot be read"
WRONG_FEATURES = "features of the wrong size or not finite"
DAMAGED_FEATURES = "features that are not as they were written"
_OF_FEATURES = {UNREADABLE, WRONG_FEATURES, DAMAGED_FEATURES}

_TOLERANCE_SECONDS = 2e-3
_MAX_EXAMPLES = 5


@dataclass(slots=True)
class SplitReport:
    """What was found in one split.

    Attributes:
        name: corpus and split.
        problems: faults by kind; any of them should be mended before training.
        examples: some of the faults of each kind.
        drops: what the training would keep and drop, and why.
        num_features_read: cuts of which the features were read.
        quarantined: cuts that were left out already because their audio is damaged.
        num_words: different words of the transcripts.
    """

    name: str
    problems: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    drops: DropReport = field(default_factory=DropReport)
    num_features_read: int = 0
    quarantined: int = 0
    num_words: int = 0

    @property
    def is_sound(self) -> bool:
        """There are no faults (drops are none)."""
        return not self.problems

    @property
    def lacks_features_alone(self) -> bool:
        """There are faults, and computing the features again mends all of them."""
        return bool(self.problems) and self.problems.keys() <= _OF_FEATURES

    def add_problem(self, kind: str, example: str) -> None:
        """Count a fault."""
        self.problems[kind] += 1
        examples = self.examples.setdefault(kind, [])
        if len(examples) < _MAX_EXAMPLES:
            examples.append(example)


def validate_split(
    manifest_dir: Path,
    corpus: str,
    split: str,
    wanted: TrainFilter | None,
    *,
    num_samples: int = 100,
    allow_commands: bool = False,
) -> SplitReport:
    """Check every cut of a split, the checksums of its features, and the values of some.

    Args:
        manifest_dir: where the cuts are.
        corpus: first part of the file names.
        split: last part of the file names.
        wanted: the filter that the training uses; None for a split that is decoded, all of it.
        num_samples: the features of so many cuts, evenly spread, are read.
        allow_commands: shell commands that the manifest names may run.

    Raises:
        DataError: the manifest is missing, empty or damaged.
    """
    cuts = load_cuts(manifest_dir, corpus, [split], allow_commands=allow_commands)
    report = validate_cuts(cuts, wanted, f"{corpus} {split}", num_samples=num_samples)
    for folder in features_folders(manifest_dir, corpus, split):
        for fault in damaged_archives(folder):
            report.add_problem(DAMAGED_FEATURES, fault)
    quarantine = quarantine_path(manifest_dir, corpus, split)
    if quarantine.is_file():
        report.quarantined = len(quarantine.read_text(encoding="utf-8").splitlines()) - 1
    return report


def validate_cuts(
    cuts: CutSet, wanted: TrainFilter | None, name: str, *, num_samples: int = 100
) -> SplitReport:
    """Check every cut, and the features of some; see ``validate_split``."""
    report = SplitReport(name)
    seen: set[str] = set()
    words: set[str] = set()
    sample = _every_nth(cuts, num_samples)
    for index, cut in enumerate(cuts):
        for kind, detail in _faults(cut, seen):
            report.add_problem(kind, f"{cut.id}{detail}")
        seen.add(cut.id)
        words.update(units_of(text_of(cut)))
        report.drops.add(cut, wanted.reason_to_drop(cut) if wanted else None)
        if index % sample == 0 and cut.has_features:
            _check_features(cut, report)
    report.num_words = len(words)
    return report


def report_text(reports: Iterable[SplitReport]) -> str:
    """Format the reports for a person: a paragraph for each split, faults first."""
    return "\n\n".join("\n".join(_lines(report)) for report in reports) + "\n"


def _lines(report: SplitReport) -> Iterator[str]:
    yield f"{report.name}: {'sound' if report.is_sound else 'HAS FAULTS'}"
    for kind, count in report.problems.most_common():
        yield f"  fault, {count} times: {kind}, e.g. {', '.join(report.examples[kind])}"
    if report.quarantined:
        yield f"  {report.quarantined} cuts are missing because their audio is damaged"
    yield from (f"  {line}" for line in report.drops.text().splitlines())
    if warning := report.drops.warning():
        yield f"  warning: {warning}"
    yield f"  {report.num_words} different words; {report.num_features_read} features read"


def _faults(cut: Cut, seen: set[str]) -> Iterator[tuple[str, str]]:
    """Yield the kind of each fault and what to show behind the name of the cut."""
    if cut.id in seen:
        yield SAME_ID_TWICE, ""
    if len(cut.supervisions) != 1:
        yield NOT_ONE_SUPERVISION, f" ({len(cut.supervisions)})"
    for supervision in cut.supervisions:
        if abs(supervision.start) > _TOLERANCE_SECONDS:
            yield SUPERVISION_SHIFTED, f" ({supervision.start:.3f} s)"
        if supervision.end > cut.duration + _TOLERANCE_SECONDS:
            yield SUPERVISION_TOO_LONG, f" ({supervision.end:.3f} of {cut.duration:.3f} s)"
    try:
        lhotse.validate(cut)
    except AssertionError as error:
        yield INVALID, f" ({reason_of_error(error)})"


def _check_features(cut: Cut, report: SplitReport) -> None:
    report.num_features_read += 1
    try:
        features = cut.load_features()
    except Exception as error:
        report.add_problem(UNREADABLE, f"{cut.id} ({reason_of_error(error)})")
        return
    if features.shape != (cut.num_frames, NUM_MEL_BINS) or not np.isfinite(features).all():
        report.add_problem(WRONG_FEATURES, f"{cut.id} {features.shape}")


def _every_nth(cuts: CutSet, num_samples: int) -> int:
    """Return n so that every n-th cut makes about ``num_samples``; 1 reads all."""
    if num_samples <= 0:
        return sum(1 for _ in cuts) + 1
    return max(1, -(-sum(1 for _ in cuts) // num_samples))
