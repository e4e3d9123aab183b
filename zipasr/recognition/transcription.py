"""Results of recognition: words with times and confidence, and what else may have been said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zipasr.base.errors import UserError
from zipasr.text.scripts import joined
from zipasr.text.timed_words import Token, Word


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What may have been said.

    Attributes:
        text: its words.
        tokens: their pieces.
        log_prob: natural logarithm of the probability that the search gives to it; of a long
            recording the sum over its windows.
    """

    text: str
    tokens: tuple[str, ...]
    log_prob: float


@dataclass(frozen=True, slots=True)
class Transcription:
    """What was said in a recording.

    Attributes:
        words: with times and confidence.
        nbest: hypotheses, best first; the first is the text.
        seconds: length of the recording.
        name: of the file, where there is one.
        about: how its sound was read: rate, channels, what was done to them, what is odd about it.
        error: why there is no text: the recording could not be read.
    """

    words: tuple[Word, ...] = ()
    nbest: tuple[Hypothesis, ...] = ()
    seconds: float = 0.0
    name: str = ""
    about: str = ""
    error: UserError | None = None

    @property
    def text(self) -> str:
        """The words on one line."""
        return text_of(self.words)

    @property
    def tokens(self) -> tuple[Token, ...]:
        """The tokens of the words, with times and probabilities."""
        return tuple(token for word in self.words for token in word.tokens)


@dataclass(frozen=True, slots=True)
class Segment:
    """An utterance of a stream, from one end point to the next.

    Attributes:
        words: of it; none where nothing but silence came for long.
        end_point: second of the sound at which it was known to be over.
    """

    words: tuple[Word, ...]
    end_point: float

    @property
    def text(self) -> str:
        """The words on one line."""
        return text_of(self.words)

    @property
    def start(self) -> float:
        """Second at which the first word begins; without words the end point."""
        return self.words[0].start if self.words else self.end_point

    @property
    def end(self) -> float:
        """Second at which the last word ends; without words the end point."""
        return self.words[-1].end if self.words else self.end_point


@dataclass(frozen=True, slots=True)
class TimedHypothesis:
    """What may have been said in a window or a recording, with times."""

    words: tuple[Word, ...]
    log_prob: float

    @property
    def plain(self) -> Hypothesis:
        """The same without times."""
        pieces = tuple(token.text for word in self.words for token in word.tokens)
        return Hypothesis(text_of(self.words), pieces, self.log_prob)


def text_of(words: Sequence[Word]) -> str:
    """Return words on one line."""
    return joined([word.text for word in words])
