"""Words and tokens of a given transcript with times and scores, in the formats of transcripts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from zipasr.text.formats import ctm_text, plain_text, srt_text
from zipasr.text.words import TimedPiece, Word, pieces_of_words, text_of


class AlignedWord(NamedTuple):
    """A word of a transcript, and when it was said.

    Attributes:
        word: with times in seconds.
        score: geometric mean of the probabilities of its tokens at their frames, 0 to 1.
        tokens: of the word, with times; ``log_prob`` is the mean over the frames of a token.
    """

    word: Word
    score: float
    tokens: tuple[TimedPiece, ...]


def aligned_words(pieces: Sequence[TimedPiece]) -> list[AlignedWord]:
    """Join aligned pieces to words; each counts in the score as long as it lasts."""
    return [
        AlignedWord(Word(text_of(word), word[0].start, word[-1].end), _score(word), tuple(word))
        for word in pieces_of_words(pieces)
    ]


def _score(pieces: Sequence[TimedPiece]) -> float:
    seconds = [one.end - one.start for one in pieces]
    total = sum(one.log_prob * length for one, length in zip(pieces, seconds, strict=True))
    return math.exp(total / sum(seconds))


def _words(aligned: Sequence[AlignedWord]) -> list[Word]:
    return [one.word for one in aligned]


def alignment_table(_: str, aligned: Sequence[AlignedWord]) -> str:
    """Return a line for each word, and below it one for each of its tokens."""
    rows = [("word", "start", "duration", "score")]
    for one in aligned:
        rows.append((one.word.text, *_numbers(one.word.start, one.word.end, one.score)))
        rows += [
            (f"  {token.piece}", *_numbers(token.start, token.end, math.exp(token.log_prob)))
            for token in one.tokens
        ]
    width = max(len(row[0]) for row in rows)
    return "".join(
        f"{text:<{width}}  {start:>9}  {duration:>8}  {score:>6}\n"
        for text, start, duration, score in rows
    )


def _numbers(start: float, end: float, score: float) -> tuple[str, str, str]:
    return f"{start:.3f}", f"{end - start:.3f}", f"{score:.4f}"


def alignment_json(name: str, aligned: Sequence[AlignedWord]) -> str:
    """Return an object with the text, and words and their tokens with times and scores."""
    words = [
        {
            "word": one.word.text,
            **_entries(one.word.start, one.word.end, one.score),
            "tokens": [
                {"token": piece, **_entries(start, end, math.exp(log_prob))}
                for piece, start, end, log_prob in one.tokens
            ],
        }
        for one in aligned
    ]
    content = {"file": name, "text": plain_text(name, _words(aligned)).strip(), "words": words}
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _entries(start: float, end: float, score: float) -> dict[str, Any]:
    return {
        "start": round(start, 3),
        "end": round(end, 3),
        "duration": round(end - start, 3),
        "score": round(score, 4),
    }


def alignment_ctm(name: str, aligned: Sequence[AlignedWord]) -> str:
    """Return NIST's CTM with the score as the confidence: a line for each word."""
    lines = ctm_text(name, _words(aligned)).splitlines()
    return "".join(f"{line} {one.score:.4f}\n" for line, one in zip(lines, aligned, strict=True))


def alignment_srt(name: str, aligned: Sequence[AlignedWord]) -> str:
    """Return SubRip subtitles."""
    return srt_text(name, _words(aligned))


#: By the names of ``formats.FORMATS``.
ALIGNMENT_FORMATS: dict[str, Callable[[str, Sequence[AlignedWord]], str]] = {
    "txt": alignment_table,
    "json": alignment_json,
    "srt": alignment_srt,
    "ctm": alignment_ctm,
}
