"""Tables and aligned utterances of a report as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple

from zipasr.scoring.breakdown import Counted, ErrorGroup, Overview
from zipasr.scoring.decodings import UtteranceRecord
from zipasr.scoring.statistics import CONFIDENCE, Comparison
from zipasr.scoring.word_errors import GAP, AlignedPair
from zipasr.text.timed_words import WORD_START


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Write a table whose first column names the rows.

    Args:
        caption: plain text.
        head: plain text of the columns.
        rows: cells as HTML.
        kind: class of the table, for its style.
    """
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    lines = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return (
        f'<table class="{kind}"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table>"
    )


def overview_table(rows: Sequence[tuple[str, Overview, float | None]]) -> str:
    """Compare decodings of a test set: key, figures and real-time factor of each."""
    percent = f"{100 * CONFIDENCE:.0f} %"
    head = [
        "method",
        "WER %",
        f"{percent} interval",
        "ins",
        "del",
        "sub",
        "CER %",
        "wrong %",
        "RTF",
    ]
    lines = [
        [
            escape(key),
            f"<strong>{figures.errors.rate:.2f}</strong>",
            f"{figures.interval.low:.2f} to {figures.interval.high:.2f}",
            str(figures.errors.ins),
            str(figures.errors.dels),
            str(figures.errors.subs),
            f"{figures.character_rate:.2f}",
            f"{figures.sentence_rate:.1f}",
            "-" if rtf is None else f"{rtf:.4f}",
        ]
        for key, figures, rtf in rows
    ]
    return table("Error rates", head, lines, "numbers")


def parts_table(caption: str, parts: Sequence[ErrorGroup], most: int = 30) -> str:
    """Draw the rates of parts as bars; the line over a bar is the confidence interval."""
    if not parts:
        return ""
    shown = parts[:most]
    largest = max(1.0, *(max(part.errors.rate, part.interval.high) for part in shown))
    rows = [
        [escape(part.name), _bar(part, largest), str(part.utterances), str(part.errors.ref_words)]
        for part in shown
    ]
    more = f" (the first {most} of {len(parts)})" if len(parts) > most else ""
    return table(caption + more, ["", "WER %", "utts", "words"], rows, "bars")


def counted_table(caption: str, counted: Sequence[Counted]) -> str:
    """List confusions."""
    if not counted:
        return f'<p class="none">{escape(caption)}: none.</p>'
    rows = [[_named(item), str(item.times)] for item in counted]
    return table(caption, ["", "count"], rows, "numbers counted")


def comparison_table(rows: Sequence[tuple[str, Comparison]]) -> str:
    """Say of each test set whether the second run is better."""
    head = ["", "difference in WER %", "interval", "p", "verdict", "better", "worse", "equal"]
    lines = [
        [
            escape(name),
            f"<strong>{c.difference:+.2f}</strong>",
            f"{c.interval.low:+.2f} to {c.interval.high:+.2f}",
            f"{c.p_value:.4f}",
            escape(verdict(c)),
            str(c.better),
            str(c.worse),
            str(c.equal),
        ]
        for name, c in rows
    ]
    return table("Second run against the first", head, lines, "numbers")


def verdict(comparison: Comparison) -> str:
    """Say in words what a comparison shows."""
    if not comparison.is_significant:
        return "no significant difference"
    return "second is better" if comparison.difference < 0 else "second is worse"


def _bar(part: ErrorGroup, largest: float) -> str:
    rate, (low, high) = part.errors.rate, part.interval
    low, high = (100.0 * value / largest for value in (low, high))
    return (
        '<span class="rate"><span class="bar">'
        f'<span class="fill" style="width:{100 * rate / largest:.1f}%"></span>'
        f'<span class="whisker" style="left:{low:.1f}%;width:{high - low:.1f}%"></span></span>'
        f'<span class="value">{rate:.2f}</span></span>'
    )


def _named(item: Counted) -> str:
    if item.ref == GAP:
        return f"<ins>{escape(item.hyp)}</ins>"
    if item.hyp == GAP:
        return f"<del>{escape(item.ref)}</del>"
    return f"{escape(item.ref)} <span class='arrow'>&rarr;</span> {escape(item.hyp)}"


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


def utterance(shown: Shown) -> str:
    """Write one utterance."""
    record = shown.record
    errors = record.errors
    facts = [
        number_of_errors(errors.total),
        f"WER {errors.rate:.1f} %",
        f"{errors.ins} ins {errors.dels} del {errors.subs} sub",
    ]
    if record.duration:
        facts.append(f"{record.duration:.1f} s")
    if record.speaker:
        facts.append(f"speaker {escape(record.speaker)}")
    anchor = escape(record.id, quote=True)
    return (
        f'<article tabindex="0" id="{anchor}" data-words="{_words(shown)}">'
        f'<h4>{escape(record.id)}</h4><p class="facts">{" &middot; ".join(facts)}</p>'
        f"{_player(shown.sound)}{alignment(record.alignment, record.word_times)}"
        f"{_tokens(record)}{_others(shown)}</article>"
    )


def alignment(pairs: Sequence[AlignedPair], times: Sequence[float] = ()) -> str:
    """Write aligned words; errors differ by strokes and signs as well as by colour.

    Args:
        pairs: of words.
        times: seconds of each recognised word; empty if they are not known.
    """
    waiting = list(times)
    return f'<p class="alignment">{" ".join(_pair(pair, waiting) for pair in pairs)}</p>'


def _pair(pair: AlignedPair, times: list[float]) -> str:
    time = f' title="{times.pop(0):.2f} s"' if pair.hyp != GAP and times else ""
    ref, hyp = escape(pair.ref), escape(pair.hyp)
    if pair.is_correct:
        return f"<span{time}>{ref}</span>"
    if pair.ref == GAP:
        return f'<span class="e i"{time}><ins>{hyp}</ins></span>'
    if pair.hyp == GAP:
        return f'<span class="e d"><del>{ref}</del></span>'
    return f'<span class="e s"{time}><del>{ref}</del><ins>{hyp}</ins></span>'


def _player(sound: str) -> str:
    if not sound:
        return ""
    return f'<audio controls preload="none" src="{escape(sound, quote=True)}"></audio>'


def _tokens(record: UtteranceRecord) -> str:
    if not record.times:
        return ""
    pieces = "".join(
        f"<span><b>{escape(token.replace(WORD_START, '_'))}</b>{time:.2f}</span>"
        for token, time in zip(record.tokens, record.times, strict=False)
    )
    summary = "<summary>token times in seconds</summary>"
    return f'<details>{summary}<p class="tokens">{pieces}</p></details>'


def _others(shown: Shown) -> str:
    """List what the other methods recognised, each transcript once."""
    methods: dict[tuple[str, ...], list[str]] = {}
    for name, record in shown.others.items():
        methods.setdefault(tuple(record.hyp), []).append(name)
    rows = []
    for names in methods.values():
        record = shown.others[names[0]]
        said = "<p>the same</p>" if record.hyp == shown.record.hyp else alignment(record.alignment)
        titles = "<br>".join(escape(name) for name in names)
        rows.append(f"<dt>{titles}, {number_of_errors(record.errors.total)}</dt><dd>{said}</dd>")
    return f'<dl class="others">{"".join(rows)}</dl>' if rows else ""


def number_of_errors(errors: int) -> str:
    """Say how many there are."""
    return f"{errors or 'no'} error{'' if errors == 1 else 's'}"


def _words(shown: Shown) -> str:
    """Return what the search field looks through."""
    record = shown.record
    text = " ".join([record.id, record.speaker, *record.ref, *record.hyp])
    return escape(text.lower(), quote=True)
