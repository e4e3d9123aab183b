"""Utterances of a corpus of one's own, with unique ids, and the rows of it that are left out."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from zipasr.audio.quarantine import LeftOut

NO_TEXT = "empty transcript"
NOT_UNICODE = "characters that no Unicode text has (lone surrogates)"
RENAMED = "utterances whose id was that of another one: -2, -3 ... was added to it"
CONTROLS = "transcripts with control characters: they are blanks now"
UNSPOKEN = "utterances of dev or test without a text, kept: what is recognised there is insertions"

PURPOSES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "tr"),
    "valid": ("dev", "valid", "val", "cv"),
    "test": ("test", "eval", "tt"),
}

_EXAMPLES = 10


def purpose_of(split: str) -> str | None:
    """Return train, valid or test for a split of that name (``test-clean``); None for others."""
    word, *others = split.lower().replace("_", "-").split("-")
    if word == "train" and others[:1] == ["dev"]:
        return "valid"  # ESPnet's usual name, of what it takes out of the training data
    for purpose, names in PURPOSES.items():
        if word in names or any(word.startswith(name) and len(name) > 2 for name in names):
            return purpose
    return None


def is_held_out(split: str | None) -> bool:
    """Say whether a split is dev or test, which are kept as they are: nothing learns from them."""
    return split is not None and purpose_of(split) in ("valid", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """A segment of a sound file with its transcript.

    Attributes:
        id: unique in the corpus.
        audio: the file; or, with ``command``, where the command's output is going to be.
        text: the transcript, spaces squeezed.
        start: seconds from the beginning of the file.
        end: seconds; None is the end of the file.
        channel: the only channel to use, counted from 0; None takes all that are not silent.
        speaker: None when it is not known.
        split: name given by the source; None when it gives none.
        command: writes the audio to its standard output (Kaldi's pipes).
        where: file and line of the source, for messages.
    """

    id: str
    audio: Path
    text: str
    start: float = 0.0
    end: float | None = None
    channel: int | None = None
    speaker: str | None = None
    split: str | None = None
    command: str | None = None
    where: str = field(default="", compare=False)

    @property
    def is_whole(self) -> bool:
        """The utterance is all of its file."""
        return self.start == 0.0 and self.end is None

    @property
    def is_held_out(self) -> bool:
        """The source puts it into dev or test, so that no model learns from it."""
        return is_held_out(self.split)


class RowFault(Exception):  # noqa: N818
    """A row of the source that cannot be used.

    Args:
        reason: in a few words, the same for all rows of its kind.
        detail: what is particular to the row.
        is_fault: False for what is left out on purpose.
    """

    def __init__(self, reason: str, detail: str = "", *, is_fault: bool = True) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.is_fault = is_fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A row, an utterance or a file of the source that is left out.

    Attributes:
        reason: in a few words, the same for all of its kind.
        detail: what is particular to this one; may be empty.
        where: file and line of the source; may be empty.
        audio: path of the sound file; empty when it is not known.
        utterance: id; empty when a whole file or a line that could not be read is left out.
        lost: number of utterances that are lost.
        is_fault: False for what is left out on purpose: it counts for no limit.
    """

    reason: str
    detail: str = ""
    where: str = ""
    audio: str = ""
    utterance: str = ""
    lost: int = 1
    is_fault: bool = True

    @property
    def why(self) -> str:
        """Reason, detail and place in one line."""
        said = f"{self.reason}: {self.detail}" if self.detail else self.reason
        return f"{said} [{self.where}]" if self.where else said

    def left_out(self) -> LeftOut:
        """Return the row of ``quarantine.tsv``."""
        path = self.audio or ("" if self.utterance else self.where.partition(", line ")[0])
        return LeftOut(path, self.why, self.utterance)


@dataclass(slots=True)
class ImportedCorpus:
    """Contents of a source.

    Attributes:
        kind: of the source, for people.
        utterances: each with an id of its own, and all but those held out with a text.
        dropped: what cannot be used.
        notes: small things that were put right, with their counts.
        examples: of notes, the first places where they hold.
        unused: columns, fields and files of the source that nothing is taken from, each with the
            files that have it, or why.
    """

    kind: str
    utterances: list[Utterance] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    unused: dict[str, list[str]] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)

    def add(self, utterance: Utterance) -> None:
        """Take an utterance in, under an id of its own, unless one to train on has no text."""
        text, id_ = self._clean(utterance.text, utterance.where), self.unique_id(utterance.id)
        reason = "" if text or utterance.is_held_out else NO_TEXT
        if not is_unicode(f"{text}{id_}{utterance.speaker}{utterance.split}{utterance.audio}"):
            reason, id_ = NOT_UNICODE, ascii(id_)
        if reason:
            self.drop(reason, where=utterance.where, audio=utterance.audio, utterance=id_)
        else:
            self.utterances.append(replace(utterance, id=id_, text=text))

    def drop(
        self,
        reason: str,
        detail: str = "",
        *,
        where: str = "",
        audio: Path | str = "",
        utterance: str = "",
        is_fault: bool = True,
    ) -> None:
        """Note something that cannot be used; arguments as of ``Dropped``."""
        self.dropped.append(
            Dropped(
                reason=reason,
                detail=printable(detail),
                where=printable(where),
                audio=str(audio).encode(errors="backslashreplace").decode(),
                utterance=printable(utterance),
                is_fault=is_fault,
            )
        )

    def note(self, what: str, where: str) -> None:
        """Count something that was put right, or taken as it is, and remember where it is."""
        self.notes[what] += 1
        places = self.examples.setdefault(what, [])
        if len(places) < _EXAMPLES:
            places.append(printable(where))

    def notes_text(self) -> list[str]:
        """Return the notes with their counts and examples."""
        return [
            f"{count} {what}{': ' * (what in self.examples)}"
            f"{'; '.join(self.examples.get(what, []))}"
            for what, count in sorted(self.notes.items())
        ]

    def not_used(self, what: str, where: str) -> None:
        """Note something that nothing is taken from."""
        places = self.unused.setdefault(printable(what), [])
        if where not in places:
            places.append(printable(where))

    def unique_id(self, wanted: str) -> str:
        """Return the id, or with ``-2``, ``-3`` ... behind it when another one has it."""
        chosen, count = wanted, 1
        while chosen in self.ids:
            count += 1
            chosen = f"{wanted}-{count}"
        if count > 1:
            self.notes[RENAMED] += 1
        self.ids.add(chosen)
        return chosen

    def _clean(self, text: str, where: str) -> str:
        squeezed = collapse_spaces(text)
        if squeezed.isprintable():
            return squeezed
        cleaned = "".join(" " if unicodedata.category(c) == "Cc" else c for c in squeezed)
        if cleaned != squeezed:
            self.note(CONTROLS, where)
        return collapse_spaces(cleaned)


def collapse_spaces(text: str) -> str:
    """Return the words separated by single spaces.

    Line and page separators of all kinds (U+2028, VT, FF, NEL, FS ...) count as spaces.
    """
    return " ".join(text.split())


def is_unicode(text: str) -> bool:
    """Say whether a text can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str) -> str:
    """Return a text in one line that a terminal can show, with escapes for what it cannot."""
    squeezed = collapse_spaces(text)
    if squeezed.isprintable():
        return squeezed
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in squeezed)
