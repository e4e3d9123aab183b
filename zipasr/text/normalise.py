"""Text normalisation for scoring: case, quotes, punctuation, spaces."""

from __future__ import annotations

import re
import unicodedata

# Typographic apostrophes and primes that writers use for the plain one.
_APOSTROPHES = re.compile("[`\u00b4\u02bb\u02bc\u2018\u2019\u2032\uff07]")
# A word is letters, combining marks, digits and apostrophes; the rest separates words. ``\w``
# leaves combining marks out and takes the underscore in, hence the function below.
_APOSTROPHE_ALONE = re.compile(r"(?<!\S)'+(?!\S)")


def normalise(text: str) -> str:
    """Return ``text`` in upper case, without punctuation, words separated by single spaces.

    Apostrophes stay when they belong to a word (``DON'T``, ``'TIS``, ``BOYS'``), digits stay,
    accents stay. Doing it twice changes nothing more.
    """
    # Upper-casing can undo the composed form (and the other way round): go on until it is stable.
    previous = None
    while text != previous:
        previous = text
        text = unicodedata.normalize("NFKC", text.upper())
    text = _APOSTROPHES.sub("'", text)
    text = "".join(char if _in_word(char) else " " for char in text)
    return " ".join(_APOSTROPHE_ALONE.sub(" ", text).split())


def _in_word(char: str) -> bool:
    return char == "'" or unicodedata.category(char)[0] in "LMN"
