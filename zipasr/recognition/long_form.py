"""Recordings of any length: cut into windows that a model can process, results joined."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from typing import Literal, NamedTuple, TypeAlias

from zipasr.audio.loading import Samples, Sound
from zipasr.audio.silence_windows import Window, cut_into_windows
from zipasr.base.constants import SAMPLING_RATE
from zipasr.recognition.transcription import TimedHypothesis, text_of
from zipasr.text.timed_words import Word, join_windows

WordTimes = Literal["auto", "ctc", "transducer"]
Tell = Callable[[Window, str], None]


class Cutting(NamedTuple):
    """How recordings are cut: seconds, seconds, windows side by side."""

    window: float = 25.0
    overlap: float = 2.0
    batch_windows: int = 4


class Piece(NamedTuple):
    """The samples of a window, at 16 kHz, and the second of the recording at which it begins."""

    samples: Samples
    start: float

    @property
    def seconds(self) -> float:
        """Length."""
        return len(self.samples) / SAMPLING_RATE


RecognisePieces: TypeAlias = Callable[[Sequence[Piece]], Sequence[Sequence[TimedHypothesis]]]
"""Pieces, recognised as one batch, to the hypotheses of each, best first, at least one."""


def windows_of(sound: Sound, cutting: Cutting) -> list[Window]:
    """Return the windows of a recording, at least one."""
    return cut_into_windows(sound.samples, SAMPLING_RATE, cutting.window, cutting.overlap)


def piece_of(sound: Sound, window: Window) -> Piece:
    """Return the samples of a window."""
    start, end = round(window.start * SAMPLING_RATE), round(window.end * SAMPLING_RATE)
    return Piece(sound.samples[start:end], window.start)


def words_in(
    recognise: RecognisePieces, sound: Sound, cutting: Cutting, frame: float, tell: Tell
) -> list[Word]:
    """Recognise a recording from its beginning to its end.

    Args:
        recognise: the model.
        sound: at 16 kHz.
        cutting: of long recordings.
        frame: seconds of an encoder frame.
        tell: is called with each window and its text as soon as it is recognised.

    Returns:
        Words in order, with times in seconds from the beginning of the recording.
    """
    windows = windows_of(sound, cutting)
    found: list[Sequence[TimedHypothesis]] = []
    for window, hypotheses in _in_groups(recognise, sound, windows, cutting.batch_windows):
        tell(window, text_of(hypotheses[0].words))
        found.append(hypotheses)
    (best,) = join_hypotheses(windows, found, 1)
    return within(best.words, sound.seconds, frame)


def _in_groups(
    recognise: RecognisePieces, sound: Sound, windows: Sequence[Window], size: int
) -> Iterator[tuple[Window, Sequence[TimedHypothesis]]]:
    remaining = iter(windows)
    while group := list(islice(remaining, size)):
        yield from zip(group, recognise([piece_of(sound, w) for w in group]), strict=True)


def join_hypotheses(
    windows: Sequence[Window], found: Sequence[Sequence[TimedHypothesis]], num: int
) -> list[TimedHypothesis]:
    """Join the hypotheses of neighbouring windows to those of the recording.

    The first is made of the first of each window. The others follow by how much log-probability
    they give away: a window is heard by itself, so that what its alternatives give away adds up.

    Args:
        windows: in order.
        found: for each window, hypotheses with times of the recording, best first.
        num: most hypotheses to return.

    Returns:
        At least one.
    """
    # Of each: what it gives away beside the best, and its words.
    joined = [(_given_away(found[0], n), one) for n, one in enumerate(found[0][:num])]
    for (left, right), hypotheses in zip(pairwise(windows), found[1:], strict=True):
        border = 0.5 * (left.end + right.start)
        grown = [
            (lost + _given_away(hypotheses, n), before, one)
            for lost, before in joined
            for n, one in enumerate(hypotheses[:num])
        ]
        grown.sort(key=lambda entry: entry[0])  # stable: of equals, the best of each come first
        joined = [(lost, _joined(before, one, border)) for lost, before, one in grown[:num]]
    return [one for _, one in joined]


def _given_away(hypotheses: Sequence[TimedHypothesis], place: int) -> float:
    # A search may rank by another score than this one.
    return max(0.0, hypotheses[0].log_prob - hypotheses[place].log_prob)


def _joined(before: TimedHypothesis, after: TimedHypothesis, border: float) -> TimedHypothesis:
    words = join_windows(before.words, after.words, border)
    return TimedHypothesis(tuple(words), before.log_prob + after.log_prob)


def within(words: Sequence[Word], seconds: float, frame: float) -> list[Word]:
    """Let no word end after the sound: what is behind it helps to recognise the last one.

    Args:
        words: of a recording.
        seconds: length of the recording.
        frame: seconds of an encoder frame.
    """
    last = max(0.0, seconds - frame)
    return [
        replace(
            word,
            start=min(word.start, last),
            end=min(word.end, seconds),
            tokens=tuple(
                replace(one, start=min(one.start, last), end=min(one.end, seconds))
                for one in word.tokens
            ),
        )
        for word in words
    ]
