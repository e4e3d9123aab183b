"""Report of a run as Markdown, and the pages that are written together."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from lhotse import CutSet, MonoCut
from lhotse.cut import Cut

from zipasr.base.files import write_text
from zipasr.scoring.breakdown import (
    Counted,
    confusions,
    hot_word_errors,
    overview,
    total_errors,
    worst,
)
from zipasr.scoring.calibration import reliability, word_outcomes
from zipasr.scoring.decodings import (
    Decoding,
    UtteranceRecord,
    by_test_set,
    decoding_files,
    labels,
    read_decodings,
)
from zipasr.scoring.html_report import (
    WORST,
    Report,
    comparison_of,
    html_page,
    matching,
    number_of_errors,
    size_and_scoring,
    sound_addresses,
    verdict,
)
from zipasr.scoring.latency import latency_rows
from zipasr.scoring.result_files import Transcript
from zipasr.scoring.training_facts import training_facts
from zipasr.scoring.word_errors import GAP

SHOWN = 10
# Characters that Markdown reads as marks, also in the middle of a line.
_MARKS = re.compile(r"[\\`*_\[\]|~$]")


def short_report(report: Report) -> str:
    """Return the short version of the page: rates, commonest errors, worst utterances."""
    lines = [f"# {_plain(report.title)}", "", _plain(report.subtitle), ""]
    for name, decodings in by_test_set(report.decodings).items():
        lines += _section(name, decodings)
    lines += [f"- {name}: {_plain(text)}" for name, text in report.training.rows]
    return "\n".join(lines).rstrip() + "\n"


def short_comparison(first: Report, second: Report) -> str:
    """Return a line for each test set: the difference of two runs and whether it is chance."""
    lines = []
    for name, a, b in matching(first.decodings, second.decodings):
        found = comparison_of(a, b)
        low, high = found.interval
        metric = total_errors(a.records).metric
        lines.append(
            f"{name}: {found.difference:+.2f} % {metric} ({low:+.2f} to {high:+.2f}), "
            f"p = {found.p_value:.4f}: {verdict(found)} "
            f"({found.better} utterances better, {found.worse} worse, {found.equal} equal)"
        )
    return "\n".join(lines) + "\n"


def _section(name: str, decodings: Sequence[Decoding]) -> list[str]:
    overviews = [overview(decoding.records) for decoding in decodings]
    metric, other = overviews[0].errors.metric, overviews[0].other_metric
    lines = [
        f"## {_plain(name)}",
        "",
        _plain(size_and_scoring(overviews[0], decodings[0].setting)),
        "",
        f"| method | {metric} % | 95 % interval | ins | del | sub | {other} % | RTF |",
        "|---|---|---|---|---|---|---|---|",
    ]
    names = labels(decodings)
    for label, decoding, figures in zip(names, decodings, overviews, strict=True):
        rtf = decoding.setting.rtf
        errors, (low, high) = figures.errors, figures.interval
        lines.append(
            f"| {_plain(label)} | {errors.rate:.2f} | {low:.2f} to {high:.2f} | "
            f"{errors.ins} | {errors.dels} | {errors.subs} | {figures.other_rate:.2f} | "
            f"{'-' if rtf is None else f'{rtf:.4f}'} |"
        )
    lines += _hot_words(list(zip(names, decodings, strict=True)))
    lines += _latency(list(zip(names, decodings, strict=True)), metric)
    main = decodings[0]
    certain = reliability(*word_outcomes(main.records))
    if certain.words:
        lines += ["", f"Expected calibration error of the words' confidence, {_plain(names[0])}: "]
        lines[-1] += f"{certain.error:.2f} % ({certain.words} words)"
    found = confusions(main.records, SHOWN)
    common = [*found.substitutions, *found.deletions, *found.insertions]
    common = sorted(common, key=lambda item: -item.times)[:SHOWN]
    if common:
        lines += ["", f"Commonest errors of {_plain(names[0])}:", ""]
        lines += [f"- {item.times} x {_named(item)}" for item in common]
        lines += ["", "Worst utterances:", ""]
        lines += [_utterance(record) for record in worst(main.records, SHOWN)]
    return [*lines, ""]


def _hot_words(named: Sequence[tuple[str, Decoding]]) -> list[str]:
    """Return a table of the errors in listed words and in others, if there are hot-words."""
    rows = [
        f"| {_plain(row.name)} | {row.listed.rate:.2f} | {row.listed.ref_words} | "
        f"{row.others.rate:.2f} | {row.others.ref_words} |"
        for row in hot_word_errors(named)
    ]
    head = [
        "",
        "Words of the hot-words (B-WER) and all others (U-WER):",
        "",
        "| method | B-WER % | words | U-WER % | words |",
        "|---|---|---|---|---|",
    ]
    return [*head, *rows] if rows else []


def _latency(named: Sequence[tuple[str, Decoding]], metric: str) -> list[str]:
    """Return a table of the decodings that were streamed, if there are any."""
    rows = latency_rows(named)
    if not rows:
        return []
    return [
        "",
        f"Latency of words, in seconds from {rows[0].found.since}:",
        "",
        f"| streamed | chunk | {metric} % | first word | in 95 % | last word | in 95 % | changed "
        "| computing |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {_plain(row.label)} | {row.chunk:.2f} s | {row.rate:.2f} | "
            f"{row.found.first.median:.2f} | {row.found.first.late:.2f} | "
            f"{row.found.last.median:.2f} | {row.found.last.late:.2f} | "
            f"{row.found.changed} of {row.found.words} | "
            f"{'-' if row.computing is None else f'{row.computing:.3f}'} |"
            for row in rows
        ),
    ]


def _utterance(record: UtteranceRecord) -> str:
    said, heard = _words(" ".join(record.ref)), _words(" ".join(record.hyp))
    # In a code span nothing but its end has a meaning, and yet no tag shall stand in the file.
    name = _words(record.id) if set("`<>&\n") & {*record.id} else f"`{record.id}`"
    return f"- {name} ({number_of_errors(record.errors.total)}): *{said}* as *{heard}*"


def _named(item: Counted) -> str:
    ref, hyp = _words(item.ref), _words(item.hyp)
    if item.ref == GAP:
        return f"inserted {hyp}"
    if item.hyp == GAP:
        return f"lost {ref}"
    return f"{ref} as {hyp}"


def _plain(text: str) -> str:
    """Return text on one line, without tags and without what ends a cell of a table."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")


def _words(text: str) -> str:
    """Return words that Markdown shows as they are."""
    return html.escape(_MARKS.sub(r"\\\g<0>", " ".join(text.split())), quote=False)


BYTES_PER_MB = 1e6


def records_of(transcripts: Iterable[Transcript], cuts: CutSet) -> list[UtteranceRecord]:
    """Join what was recognised with what is known of the cuts."""
    known = {cut.id: cut for cut in cuts}
    return [
        UtteranceRecord(
            id=t.cut_id,
            ref=t.ref,
            hyp=t.hyp,
            tokens=t.tokens,
            times=t.times,
            log_prob=t.log_prob,
            confidences=[round(one, 6) for one in t.confidences],
            **_facts(known[t.cut_id]),
        )
        for t in transcripts
    ]


def word_ends(cut: Cut) -> list[float]:
    """Return the second of a cut at which each of its words ends, if its manifest says it."""
    return [
        round(item.end, 3)
        for supervision in cut.supervisions
        for item in (supervision.alignment or {}).get("word", [])
        if item.symbol.strip()
    ]


def _facts(cut: Cut) -> dict[str, Any]:
    """Return duration, speaker and place in a recording."""
    speakers = [s.speaker for s in cut.supervisions if s.speaker]
    facts = {"duration": cut.duration, "speaker": str(speakers[0]) if speakers else ""}
    if not isinstance(cut, MonoCut) or not cut.has_recording:
        return facts
    sources = [s for s in cut.recording.sources if s.type == "file"]
    return facts | {"audio": sources[0].source if sources else "", "start": cut.start}


def write_report(exp_dir: Path, embed_audio_mb: float = 10.0, reload: float = 0.0) -> list[Path]:
    """Write the page and its short version into the folder of a run; return their paths."""
    report = replace(load_report(exp_dir, embed_audio_mb), reload=reload)
    html, short = exp_dir / "report.html", exp_dir / "report.md"
    write_text(html, html_page(report), "replace")
    write_text(short, short_report(report), "replace")
    return [html, short]


def load_report(exp_dir: Path, embed_audio_mb: float) -> Report:
    """Read what was decoded and find the speech of the worst utterances.

    Of a run in which nothing is decoded yet it has the training alone.
    """
    training = training_facts(exp_dir)
    in_training = training.rows and not decoding_files(exp_dir)
    decodings = [] if in_training else read_decodings(exp_dir)
    room = embed_audio_mb * BYTES_PER_MB
    return Report(
        title=str(exp_dir),
        subtitle=decodings[0].setting.model if decodings else "nothing is decoded yet",
        decodings=decodings,
        sounds=sound_addresses(_shown(decodings), exp_dir, room),
        training=training,
    )


def _shown(decodings: Sequence[Decoding]) -> list[UtteranceRecord]:
    """Return the utterances of a page, the worst of each test set in turn."""
    best = [group[0] for group in by_test_set(decodings).values()]
    in_turn = zip_longest(*(worst(decoding.records, WORST) for decoding in best))
    return [record for record in chain.from_iterable(in_turn) if record is not None]
