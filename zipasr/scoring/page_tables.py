"""Tables of a report as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from zipasr.scoring.align import GAP
from zipasr.scoring.breakdown import Counted, Overview, Part
from zipasr.scoring.statistics import CONFIDENCE, Comparison


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


def parts_table(caption: str, parts: Sequence[Part], most: int = 30) -> str:
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


def _bar(part: Part, largest: float) -> str:
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
