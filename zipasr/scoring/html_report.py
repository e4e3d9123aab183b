"""Report on decodings as one self-contained HTML page, with the audio of its utterances."""

from __future__ import annotations

import base64
import functools
import io
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import soundfile
from jinja2 import Environment, PackageLoader, StrictUndefined

from zipasr.scoring.breakdown import (
    Overview,
    by_duration,
    by_speaker,
    by_words,
    confusions,
    hot_word_errors,
    overview,
    worst,
)
from zipasr.scoring.calibration import reliability, word_outcomes
from zipasr.scoring.confidence_intervals import CONFIDENCE, Comparison, compare
from zipasr.scoring.decodings import Decoding, Setting, UtteranceRecord, by_test_set, labels
from zipasr.scoring.latency import latency_plot, latency_rows
from zipasr.scoring.training_facts import TrainingFacts
from zipasr.scoring.word_errors import GAP, AlignedPair
from zipasr.text.timed_words import WORD_START

logger = logging.getLogger(__name__)

WORST = 100
CONFUSIONS = 15
NOT_CALIBRATED = "confidence is the model's own; decode.py --calibrate 1 calibrates it on dev"


@dataclass(frozen=True, kw_only=True)
class Report:
    """Contents of a report.

    Attributes:
        title: of the page.
        subtitle: a line below it.
        decodings: of one or more test sets; the best of each set is shown in detail.
        sounds: id of an utterance -> address of its audio, or the audio itself as a data address.
        training: how the model was trained.
        reload: seconds after which the page loads itself again; 0: never.
    """

    title: str
    subtitle: str
    decodings: Sequence[Decoding]
    sounds: Mapping[str, str] = field(default_factory=dict)
    training: TrainingFacts = field(default_factory=TrainingFacts)
    reload: float = 0.0


class Shown(NamedTuple):
    """An utterance of the report.

    Attributes:
        record: by the method that the report is about.
        sound: address of its audio, or empty.
        others: method -> the same utterance by that method.
    """

    record: UtteranceRecord
    sound: str
    others: Mapping[str, UtteranceRecord]

    @property
    def words(self) -> str:
        """Text that the search field of the page looks through."""
        record = self.record
        return " ".join([record.id, record.speaker, *record.ref, *record.hyp]).lower()

    def grouped_others(self) -> list[tuple[list[str], UtteranceRecord]]:
        """Return each transcript of the other methods once, with the methods that found it."""
        methods: dict[tuple[str, ...], list[str]] = {}
        for name, record in self.others.items():
            methods.setdefault(tuple(record.hyp), []).append(name)
        return [(names, self.others[names[0]]) for names in methods.values()]


def html_page(report: Report) -> str:
    """Return the page of one run."""
    sets = by_test_set(report.decodings)
    return _rendered(
        "report.html",
        title=report.title,
        subtitle=report.subtitle,
        names=list(sets),
        training=report.training,
        reload=report.reload,
        percent=f"{100 * CONFIDENCE:.0f} %",
        sets=[_section(name, decodings, report.sounds) for name, decodings in sets.items()],
    )


def comparison_page(first: Report, second: Report) -> str:
    """Return a page that says where and how surely the second run is better than the first."""
    pairs = matching(first.decodings, second.decodings)
    return _rendered(
        "comparison.html",
        title=f"{second.title} against {first.title}",
        subtitle="",
        names=[name for name, _, _ in pairs],
        first=first,
        second=second,
        comparisons=[(name, comparison_of(a, b)) for name, a, b in pairs],
        changes=[(name, _changes(a, b, second.sounds)) for name, a, b in pairs],
    )


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("zipasr.scoring", "page"),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.globals |= {
        "GAP": GAP,
        "WORD_START": WORD_START,
        "number_of_errors": number_of_errors,
        "verdict": verdict,
        "with_times": with_times,
        "zip": zip,
    }
    return environment


def _rendered(template: str, **values: Any) -> str:
    return str(_environment().get_template(template).render(**values))


def alignment(pairs: Sequence[AlignedPair], times: Sequence[float] = ()) -> str:
    """Return aligned words as HTML.

    Args:
        pairs: of words.
        times: seconds of each recognised word; empty if they are not known.
    """
    macros: Any = _environment().get_template("macros.html").module
    return str(macros.alignment(with_times(pairs, times)))


def with_times(
    pairs: Sequence[AlignedPair], times: Sequence[float]
) -> Iterator[tuple[AlignedPair, float | None]]:
    """Yield aligned words with the seconds of each recognised word, ``None`` where unknown."""
    waiting = iter(times)
    for pair in pairs:
        yield pair, None if pair.hyp == GAP else next(waiting, None)


def verdict(comparison: Comparison) -> str:
    """Say in words what a comparison shows."""
    if not comparison.is_significant:
        return "no significant difference"
    return "second is better" if comparison.difference < 0 else "second is worse"


def number_of_errors(errors: int) -> str:
    """Say how many there are."""
    return f"{errors or 'no'} error{'' if errors == 1 else 's'}"


def matching(
    first: Sequence[Decoding], second: Sequence[Decoding]
) -> list[tuple[str, Decoding, Decoding]]:
    """Pair the decodings of two runs, for each test set that both have.

    Decodings made in the same way are pairs; else the best of each method that both have; else
    the best of all. Words must have been compared in the same way.
    """
    pairs = []
    theirs = by_test_set(second)
    for name, mine in by_test_set(first).items():
        if name not in theirs:
            continue
        for way in (lambda one: one.details, lambda one: one.setting.key, lambda _: ""):
            same = _paired(mine, theirs[name], way)
            if same:
                break
        names = labels([a for a, _ in same])
        for label, (a, b) in zip(names, same, strict=True):
            pairs.append((name if len(same) == 1 else f"{name} {label}", a, b))
    return pairs


def _paired(
    first: Sequence[Decoding], second: Sequence[Decoding], way: Callable[[Decoding], object]
) -> list[tuple[Decoding, Decoding]]:
    """Pair the best decodings of each way that both have; both are sorted, best first."""

    def alike(one: Decoding) -> object:
        return way(one), one.setting.scoring

    pairs = []
    for n, a in enumerate(first):
        if alike(a) in map(alike, first[:n]):
            continue
        pairs += [(a, b) for b in second if alike(b) == alike(a)][:1]
    return pairs


def compared_decodings(
    first: Decoding, second: Decoding
) -> tuple[list[UtteranceRecord], list[UtteranceRecord]]:
    """Return the utterances that two decodings share, in the same order."""
    theirs = {record.id: record for record in second.records}
    common = [record for record in first.records if record.id in theirs]
    return common, [theirs[record.id] for record in common]


def comparison_of(first: Decoding, second: Decoding) -> Comparison:
    """Compare the utterances that two decodings share."""
    mine, theirs = compared_decodings(first, second)
    return compare(
        [record.errors.total for record in mine],
        [record.errors.total for record in theirs],
        [record.errors.ref_words for record in mine],
    )


def size_and_scoring(total: Overview, setting: Setting) -> str:
    """Say how large a test set is, and how its words were compared."""
    counted = f"{total.errors.ref_words} {total.errors.unit}"
    size = f"{total.utterances} utterances, {counted}, {total.hours:.2f} hours"
    return f"{size}; {setting.scoring}" if setting.scoring else size


def _section(name: str, decodings: Sequence[Decoding], sounds: Mapping[str, str]) -> dict[str, Any]:
    """Return what the template shows of one test set; the best decoding comes first."""
    main, names = decodings[0], labels(decodings)
    latencies = latency_rows(list(zip(names, decodings, strict=True)))
    rows = [
        (label, overview(d.records), d.setting.rtf)
        for label, d in zip(names, decodings, strict=True)
    ]
    others = {
        label: {record.id: record for record in d.records}
        for label, d in zip(names[1:], decodings[1:], strict=True)
    }
    return {
        "name": name,
        "size": size_and_scoring(rows[0][1], main.setting),
        "rows": rows,
        "errors": rows[0][1].errors,
        "hot_words": hot_word_errors(list(zip(names, decodings, strict=True))),
        "latency": latencies,
        "plot": latency_plot(latencies),
        "label": names[0],
        "by_duration": by_duration(main.records),
        "by_words": by_words(main.records),
        "by_speaker": by_speaker(main.records),
        "confusions": confusions(main.records, CONFUSIONS),
        "reliability": reliability(*word_outcomes(main.records)),
        "calibration": main.setting.calibration or NOT_CALIBRATED,
        "worst": [
            Shown(
                record,
                sounds.get(record.id, ""),
                {key: known[record.id] for key, known in others.items() if record.id in known},
            )
            for record in worst(main.records, WORST)
        ],
    }


def _changes(first: Decoding, second: Decoding, sounds: Mapping[str, str]) -> list[Shown]:
    """Return the utterances that changed most, of the second run."""
    mine, theirs = compared_decodings(first, second)
    changed = sorted(
        ((b.errors.total - a.errors.total, a, b) for a, b in zip(mine, theirs, strict=True)),
        key=lambda item: (-abs(item[0]), item[2].id),
    )
    return [
        Shown(b, sounds.get(b.id, ""), {"first run": a})
        for change, a, b in changed[:WORST]
        if change
    ]


#: What browsers play.
PLAYABLE = {".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a"}


def sound_addresses(
    records: Iterable[UtteranceRecord], folder: Path, room: float
) -> dict[str, str]:
    """Return where the page finds the speech of each utterance.

    Args:
        records: the most interesting first; they are put into the page until it is full.
        folder: of the page; links are relative to it.
        room: bytes of the page for speech.

    Returns:
        Id of the utterance -> address; utterances whose audio is not there are left out.
    """
    addresses: dict[str, str] = {}
    for record in records:
        if record.id in addresses or not _is_file(record.audio):
            continue
        embedded = embedded_sound(record) if room > 0 else ""
        room -= len(embedded)
        if embedded and room >= 0:
            addresses[record.id] = embedded
        elif Path(record.audio).suffix.lower() in PLAYABLE:
            addresses[record.id] = link_audio(record, folder)
    return addresses


def _is_file(path: str) -> bool:
    try:
        return bool(path) and Path(path).is_file()
    except OSError:  # a name that is too long for a file
        return False


def embedded_sound(record: UtteranceRecord) -> str:
    """Return the speech of an utterance as a data address; empty if it cannot be read."""
    try:
        with soundfile.SoundFile(record.audio) as file:
            file.seek(round(record.start * file.samplerate))
            frames = round(record.duration * file.samplerate) if record.duration else -1
            samples = file.read(frames, dtype="int16", always_2d=True)
            buffer = io.BytesIO()
            soundfile.write(buffer, samples[:, 0], file.samplerate, format="FLAC")
    except (OSError, RuntimeError, ValueError) as problem:
        logger.warning("%s: no sound in the report: %s", record.id, problem)
        return ""
    return "data:audio/flac;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def link_audio(record: UtteranceRecord, folder: Path) -> str:
    """Return a relative address of the part of a recording that an utterance is."""
    path = quote(os.fsencode(Path(os.path.relpath(record.audio, folder)).as_posix()))
    if not record.duration:
        return path
    return f"{path}#t={record.start:.2f},{record.start + record.duration:.2f}"
