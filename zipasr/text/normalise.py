"""Text normalisation: one spelling for scoring, and the steps of an import."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

# Typographic apostrophes and primes that writers use for the plain one.
_APOSTROPHES = re.compile("[`\u00b4\u02bb\u02bc\u2018\u2019\u2032\uff07]")
# A word is letters, combining marks, digits and apostrophes; the rest separates words. ``\w``
# leaves combining marks out and takes the underscore in, hence the function below.
_APOSTROPHE_ALONE = re.compile(r"(?<!\S)'+(?!\S)")
# They join or part letters inside a word, in Persian and in the scripts of India.
_JOINERS = "\u200c\u200d"

UPPER, LOWER, NO_PUNCTUATION = "upper", "lower", "no-punctuation"
_NONE = "none"
#: Values of ``--normalise``, the mildest first; "none" is the composed form alone.
NORMALISATIONS = (
    _NONE,
    UPPER,
    LOWER,
    NO_PUNCTUATION,
    f"{UPPER},{NO_PUNCTUATION}",
    f"{LOWER},{NO_PUNCTUATION}",
)

COMPOSED = "in composed Unicode form (NFC)"
SPACES = "white space became single blanks"
EMPTIED = "nothing is left"
_WHAT = {
    UPPER: "in upper case",
    LOWER: "in lower case",
    NO_PUNCTUATION: "without punctuation",
}
_MOST_EXAMPLES = 5


def normalise(text: str) -> str:
    """Return ``text`` in upper case, without punctuation, words separated by single spaces.

    Apostrophes stay when they belong to a word (``DON'T``, ``'TIS``, ``BOYS'``), digits stay,
    accents stay. Doing it twice changes nothing more.
    """
    text = _stable(text, lambda spelt: unicodedata.normalize("NFKC", spelt.upper()))
    return _without_punctuation(text)


def read_steps(value: str) -> tuple[str, ...]:
    """Return the steps of a value of ``--normalise``: names with commas between them.

    "1" and "true" of earlier versions are upper case without punctuation, "0" and "false" none.

    Raises:
        ValueError: a step has no such name, or two contradict each other.
    """
    earlier = {"1": NORMALISATIONS[4], "true": NORMALISATIONS[4], "0": _NONE, "false": _NONE}
    value = earlier.get(value.lower(), value)
    names = dict.fromkeys(name.strip().lower() for name in value.split(","))
    steps = (UPPER, LOWER, NO_PUNCTUATION)
    for name in names:
        if name not in (_NONE, *steps):
            raise ValueError(
                f"--normalise {value}: {name!r} is none of {', '.join((_NONE, *steps))}"
            )
    if _NONE in names and len(names) > 1:
        raise ValueError(f"--normalise {value}: {_NONE} stands alone")
    if UPPER in names and LOWER in names:
        raise ValueError(f"--normalise {value}: give {UPPER} or {LOWER}")
    return tuple(step for step in steps if step in names)


def normalised_transcript(text: str, steps: Sequence[str]) -> str:
    """Return a transcript after the steps of an import, in NFC and with single blanks.

    Args:
        text: as it is written.
        steps: of ``read_steps``.
    """
    return Normaliser(steps)(text)


@dataclass(slots=True)
class Normaliser:
    """Normalisation of the transcripts of an import, which counts what it changes.

    Attributes:
        steps: of ``read_steps``.
        transcripts: how many were read.
        counts: what was changed to how many of them.
        examples: for each kind of change, transcripts before and after it.
    """

    steps: Sequence[str] = ()
    transcripts: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def __call__(self, text: str) -> str:
        """Return a transcript as it shall be, and count."""
        self.transcripts += 1
        begun = text
        text = self._changed(text, unicodedata.normalize("NFC", text), COMPOSED)
        text = self._changed(text.strip(), " ".join(text.split()), SPACES)
        for step in self.steps:
            text = self._changed(text, _STEPS[step](text), _WHAT[step])
        if begun.strip() and not text:
            self._changed(begun, "", EMPTIED)
        return text

    def lines(self) -> list[str]:
        """Say what was changed: a line for each kind, and its examples below."""
        lines = []
        for kind, count in self.counts.most_common():
            lines.append(f"{count} of {self.transcripts} transcripts: {kind}")
            lines += [f"  {before!r} became {after!r}" for before, after in self.examples[kind]]
        return lines

    def _changed(self, before: str, after: str, kind: str) -> str:
        if before != after:
            self.counts[kind] += 1
            examples = self.examples.setdefault(kind, [])
            if len(examples) < _MOST_EXAMPLES:
                examples.append((before, after))
        return after


def _stable(text: str, spell: Callable[[str], str]) -> str:
    """Spell anew until nothing changes: another case can undo the composed form, and inversely."""
    previous = None
    while text != previous:
        previous, text = text, spell(text)
    return text


def _upper(text: str) -> str:
    return _stable(text, lambda spelt: unicodedata.normalize("NFC", spelt.upper()))


def _lower(text: str) -> str:
    return _stable(text, lambda spelt: unicodedata.normalize("NFC", spelt.lower()))


def _without_punctuation(text: str, kept: str = "'") -> str:
    text = _APOSTROPHES.sub("'", text)
    text = "".join(char if char in kept or _in_word(char) else " " for char in text)
    return " ".join(_APOSTROPHE_ALONE.sub(" ", text).split())


def _no_punctuation(text: str) -> str:
    words = _without_punctuation(text, f"'{_JOINERS}").split()
    return " ".join(word for word in (word.strip(_JOINERS) for word in words) if word.strip("'"))


def _in_word(char: str) -> bool:
    return unicodedata.category(char)[0] in "LMN"


_STEPS = {UPPER: _upper, LOWER: _lower, NO_PUNCTUATION: _no_punctuation}
