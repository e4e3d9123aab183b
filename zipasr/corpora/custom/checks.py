"""Checks of utterances against their sound files: what can be used."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from zipasr.audio.audio_info import AudioInfo
from zipasr.corpora.custom.audio_files import NOT_A_FILE, kind_of
from zipasr.corpora.custom.columns import ROUNDING_SECONDS
from zipasr.corpora.custom.utterances import Dropped, ImportedCorpus, Utterance, purpose_of

OUTSIDE = "ends after its file"
BEHIND = "starts after the end of its file"
NO_CHANNEL = "its file has no such channel"
NO_END = "has no end, though another utterance of its file starts later"
NO_SPLIT = "a split that is neither train nor dev nor test"
FROM_ONE = "channels, which the source counts from 1"

# Nothing can be said in less.
_SHORTEST_SECONDS = 0.02


def odd_files(utterances: Sequence[Utterance]) -> dict[Path, str]:
    """Return the paths that are no files, and what they are; none of them may be opened."""
    kinds = {u.audio: kind_of(u.audio) for u in utterances if not u.command}
    return {path: f"{NOT_A_FILE}: {kind}" for path, kind in kinds.items() if kind}


def check_utterances(
    utterances: Sequence[Utterance], facts: Mapping[Path, AudioInfo], faults: Mapping[Path, str]
) -> tuple[list[Utterance], list[Dropped]]:
    """Part the utterances that can be used from the others, and say why.

    Args:
        utterances: of the corpus.
        facts: about the files that were read.
        faults: of the files that could not be made or read.

    Returns:
        Those that can be used, their ends trued up; and the others, one entry for each file that
        has a fault.
    """
    usable: list[Utterance] = []
    dropped: list[Dropped] = []
    refused: dict[Path, list[Utterance]] = defaultdict(list)
    later = _last_starts(utterances)
    for utterance in utterances:
        if faults.get(utterance.audio) or facts[utterance.audio].fault:
            refused[utterance.audio].append(utterance)
            continue
        reason, detail = _fault(utterance, facts[utterance.audio], later)
        if reason:
            dropped.append(_dropped(utterance, reason, detail))
        else:
            usable.append(_trued_up(utterance, facts[utterance.audio]))
    for path, lost in refused.items():
        reason = faults.get(path) or facts[path].fault
        dropped.append(Dropped(reason=reason, audio=str(path), where=lost[0].where, lost=len(lost)))
    return usable, dropped


def _dropped(utterance: Utterance, reason: str, detail: str) -> Dropped:
    return Dropped(
        reason=reason,
        detail=detail,
        where=utterance.where,
        audio=str(utterance.audio),
        utterance=utterance.id,
    )


def _last_starts(utterances: Sequence[Utterance]) -> dict[tuple[Path, int | None], float]:
    last: dict[tuple[Path, int | None], float] = {}
    for utterance in utterances:
        key = (utterance.audio, utterance.channel)
        last[key] = max(utterance.start, last.get(key, 0.0))
    return last


def _fault(
    utterance: Utterance, facts: AudioInfo, later: Mapping[tuple[Path, int | None], float]
) -> tuple[str, str]:
    start, end, seconds = utterance.start, utterance.end, facts.seconds
    if utterance.split is not None and purpose_of(utterance.split) is None:
        return NO_SPLIT, repr(utterance.split)
    if (utterance.channel or 0) >= len(facts.energies):
        return NO_CHANNEL, f"{utterance.channel}, of {len(facts.energies)}"
    if start + _SHORTEST_SECONDS > seconds:
        return BEHIND, f"at {start:g} s of {seconds:.2f} s"
    if end is not None and end > seconds + ROUNDING_SECONDS:
        return OUTSIDE, f"at {end:g} s of {seconds:.2f} s"
    if end is None and later[utterance.audio, utterance.channel] > start:
        return NO_END, f"at {later[utterance.audio, utterance.channel]:g} s"
    if end is not None and min(end, seconds) - start < _SHORTEST_SECONDS:
        return "is too short to hold speech", f"{start:g} s to {end:g} s"
    return "", ""


def _trued_up(utterance: Utterance, facts: AudioInfo) -> Utterance:
    """Return an utterance that is all of its file as such, in spite of rounding."""
    covers = utterance.end is not None and utterance.end > facts.seconds - 0.011
    return replace(utterance, end=None) if covers and utterance.start == 0.0 else utterance


def seconds_of(utterance: Utterance, facts: AudioInfo) -> float:
    """Return the length of an utterance; it ends with its file at the latest."""
    end = facts.seconds if utterance.end is None else min(utterance.end, facts.seconds)
    return end - utterance.start


def channels_from_zero(
    utterances: Sequence[Utterance], facts: Mapping[Path, AudioInfo], notes: Counter[str]
) -> list[Utterance]:
    """Return the utterances with channels that count from 0, as far as can be told.

    Where no channel is 0 and one is as high as its file has channels (two or more), the
    source counts from 1.
    """
    numbered = [u for u in utterances if u.channel is not None]
    highest = any(
        u.channel is not None and u.channel == len(facts[u.audio].energies) > 1
        for u in utterances if u.audio in facts
    )  # fmt: skip
    if not highest or any(u.channel == 0 for u in numbered):
        return list(utterances)
    notes[FROM_ONE] += len(numbered)
    return [u if u.channel is None else replace(u, channel=u.channel - 1) for u in utterances]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """Utterances that can be used, but that somebody should listen to.

    Attributes:
        kind: what is odd, in a few words.
        examples: utterance with its place, and what is odd about it.
    """

    kind: str
    examples: Sequence[tuple[Utterance, str]]


class ScannedCorpus(NamedTuple):
    """A corpus after its scan, before its audio is converted.

    Attributes:
        found: by reading the source.
        facts: about each file.
        utterances: those that can be used, each with its split.
        dropped: the others.
        suspects: of those that can be used.
        told: what was done to make splits.
        respelled: what ``--normalise`` changed.
    """

    found: ImportedCorpus
    facts: dict[Path, AudioInfo]
    utterances: list[Utterance]
    dropped: list[Dropped]
    suspects: list[Suspect]
    told: list[str]
    respelled: list[str]

    def seconds(self, utterance: Utterance) -> float:
        """Return the length of an utterance."""
        return seconds_of(utterance, self.facts[utterance.audio])

    def splits(self) -> dict[str, list[Utterance]]:
        """Return the utterances of each split."""
        splits: dict[str, list[Utterance]] = {}
        for utterance in self.utterances:
            splits.setdefault(str(utterance.split), []).append(utterance)
        return splits
