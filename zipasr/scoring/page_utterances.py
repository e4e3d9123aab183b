"""Utterances of a report as HTML: what was said above what was recognised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from zipasr.scoring.align import GAP, AlignedPair
from zipasr.scoring.records import Record
from zipasr.text.timed_words import WORD_START


class Shown(NamedTuple):
    """An utterance of the report.

    Attributes:
        record: by the method that the report is about.
        sound: address of its audio, or empty.
        others: method -> the same utterance by that method.
    """

    record: Record
    sound: str
    others: Mapping[str, Record]


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


def _tokens(record: Record) -> str:
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
