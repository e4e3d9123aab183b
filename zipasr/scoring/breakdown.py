"""Errors by utterance length, speaker and word."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from zipasr.scoring.confidence_intervals import RESAMPLES, Interval, rate_interval
from zipasr.scoring.decodings import Decoding, UtteranceRecord
from zipasr.scoring.word_errors import GAP, WordErrors, count_errors, errors_of_listed
from zipasr.text.scripts import joined

# There are many parts, and their intervals are only drawn.
PART_RESAMPLES = 1_000

#: Upper edges of the classes of duration in seconds, and of reference words.
SECONDS = (1, 2, 4, 8, 12, 16, 20, 30)
WORDS = (0, 1, 3, 5, 10, 20, 30, 50)


class ErrorGroup(NamedTuple):
    """A group of utterances of a test set, with its errors."""

    name: str
    utterances: int
    errors: WordErrors
    interval: Interval


class HotWordErrors(NamedTuple):
    """Errors of a decoding in the words of a list, and in all others.

    Attributes:
        name: of the decoding.
        listed: B-WER; an insertion counts as the word that was inserted.
        others: U-WER.
    """

    name: str
    listed: WordErrors
    others: WordErrors


class Counted(NamedTuple):
    """A confusion and how often it happened; ``GAP`` on the side where there is no word."""

    ref: str
    hyp: str
    times: int


class Confusions(NamedTuple):
    """The commonest errors of each kind, the most frequent first."""

    substitutions: list[Counted]
    deletions: list[Counted]
    insertions: list[Counted]


class Overview(NamedTuple):
    """The figures of one test set under one method.

    Attributes:
        errors: of words.
        interval: of the word error rate.
        other_metric: CER, of which spaces are characters; WER where the errors are of characters.
        other_rate: in percent.
        sentence_rate: utterances with an error, in percent.
        utterances: how many there are.
        hours: of speech.
    """

    errors: WordErrors
    interval: Interval
    other_metric: str
    other_rate: float
    sentence_rate: float
    utterances: int
    hours: float


def overview(records: Sequence[UtteranceRecord]) -> Overview:
    """Sum up a test set."""
    texts = [(joined(r.ref), joined(r.hyp)) for r in records]
    wrong = sum(record.errors.total > 0 for record in records)
    errors = total_errors(records)
    is_of_characters = errors.metric == "CER"
    split: Callable[[str], list[str]] = str.split if is_of_characters else list
    other = count_errors((split(ref), split(hyp)) for ref, hyp in texts)
    return Overview(
        errors=errors,
        interval=_interval(records, RESAMPLES),
        other_metric="WER" if is_of_characters else "CER",
        other_rate=other.rate,
        sentence_rate=100.0 * wrong / max(1, len(records)),
        utterances=len(records),
        hours=sum(record.duration for record in records) / 3600.0,
    )


def by_duration(records: Sequence[UtteranceRecord]) -> list[ErrorGroup]:
    """Split by seconds of speech, the shortest first; classes without utterances are left out."""
    names = [f"{low} to {high} s" for low, high in pairwise((0, *SECONDS))]
    return _by_class(records, lambda record: record.duration, SECONDS, [*names, "longer"])


def by_words(records: Sequence[UtteranceRecord]) -> list[ErrorGroup]:
    """Split by the number of reference words or characters, the shortest first."""
    unit = total_errors(records).unit
    names = [
        f"{low + 1} to {high} {unit}"
        if low + 1 < high
        else f"{high} {unit.removesuffix('s') if high == 1 else unit}"
        for low, high in pairwise((-1, *WORDS))
    ]
    return _by_class(records, lambda record: float(len(record.ref)), WORDS, [*names, "more"])


def by_speaker(records: Sequence[UtteranceRecord]) -> list[ErrorGroup]:
    """Split by speaker, the most errors first; empty when no speaker is known."""
    groups: dict[str, list[UtteranceRecord]] = defaultdict(list)
    for record in records:
        groups[record.speaker].append(record)
    if set(groups) <= {""}:
        return []
    parts = [_part(name or "unknown", group) for name, group in groups.items()]
    return sorted(parts, key=lambda part: (-part.errors.rate, part.name))


def confusions(records: Sequence[UtteranceRecord], most: int) -> Confusions:
    """Count what was taken for what.

    Args:
        records: of a test set.
        most: length of each list.
    """
    pairs = Counter(p for r in records for p in r.alignment if not p.is_correct)
    ordered = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    found = [Counted(ref, hyp, count) for (ref, hyp), count in ordered]
    return Confusions(
        [c for c in found if GAP not in (c.ref, c.hyp)][:most],
        [c for c in found if c.hyp == GAP][:most],
        [c for c in found if c.ref == GAP][:most],
    )


def hot_word_errors(named: Sequence[tuple[str, Decoding]]) -> list[HotWordErrors]:
    """Return the errors of listed words and of others; empty where no decoding has hot-words.

    A decoding without hot-words is measured with the list of the others if these have the same.

    Args:
        named: decodings of one test set, with what they are called.
    """
    lists = {decoding.setting.hot_words for _, decoding in named} - {()}
    usual = next(iter(lists)) if len(lists) == 1 else ()
    measured = [(name, one, {*(one.setting.hot_words or usual)}) for name, one in named]
    return [
        HotWordErrors(name, *errors_of_listed((r.alignment for r in one.records), words))
        for name, one, words in measured
        if words
    ]


def worst(records: Sequence[UtteranceRecord], most: int) -> list[UtteranceRecord]:
    """Return the utterances with errors, those with the most errors first."""
    wrong = [record for record in records if record.errors.total]
    return sorted(wrong, key=lambda r: (-r.errors.total, -r.errors.rate, r.id))[:most]


def _part(name: str, records: Sequence[UtteranceRecord]) -> ErrorGroup:
    return ErrorGroup(name, len(records), total_errors(records), _interval(records, PART_RESAMPLES))


def total_errors(records: Sequence[UtteranceRecord]) -> WordErrors:
    """Sum the errors over utterances."""
    sums = (sum(column) for column in zip(*(r.errors for r in records), strict=True))
    return WordErrors(*sums) if records else WordErrors(0, 0, 0, 0)


def _interval(records: Sequence[UtteranceRecord], resamples: int) -> Interval:
    errors = [record.errors.total for record in records]
    words = [record.errors.ref_words for record in records]
    return rate_interval(errors, words, resamples=resamples)


def _by_class(
    records: Sequence[UtteranceRecord],
    size: Callable[[UtteranceRecord], float],
    edges: Sequence[int],
    names: Sequence[str],
) -> list[ErrorGroup]:
    """Split by size: class i reaches up to ``edges[i]``, the last one further."""
    groups: dict[int, list[UtteranceRecord]] = defaultdict(list)
    for record in records:
        groups[bisect_left(edges, size(record))].append(record)
    return [_part(names[index], groups[index]) for index in sorted(groups)]
