"""Utterances that can be used, but that look wrong by cheap checks of sound, text and splits."""

from __future__ import annotations

import itertools
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from zipasr.audio.audio_info import CLIPPED_SHARE, AudioInfo
from zipasr.base.errors import DataError
from zipasr.corpora.custom.audio_files import AUDIO_SUFFIXES
from zipasr.corpora.custom.checks import Suspect, seconds_of
from zipasr.corpora.custom.utterances import Utterance, purpose_of

Examples = Iterable[tuple[Utterance, str]]

# Beyond such a factor from the median of the corpus, characters and seconds do not belong together.
_RATE_FACTOR = 3.0
# Pauses around the words of a short text.
_PAUSE_SECONDS = 2.0
_FEWEST_FOR_MEDIAN = 10
_QUIET = 1e-6  # mean square: -60 dB
_OFTEN = 100

_TEXT_SUFFIXES = AUDIO_SUFFIXES | {".txt", ".lab", ".trn", ".json"}
_TAG = re.compile(r"<[^<>]+>|\[[^\[\]]+\]|\{[^{}]+\}|&(?:[A-Za-z]+|#\d+);")
_DECIMAL = re.compile(r"-?\d+\.\d+")
# Such a share of the transcripts in one case makes the others odd.
_MOST = 0.8


def find_suspects(
    utterances: Sequence[Utterance], facts: Mapping[Path, AudioInfo]
) -> list[Suspect]:
    """Return the utterances that look wrong, by kind; each kind has some."""
    return _of_kinds(
        {
            "many characters for so few seconds": _by_rate(utterances, facts, too_fast=True),
            "few characters for so many seconds": _by_rate(utterances, facts, too_fast=False),
            "the same sound with different texts": _same_sound(utterances, facts, same_text=False),
            "the same sound with the same text, again": _same_sound(
                utterances, facts, same_text=True
            ),
            "most of it is in another utterance, too": _overlapping(utterances, facts),
            "clipped: more than 0.1 % of the samples at full scale": (
                (u, f"{100 * facts[u.audio].clipped:.1f} %")
                for u in utterances if facts[u.audio].clipped > CLIPPED_SHARE
            ),
            "nearly silent: less than -60 dB": (
                (u, "") for u in utterances if _loudness(u, facts[u.audio]) < _QUIET
            ),
            f"a transcript that occurs {_OFTEN} times or more": _often(utterances),
            "a transcript that is the name of a file": (
                (u, "") for u in utterances if _is_file_name(u.text)
            ),
            "a transcript that is a number with decimals (is it the right column?)": (
                (u, "") for u in utterances if _DECIMAL.fullmatch(u.text)
            ),
            "a transcript without any letter or digit": (
                (u, "") for u in utterances if not any(map(str.isalnum, u.text))
            ),
            "tags in the transcript, which the model will learn to write": (
                (u, ", ".join(_TAG.findall(u.text)[:3])) for u in utterances if _TAG.search(u.text)
            ),
            "not in the case of most transcripts (--normalise upper or lower spells all alike)": (
                (u, "") for u in _in_another_case(utterances)
            ),
        }
    )  # fmt: skip


def find_leaks(utterances: Sequence[Utterance], facts: Mapping[Path, AudioInfo]) -> list[Suspect]:
    """Return what is in the training and in dev or test at once, by kind.

    Args:
        utterances: of the corpus, each with its split.
        facts: about the files.
    """
    training = [u for u in utterances if purpose_of(str(u.split)) == "train"]
    others = [u for u in utterances if purpose_of(str(u.split)) != "train"]
    sounds = {_place_in_sound(u, facts): u for u in training}
    speakers = {u.speaker for u in training} - {None}
    leaked = {u: sounds.get(_place_in_sound(u, facts)) for u in others}
    return _of_kinds(
        {
            "dev or test sound that is in the training, too: error rates will be too low": (
                (u, f"as {twin.id} [{twin.where}]") for u, twin in leaked.items() if twin
            ),
            "dev or test utterances of speakers that are in the training, too: error rates hold "
            "for known speakers": ((u, str(u.speaker)) for u in others if u.speaker in speakers),
        }
    )


def refuse_file_names(utterances: Sequence[Utterance]) -> None:
    """Refuse a corpus whose transcripts are names of files.

    Raises:
        DataError: most of them are.
    """
    named = [u for u in utterances if _is_file_name(u.text)]
    if 2 * len(named) > len(utterances):
        raise DataError(
            f"{len(named)} of {len(utterances)} transcripts are names of files, such as "
            f"{named[0].text[:60]!r} [{named[0].where}].",
            "give the column text the words that are said.",
        )


def _of_kinds(kinds: Mapping[str, Examples]) -> list[Suspect]:
    suspects = (Suspect(kind=kind, examples=list(found)) for kind, found in kinds.items())
    return [suspect for suspect in suspects if suspect.examples]


def _is_file_name(text: str) -> bool:
    return " " not in text and PurePosixPath(text).suffix.lower() in _TEXT_SUFFIXES


def _in_another_case(utterances: Sequence[Utterance]) -> list[Utterance]:
    """Return the utterances in another case than nearly all others; none where cases are mixed."""
    cases: dict[str, list[Utterance]] = {"upper": [], "lower": [], "both": []}
    for one in utterances:
        if one.text.upper() != one.text.lower():
            case = "upper" if one.text.isupper() else "lower" if one.text.islower() else "both"
            cases[case].append(one)
    known = sum(map(len, cases.values()))
    most = max("upper", "lower", key=lambda case: len(cases[case]))
    if len(cases[most]) < _MOST * known:
        return []
    return [one for case, group in cases.items() if case != most for one in group]


def _by_rate(
    utterances: Sequence[Utterance], facts: Mapping[Path, AudioInfo], *, too_fast: bool
) -> Iterator[tuple[Utterance, str]]:
    if len(utterances) < _FEWEST_FOR_MEDIAN:
        return
    lengths = [seconds_of(u, facts[u.audio]) for u in utterances]
    rates = [len(u.text) / s for u, s in zip(utterances, lengths, strict=True)]
    median = statistics.median(rates)
    for utterance, seconds, rate in zip(utterances, lengths, rates, strict=True):
        expected = len(utterance.text) / median
        slow = seconds > _RATE_FACTOR * expected + _PAUSE_SECONDS
        if (rate > _RATE_FACTOR * median) if too_fast else slow:
            yield utterance, f"{rate:.1f} a second, the median is {median:.1f}"


def _place_in_sound(utterance: Utterance, facts: Mapping[Path, AudioInfo]) -> tuple[object, ...]:
    sound = facts[utterance.audio].digest or utterance.audio
    return sound, utterance.channel, round(utterance.start, 2), round(utterance.end or -1.0, 2)


def _same_sound(
    utterances: Sequence[Utterance], facts: Mapping[Path, AudioInfo], *, same_text: bool
) -> Iterator[tuple[Utterance, str]]:
    groups: dict[tuple[object, ...], list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        groups[_place_in_sound(utterance, facts)].append(utterance)
    for group in groups.values():
        for utterance in group[1:]:
            if (utterance.text == group[0].text) is same_text:
                yield utterance, f"as {group[0].id} [{group[0].where}]"


def _overlapping(
    utterances: Sequence[Utterance], facts: Mapping[Path, AudioInfo]
) -> Iterator[tuple[Utterance, str]]:
    channels: dict[tuple[Path, int | None], list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        channels[utterance.audio, utterance.channel].append(utterance)
    for group in channels.values():
        group.sort(key=lambda one: one.start)
        for before, after in itertools.pairwise(group):
            lengths = [seconds_of(one, facts[one.audio]) for one in (before, after)]
            shared = before.start + lengths[0] - after.start
            same = _place_in_sound(before, facts) == _place_in_sound(after, facts)
            differs = before.text != after.text and not same
            if differs and min(shared, lengths[1]) > 0.5 * min(lengths):
                yield after, f"{before.id} [{before.where}]"


def _loudness(utterance: Utterance, facts: AudioInfo) -> float:
    return max(facts.energies) if utterance.channel is None else facts.energies[utterance.channel]


def _often(utterances: Sequence[Utterance]) -> Iterator[tuple[Utterance, str]]:
    counts = Counter(utterance.text for utterance in utterances)
    told: set[str] = set()
    for utterance in utterances:
        if counts[utterance.text] >= _OFTEN and utterance.text not in told:
            told.add(utterance.text)
            yield utterance, f"{counts[utterance.text]} times: {utterance.text[:60]}"
