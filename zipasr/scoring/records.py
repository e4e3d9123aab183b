"""What is kept of each decoded utterance for reports: one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from zipasr.base.errors import DataError
from zipasr.base.files import atomic_path
from zipasr.scoring.align import AlignedPair, WordErrors, align, errors_of
from zipasr.text.timed_words import TimedPiece, words_of_pieces


@dataclass(frozen=True, kw_only=True)
class Record:
    """One utterance as it was decoded.

    Attributes:
        id: of the cut.
        ref: words that were said.
        hyp: words recognised.
        duration: seconds.
        speaker: empty if unknown.
        audio: path of the recording; empty if unknown.
        start: second of the recording at which the utterance begins.
        tokens: pieces recognised.
        times: for each piece, seconds from the beginning of the utterance.
        log_prob: of ``tokens``, in nats.
    """

    id: str
    ref: Sequence[str]
    hyp: Sequence[str]
    duration: float = 0.0
    speaker: str = ""
    audio: str = ""
    start: float = 0.0
    tokens: Sequence[str] = ()
    times: Sequence[float] = ()
    log_prob: float | None = None

    @cached_property
    def alignment(self) -> list[AlignedPair]:
        """Reference and recognised words side by side."""
        return align(self.ref, self.hyp)

    @cached_property
    def errors(self) -> WordErrors:
        """Errors of this utterance."""
        return errors_of([self.alignment])

    @property
    def word_times(self) -> list[float]:
        """For each recognised word, the second of its first piece; empty if they do not fit."""
        pieces = [TimedPiece(p, t, t) for p, t in zip(self.tokens, self.times, strict=False)]
        starts = [word.start for word in words_of_pieces(pieces)]
        return starts if len(starts) == len(self.hyp) else []


def records_name(test_set: str, suffix: str) -> str:
    """Return the name of the file of one test set, beside its other result files."""
    return f"utterances-{test_set}-{suffix}.jsonl"


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write a file with one record per line."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")


def read_records(path: Path) -> list[Record]:
    """Read what ``write_records`` wrote.

    Raises:
        DataError: the file is missing, or a line is not a record.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(f"{path} cannot be read: {problem}.", "run decode.py first.") from problem
    known = {field.name for field in fields(Record)}
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            values: dict[str, Any] = json.loads(line)
            records.append(Record(**{k: v for k, v in values.items() if k in known}))
        except (ValueError, TypeError, AttributeError) as problem:
            raise DataError(
                f"{path}, line {number} is not a decoded utterance: {problem}.",
                "run decode.py again.",
            ) from problem
    return records
