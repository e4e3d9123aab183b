"""Characters of the transcripts, with counts and their normalised forms."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping

from zipasr.text.normalise import normalise

_MOST_ROWS = 60


def count_characters(texts: Iterable[str]) -> Counter[str]:
    """Count every character, spaces included."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    return counts


def normalisation_effect(char: str) -> str:
    """Say what ``normalise`` makes of a character inside a word, such as ``-> A``."""
    # Between letters: an apostrophe alone is punctuation, in a word it is a letter.
    after = normalise(f"X{char}X")
    if char.isspace():
        return "separates words"
    if after == f"X{char}X":
        return "kept"
    if after == "X X":
        return "becomes a space"
    return f"becomes {after[1:-1]}" if after[1:-1] else "goes away"


def characters_text(counts: Mapping[str, int], unseen: Iterable[str] = ()) -> str:
    """Format the table of characters: the commonest first, rare ones in one line.

    Args:
        counts: of the training transcripts.
        unseen: characters of other splits that training never sees.
    """
    ordered = sorted(counts, key=lambda char: (-counts[char], char))
    shown, rest = ordered[:_MOST_ROWS], ordered[_MOST_ROWS:]
    lines = [f"characters of the transcripts: {len(counts)} different", *map(_row(counts), shown)]
    if rest:
        lines.append(f"  and {len(rest)} rarer ones: {' '.join(rest)}")
    never = sorted(set(unseen) - set(counts))
    if never:
        named = ", ".join(f"{char} ({_name(char)})" for char in never[:10])
        lines.append(f"  {len(never)} in other splits are never seen in training: {named}")
    return "\n".join(lines) + "\n"


def _row(counts: Mapping[str, int]):  # type: ignore[no-untyped-def]
    def row(char: str) -> str:
        seen = "' '" if char.isspace() else char
        return (
            f"  {seen:3} {counts[char]:9d}  {_name(char)}; normalised: {normalisation_effect(char)}"
        )

    return row


def _name(char: str) -> str:
    return unicodedata.name(char, f"U+{ord(char):04X}").lower()
