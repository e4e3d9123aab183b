"""What a corpus of one's own consists of, whatever form it comes in: utterances."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from zipasr.audio.quarantine import LeftOut

AUDIO_SUFFIXES = {
    ".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au", ".w64", ".sph", ".m4a",
}  # fmt: skip

NO_TEXT = "empty transcript"
SAME_ID = "same id as another utterance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """A piece of a sound file and what is said in it.

    Attributes:
        id: unique in the corpus.
        audio: the file; or, with ``command``, where the command's output is going to be.
        text: the transcript, spaces squeezed.
        start: seconds from the beginning of the file.
        end: seconds; None is the end of the file.
        channel: the only channel to use; None takes all that are not silent.
        speaker: None when it is not known.
        split: name given by the source; None when it gives none.
        command: writes the audio to its standard output (Kaldi's pipes).
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

    @property
    def is_whole(self) -> bool:
        """The utterance is all of its file."""
        return self.start == 0.0 and self.end is None


@dataclass(slots=True)
class Found:
    """What a source holds.

    Attributes:
        kind: of the source, for people.
        utterances: with a text, each with an id of its own.
        left_out: what cannot be used, found without opening a sound file.
        notes: small things that were put right, with their counts.
    """

    kind: str
    utterances: list[Utterance] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)

    def add(self, utterance: Utterance) -> None:
        """Take an utterance in, unless it has no text or the id of another one."""
        reason = NO_TEXT if not utterance.text else ""
        if utterance.id in self.ids:
            reason = SAME_ID
        if reason:
            self.left_out.append(LeftOut(str(utterance.audio), reason, utterance.id))
            return
        self.ids.add(utterance.id)
        self.utterances.append(utterance)


def squeezed(text: str) -> str:
    """Return the words separated by single spaces."""
    return " ".join(text.split())
