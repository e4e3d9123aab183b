"""Transcripts of a recording in the formats that other programs read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from zipasr.text.words import Word

# A subtitle has at most this many characters and seconds; a pause that long ends it too.
LINE_CHARACTERS = 64
LINE_SECONDS = 6.0
LINE_PAUSE = 0.8

Format = Callable[[str, Sequence[Word]], str]


def plain_text(_: str, words: Sequence[Word]) -> str:
    """Return the words on one line."""
    return " ".join(word.text for word in words) + "\n"


def json_text(name: str, words: Sequence[Word]) -> str:
    """Return an object with the text and each word's times in seconds."""
    timed = [
        {"word": word.text, "start": round(word.start, 3), "end": round(word.end, 3)}
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
        text = " ".join(word.text for word in line)
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
