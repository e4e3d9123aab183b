"""Transcripts and alignments as plain text, JSON, CTM and SRT."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from zipasr.text.scripts import joined
from zipasr.text.timed_words import Word

# A subtitle has at most this many characters and seconds; a pause that long ends it too.
LINE_CHARACTERS = 64
LINE_SECONDS = 6.0
LINE_PAUSE = 0.8

Format = Callable[[str, Sequence[Word]], str]


def plain_text(_: str, words: Sequence[Word]) -> str:
    """Return the words on one line."""
    return joined([word.text for word in words]) + "\n"


def json_text(name: str, words: Sequence[Word]) -> str:
    """Return an object with the text, each word's times in seconds and its confidence."""
    timed = [
        {
            "word": word.text,
            "start": round(word.start, 3),
            "end": round(word.end, 3),
            "confidence": round(word.confidence, 4),
        }
        for word in words
    ]
    content = {"file": name, "text": plain_text(name, words).strip(), "words": timed}
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def ctm_text(name: str, words: Sequence[Word]) -> str:
    """Return NIST's CTM: file, channel, start, duration and word, a line each."""
    file = "_".join(name.split()) or "unnamed"
    return "".join(
        f"{file} 1 {word.start:.3f} {word.end - word.start:.3f} {word.text}\n" for word in words
    )


def srt_text(_: str, words: Sequence[Word]) -> str:
    """Return SubRip subtitles."""
    blocks = []
    for number, line in enumerate(subtitle_lines(words), start=1):
        text = joined([word.text for word in line])
        blocks.append(f"{number}\n{_clock(line[0].start)} --> {_clock(line[-1].end)}\n{text}\n")
    return "\n".join(blocks)


def subtitle_lines(words: Sequence[Word]) -> list[list[Word]]:
    """Group words into lines that are short to read and do not span a pause."""
    lines: list[list[Word]] = []
    for word in words:
        if not lines or _ends_before(lines[-1], word):
            lines.append([])
        lines[-1].append(word)
    return lines


def _ends_before(line: Sequence[Word], word: Word) -> bool:
    characters = sum(len(one.text) + 1 for one in line) + len(word.text)
    return (
        characters > LINE_CHARACTERS
        or word.end - line[0].start > LINE_SECONDS
        or word.start - line[-1].end > LINE_PAUSE
    )


def _clock(seconds: float) -> str:
    milliseconds = round(1000 * seconds)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d},{rest % 1000:03d}"


FORMATS: dict[str, Format] = {
    "txt": plain_text,
    "json": json_text,
    "srt": srt_text,
    "ctm": ctm_text,
}


def alignment_table(_: str, aligned: Sequence[Word]) -> str:
    """Return a line for each word, and below it one for each of its tokens."""
    rows = [("word", "start", "duration", "score")]
    for one in aligned:
        rows.append((one.text, *_numbers(one.start, one.end, one.confidence)))
        rows += [
            (f"  {token.text}", *_numbers(token.start, token.end, token.confidence))
            for token in one.tokens
        ]
    width = max(len(row[0]) for row in rows)
    return "".join(
        f"{text:<{width}}  {start:>9}  {duration:>8}  {score:>6}\n"
        for text, start, duration, score in rows
    )


def _numbers(start: float, end: float, score: float) -> tuple[str, str, str]:
    return f"{start:.3f}", f"{end - start:.3f}", f"{score:.4f}"


def alignment_json(name: str, aligned: Sequence[Word]) -> str:
    """Return an object with the text, and words and their tokens with times and scores."""
    words = [
        {
            "word": one.text,
            **_entries(one.start, one.end, one.confidence),
            "tokens": [
                {"token": token.text, **_entries(token.start, token.end, token.confidence)}
                for token in one.tokens
            ],
        }
        for one in aligned
    ]
    content = {"file": name, "text": plain_text(name, aligned).strip(), "words": words}
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _entries(start: float, end: float, score: float) -> dict[str, Any]:
    return {
        "start": round(start, 3),
        "end": round(end, 3),
        "duration": round(end - start, 3),
        "score": round(score, 4),
    }


def alignment_ctm(name: str, aligned: Sequence[Word]) -> str:
    """Return NIST's CTM with the score as the confidence: a line for each word."""
    lines = ctm_text(name, aligned).splitlines()
    return "".join(
        f"{line} {one.confidence:.4f}\n" for line, one in zip(lines, aligned, strict=True)
    )


#: By the names of ``FORMATS``.
ALIGNMENT_FORMATS: dict[str, Format] = {
    "txt": alignment_table,
    "json": alignment_json,
    "srt": srt_text,
    "ctm": alignment_ctm,
}
