"""The report of a training run: from its result files to report.html and report.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from lhotse import CutSet, MonoCut
from lhotse.cut import Cut

from zipasr.base.files import atomic_path
from zipasr.scoring.breakdown import worst
from zipasr.scoring.decodings import Decoding, UtteranceRecord, by_test_set, read_decodings
from zipasr.scoring.html_report import WORST, Report, html_page, sound_addresses
from zipasr.scoring.markdown_report import short_report
from zipasr.scoring.result_files import Transcript

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


def write_report(exp_dir: Path, embed_audio_mb: float = 10.0) -> list[Path]:
    """Write the page and its short version into the folder of a run; return their paths."""
    report = load_report(exp_dir, embed_audio_mb)
    html, short = exp_dir / "report.html", exp_dir / "report.md"
    write_text(html, html_page(report))
    write_text(short, short_report(report))
    return [html, short]


def load_report(exp_dir: Path, embed_audio_mb: float) -> Report:
    """Read what was decoded and find the speech of the worst utterances."""
    decodings = read_decodings(exp_dir)
    room = embed_audio_mb * BYTES_PER_MB
    return Report(
        title=str(exp_dir),
        subtitle=decodings[0].setting.model,
        decodings=decodings,
        sounds=sound_addresses(_shown(decodings), exp_dir, room),
    )


def _shown(decodings: Sequence[Decoding]) -> list[UtteranceRecord]:
    """Return the utterances of a page, the worst of each test set in turn."""
    best = [group[0] for group in by_test_set(decodings).values()]
    in_turn = zip_longest(*(worst(decoding.records, WORST) for decoding in best))
    return [record for record in chain.from_iterable(in_turn) if record is not None]


def write_text(path: Path, text: str) -> None:
    """Write a file that is whole or not there; half a character becomes a question mark."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")
