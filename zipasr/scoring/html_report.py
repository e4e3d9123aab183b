"""Report on decodings as one self-contained HTML page, with the audio of its utterances."""

from __future__ import annotations

import base64
import io
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

import soundfile

from zipasr.scoring.breakdown import (
    Overview,
    by_duration,
    by_speaker,
    by_words,
    confusions,
    overview,
    worst,
)
from zipasr.scoring.decodings import Decoding, Setting, UtteranceRecord, by_test_set, labels
from zipasr.scoring.html_tables import (
    Shown,
    comparison_table,
    counted_table,
    overview_table,
    parts_table,
    utterance,
)
from zipasr.scoring.statistics import Comparison, compare

WORST = 100
CONFUSIONS = 15


@dataclass(frozen=True, kw_only=True)
class Report:
    """Contents of a report.

    Attributes:
        title: of the page.
        subtitle: a line below it.
        decodings: of one or more test sets; the best of each set is shown in detail.
        sounds: id of an utterance -> address of its audio, or the audio itself as a data address.
    """

    title: str
    subtitle: str
    decodings: Sequence[Decoding]
    sounds: Mapping[str, str] = field(default_factory=dict)


def page(report: Report) -> str:
    """Return the page of one run."""
    sets = by_test_set(report.decodings)
    sections = [_section(name, decodings, report.sounds) for name, decodings in sets.items()]
    return _document(report.title, report.subtitle, list(sets), "".join(sections))


def comparison_page(first: Report, second: Report) -> str:
    """Return a page that says where and how surely the second run is better than the first."""
    pairs = matching(first.decodings, second.decodings)
    summary = comparison_table([(name, comparison_of(a, b)) for name, a, b in pairs])
    legend = (
        f"<p>First: {escape(first.title)} &middot; {escape(first.subtitle)}<br>"
        f"Second: {escape(second.title)} &middot; {escape(second.subtitle)}</p>"
    )
    sections = [_changes(name, a, b, second.sounds) for name, a, b in pairs]
    title = f"{second.title} against {first.title}"
    names = [name for name, _, _ in pairs]
    return _document(title, "", names, legend + summary + "".join(sections))


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


def compared(
    first: Decoding, second: Decoding
) -> tuple[list[UtteranceRecord], list[UtteranceRecord]]:
    """Return the utterances that two decodings share, in the same order."""
    theirs = {record.id: record for record in second.records}
    common = [record for record in first.records if record.id in theirs]
    return common, [theirs[record.id] for record in common]


def comparison_of(first: Decoding, second: Decoding) -> Comparison:
    """Compare the utterances that two decodings share."""
    mine, theirs = compared(first, second)
    return compare(
        [record.errors.total for record in mine],
        [record.errors.total for record in theirs],
        [record.errors.ref_words for record in mine],
    )


def size_and_scoring(total: Overview, setting: Setting) -> str:
    """Say how large a test set is, and how its words were compared."""
    size = f"{total.utterances} utterances, {total.errors.ref_words} words, {total.hours:.2f} hours"
    return f"{size}; {setting.scoring}" if setting.scoring else size


def _section(name: str, decodings: Sequence[Decoding], sounds: Mapping[str, str]) -> str:
    main = decodings[0]
    names = labels(decodings)
    figures = [
        (label, overview(d.records), d.setting.rtf)
        for label, d in zip(names, decodings, strict=True)
    ]
    _, total, _ = figures[0]
    found = confusions(main.records, CONFUSIONS)
    size = escape(size_and_scoring(total, main.setting))
    return (
        f'<section id="set-{escape(name, quote=True)}"><h2>{escape(name)}</h2><p>{size}</p>'
        f"{overview_table(figures)}"
        f"<h3>Where the errors are <small>{escape(names[0])}</small></h3>"
        f'<div class="columns">{parts_table("By duration", by_duration(main.records))}'
        f"{parts_table('By length', by_words(main.records))}"
        f"{parts_table('By speaker', by_speaker(main.records))}</div>"
        f'<h3>What was taken for what</h3><div class="columns">'
        f"{counted_table('Substitutions', found.substitutions)}"
        f"{counted_table('Deletions', found.deletions)}"
        f"{counted_table('Insertions', found.insertions)}</div>"
        f"{_worst(decodings, names, sounds)}</section>"
    )


def _worst(decodings: Sequence[Decoding], names: Sequence[str], sounds: Mapping[str, str]) -> str:
    others = {
        label: {record.id: record for record in d.records}
        for label, d in zip(names[1:], decodings[1:], strict=True)
    }
    chosen = worst(decodings[0].records, WORST)
    articles = [
        utterance(
            Shown(
                record,
                sounds.get(record.id, ""),
                {key: known[record.id] for key, known in others.items() if record.id in known},
            )
        )
        for record in chosen
    ]
    head = "Worst utterances" if chosen else "No utterance has an error"
    return f"<h3>{head}</h3>{_LEGEND if chosen else ''}{''.join(articles)}"


def _changes(name: str, first: Decoding, second: Decoding, sounds: Mapping[str, str]) -> str:
    """Show the utterances that changed most, the second run in detail."""
    mine, theirs = compared(first, second)
    changed = sorted(
        ((b.errors.total - a.errors.total, a, b) for a, b in zip(mine, theirs, strict=True)),
        key=lambda item: (-abs(item[0]), item[2].id),
    )
    articles = [
        utterance(Shown(b, sounds.get(b.id, ""), {"first run": a}))
        for change, a, b in changed[:WORST]
        if change
    ]
    return (
        f'<section id="set-{escape(name, quote=True)}"><h2>{escape(name)}</h2>'
        f"<h3>Utterances that changed most</h3>{_LEGEND}{''.join(articles)}</section>"
    )


_LEGEND = (
    '<p class="legend"><span class="e s"><del>said</del><ins>recognised</ins></span> substitution '
    '<span class="e d"><del>said</del></span> deletion '
    '<span class="e i"><ins>recognised</ins></span> insertion</p>'
)


def _document(title: str, subtitle: str, names: Sequence[str], body: str) -> str:
    folder = files("zipasr.scoring") / "page"
    style, script = (
        (folder / name).read_text(encoding="utf-8") for name in ("report.css", "report.js")
    )
    links = "".join(
        f'<a href="#set-{escape(name, quote=True)}">{escape(name)}</a>' for name in names
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n{style}</style></head>\n<body>"
        f'<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p><nav aria-label="test sets">'
        f"{links}</nav>{_CONTROLS}</header>\n<main>{body}</main>\n"
        f"<script>\n{script}</script></body></html>\n"
    )


_CONTROLS = (
    '<div class="controls"><label>Find <input type="search" id="find" '
    'placeholder="word, speaker or utterance"></label><output id="found"></output>'
    '<button type="button" id="theme" aria-pressed="false">Dark</button>'
    '<p class="keys"><kbd>j</kbd> <kbd>k</kbd> next, previous utterance &middot; <kbd>p</kbd> play '
    "&middot; <kbd>/</kbd> find &middot; <kbd>t</kbd> light or dark</p></div>"
)


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
        if not record.audio or record.id in addresses or not Path(record.audio).is_file():
            continue
        embedded = embedded_sound(record) if room > 0 else ""
        room -= len(embedded)
        if embedded and room >= 0:
            addresses[record.id] = embedded
        elif Path(record.audio).suffix.lower() in PLAYABLE:
            addresses[record.id] = link(record, folder)
    return addresses


def embedded_sound(record: UtteranceRecord) -> str:
    """Return the speech of an utterance as a data address; empty if it cannot be read."""
    try:
        with soundfile.SoundFile(record.audio) as file:
            file.seek(round(record.start * file.samplerate))
            frames = round(record.duration * file.samplerate) if record.duration else -1
            samples = file.read(frames, dtype="int16", always_2d=True)
            buffer = io.BytesIO()
            soundfile.write(buffer, samples[:, 0], file.samplerate, format="FLAC")
    except (OSError, RuntimeError) as problem:
        logging.warning("%s: no sound in the report: %s", record.id, problem)
        return ""
    return "data:audio/flac;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def link(record: UtteranceRecord, folder: Path) -> str:
    """Return a relative address of the part of a recording that an utterance is."""
    path = quote(Path(os.path.relpath(record.audio, folder)).as_posix())
    if not record.duration:
        return path
    return f"{path}#t={record.start:.2f},{record.start + record.duration:.2f}"
