"""Files of hot-word phrases: one per line, optionally with a score."""

from __future__ import annotations

import logging
import math
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from zipasr.base.errors import DataError
from zipasr.text.scripts import units_of
from zipasr.text.text_io import read_lines
from zipasr.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


class Phrases(NamedTuple):
    """Token ids of phrases, and the score of each; 0 for one without its own."""

    tokens: list[list[int]]
    scores: list[float]


def read_phrases(path: Path, tokenizer: Tokenizer) -> Phrases:
    """Read a file of phrases.

    A line is a phrase in the spelling of the transcripts, and may end in its score, such as
    ``NEW YORK :3.5``. Empty lines are skipped. So is, with a warning, a phrase with characters
    that the tokenizer does not know: the model cannot write it.

    Raises:
        DataError: the file is missing, is no text, has a score that is no number, or no phrase.
    """
    lines = read_lines(path, f"--context-file {path}")
    return phrases_of(lines, f"--context-file {path}", tokenizer)


def phrases_of(lines: Iterable[str], source: str, tokenizer: Tokenizer) -> Phrases:
    """Return the phrases of lines, see ``read_phrases``.

    Args:
        lines: of a file or of a program.
        source: what messages call them.
        tokenizer: of the model.

    Raises:
        DataError: a score is no number, or the model can write no phrase.
    """
    found = Phrases([], [])
    for number, line in enumerate(lines, start=1):
        text, score = _phrase(line, f"{source}:{number}")
        if not text:
            continue
        tokens = _tokens(text, tokenizer)
        if tokens is None:
            logger.warning("%s:%d: the tokenizer cannot write %r; left out", source, number, text)
            continue
        found.tokens.append(tokens)
        found.scores.append(score)
    if not found.tokens:
        raise DataError(
            f"{source} has no phrase that the model can write.",
            "write one phrase per line, in the spelling of the transcripts.",
        )
    return found


def words_of_lines(lines: Iterable[str], source: str) -> list[str]:
    """Return the words of phrases, each once, in the units in which errors are counted.

    Args:
        lines: of a file or of a program; see ``read_phrases``.
        source: what messages call them.

    Raises:
        DataError: a score is no number.
    """
    texts = (_phrase(line, f"{source}:{n}")[0] for n, line in enumerate(lines, start=1))
    return [*dict.fromkeys(word for text in texts for word in units_of(text))]


def _tokens(text: str, tokenizer: Tokenizer) -> list[int] | None:
    """Return the ids of a phrase, in the composed form if need be; None if it cannot be written."""
    for form in (text, unicodedata.normalize("NFC", text)):
        (tokens,) = tokenizer.encode([form])
        if tokenizer.unknown_id not in tokens and tokenizer.decode([tokens]) != [""]:
            return tokens
    return None


def _phrase(line: str, place: str) -> tuple[str, float]:
    text, score = line, "0"
    if match := re.fullmatch(r"(.*\S)\s+:(\S+)\s*", line):
        text, score = match.groups()
    try:
        value = float(score)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{place}: the score {score!r} is not a number.")
    return " ".join(text.split()), value
