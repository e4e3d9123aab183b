"""Check that a tokenizer gives transcripts back as they are: what it cannot write, and changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from zipasr.text.normalise import NORMALISATIONS, normalised_transcript
from zipasr.text.scripts import units_of
from zipasr.text.timed_words import WORD_START
from zipasr.text.tokenizer import BLANK, SENTENCE_ENDS, Tokenizer, plain_text

UNKNOWN = "<unk>"
# What has a meaning of its own to tokenizers, so that it is no text in a transcript.
RESERVED = (BLANK, SENTENCE_ENDS, UNKNOWN, WORD_START)

# Up to these shares, characters that cannot be written are told; beyond them training is stopped:
# a rare letter costs its words, a missing alphabet, or a full stop at every end, the recogniser.
MOST_CHARACTERS = 0.01
MOST_TRANSCRIPTS = 0.1

_AT_ONCE = 1000
_MOST_EXAMPLES = 3
_MOST_SHOWN = 8
_LONGEST_SHOWN = 60


class Change(NamedTuple):
    """A transcript and what comes back of it."""

    before: str
    after: str


@dataclass(slots=True)
class Writability:
    """What a tokenizer makes of transcripts.

    Attributes:
        transcripts: how many were tried.
        characters: in them, white space apart.
        unwritable: the characters that become the unknown token, and how often.
        with_unwritable: transcripts that have such characters.
        changed: transcripts that come back otherwise, though all their characters are known.
        reserved: transcripts that hold a name with a meaning of its own, by name.
        examples: of transcripts that come back otherwise.
    """

    transcripts: int = 0
    characters: int = 0
    unwritable: Counter[str] = field(default_factory=Counter)
    with_unwritable: int = 0
    changed: int = 0
    reserved: Counter[str] = field(default_factory=Counter)
    examples: list[Change] = field(default_factory=list)

    @property
    def unwritable_share(self) -> float:
        """Part of the characters that become the unknown token, 0 to 1."""
        return self.unwritable.total() / max(1, self.characters)

    @property
    def transcript_share(self) -> float:
        """Part of the transcripts that have such characters, 0 to 1."""
        return self.with_unwritable / max(1, self.transcripts)

    @property
    def is_whole(self) -> bool:
        """Whether every transcript comes back as it is."""
        return not (self.unwritable or self.changed or self.reserved)

    @property
    def is_usable(self) -> bool:
        """Whether so little is lost that a recogniser can be trained on the rest."""
        return (
            self.unwritable_share <= MOST_CHARACTERS and self.transcript_share <= MOST_TRANSCRIPTS
        )

    def unwritable_text(self) -> str:
        """Say in half a sentence how much cannot be written, and which characters."""
        shown = [f"{char!r} ({times})" for char, times in self.unwritable.most_common(_MOST_SHOWN)]
        rest = len(self.unwritable) - len(shown)
        more = f" and {rest} others" if rest > 0 else ""
        return (
            f"{100 * self.unwritable_share:.3g} % of the characters, in "
            f"{100 * self.transcript_share:.3g} % of the transcripts, such as "
            f"{', '.join(shown)}{more}"
        )

    def lines(self) -> Iterator[str]:
        """Say what does not come back as it is, a line for each kind; nothing if all does."""
        if self.unwritable:
            yield f"the tokenizer cannot write {self.unwritable_text()}: they become {UNKNOWN}"
        for name, count in self.reserved.most_common():
            yield (
                f"{count} transcripts hold {name}, which is no text to a tokenizer: it gets lost, "
                "or comes back as something else"
            )
        if self.changed:
            yield f"{self.changed} transcripts come back otherwise from the tokenizer"
        for before, after in self.examples:
            yield f"  {_shown(before)} comes back as {_shown(after)}"


def check_writable(texts: Iterable[str], tokenizer: Tokenizer) -> Writability:
    """Encode and decode every transcript, and compare; blanks count where they part words.

    Args:
        texts: one transcript each.
        tokenizer: of the model.
    """
    found = Writability()
    lines = map(plain_text, texts)
    while batch := list(islice(lines, _AT_ONCE)):
        encoded = tokenizer.encode(batch)
        for text, ids, after in zip(batch, encoded, tokenizer.decode(encoded), strict=True):
            found.transcripts += 1
            found.characters += len(text) - text.count(" ")
            if after != text and units_of(after) != units_of(text):
                _note(found, Change(text, after), tokenizer, knows=tokenizer.unknown_id not in ids)
    return found


def _note(found: Writability, change: Change, tokenizer: Tokenizer, *, knows: bool) -> None:
    """Count a transcript that comes back otherwise, once for each reason."""
    reserved = [name for name in RESERVED if name in change.before]
    found.reserved.update(reserved)
    if not knows:
        found.unwritable.update(tokenizer.unwritable(change.before))
        found.with_unwritable += 1
    elif not reserved:
        found.changed += 1
    if len(found.examples) < _MOST_EXAMPLES:
        found.examples.append(change)


class Proposal(NamedTuple):
    """A normalisation with which a tokenizer can write more.

    Attributes:
        name: value of ``--normalise``.
        share: part of the characters that it still cannot write, 0 to 1.
    """

    name: str
    share: float


def best_normalisation(texts: Sequence[str], tokenizer: Tokenizer) -> Proposal | None:
    """Return the mildest normalisation after which a tokenizer can write transcripts, if any."""
    for name in NORMALISATIONS[1:]:
        steps = tuple(name.split(","))
        after = check_writable((normalised_transcript(t, steps) for t in texts), tokenizer)
        if after.is_usable and after.characters:
            return Proposal(name, after.unwritable_share)
    return None


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}...")
