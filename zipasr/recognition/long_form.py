"""Recordings of any length, one or many: windows that share batches, results joined."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from zipasr.audio.loading import Audio, Samples, Sound, has_sound, name_of, sound_of
from zipasr.audio.segmentation import CutRules, Window, cut_into_windows
from zipasr.audio.sound_profile import SoundProfile, measure
from zipasr.audio.speech_activity import Pause, pauses_in
from zipasr.base.constants import SAMPLING_RATE
from zipasr.base.errors import DataError, UserError
from zipasr.recognition.transcription import TimedHypothesis, Transcription, text_of
from zipasr.recognition.word_bounds import bounded
from zipasr.text.timed_words import Word, join_windows

logger = logging.getLogger(__name__)

WordTimes = Literal["auto", "ctc", "transducer"]
Tell = Callable[[Window, str], None]


class Cutting(NamedTuple):
    """How recordings are cut: seconds, seconds, windows side by side; for what model."""

    window: float = 25.0
    overlap: float = 2.0
    batch_windows: int = 4
    profile: SoundProfile = SoundProfile()


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


class Prepared(NamedTuple):
    """A recording made ready.

    Attributes:
        sound: as loud as the model is used to.
        windows: of it, in order; none where nobody speaks.
        warning: what makes it unlike the training data; nothing if it is alike.
    """

    sound: Sound
    windows: list[Window]
    warning: str = ""


def prepared(sound: Sound, cutting: Cutting) -> Prepared:
    """Return a recording at the level of the training data, and its windows.

    Args:
        sound: at 16 kHz.
        cutting: of long recordings.
    """
    profile = cutting.profile
    measures, warning = measure(sound.samples), ""
    if measures is not None:
        warning = profile.warning(measures)
        if gain := profile.gain(measures.level):
            factor = np.float32(10.0 ** (gain / 20.0))
            sound = sound._replace(samples=sound.samples * factor)
    rules = CutRules(
        longest=cutting.window,
        overlap=cutting.overlap,
        usual=profile.usual,
        pause=profile.pause,
        margin=profile.margin,
    )
    return Prepared(sound, cut_into_windows(sound.samples, rules), warning)


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
    sound, windows, warning = prepared(sound, cutting)
    if warning:
        logger.warning("%s", warning)
    found: list[Sequence[TimedHypothesis]] = []
    for window, hypotheses in _in_groups(recognise, sound, windows, cutting.batch_windows):
        tell(window, text_of(hypotheses[0].words))
        found.append(hypotheses)
    if not found:
        return []
    (best,) = join_hypotheses(windows, found, 1)
    return bounded(best.words, sound.seconds, frame, pauses_in(sound.samples))


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


@dataclass(slots=True)
class Recording:
    """A recording on its way: its windows, and what was found in each."""

    name: str
    about: str = ""
    seconds: float = 0.0
    windows: list[Window] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    pauses: Sequence[Pause] = ()
    found: dict[int, Sequence[TimedHypothesis]] = field(default_factory=dict)
    error: UserError | None = None

    def result(self, nbest: int, frame: float) -> Transcription:
        """Return what was said in it, when all windows are done."""
        if not self.pieces:
            return Transcription((), (), self.seconds, self.name, self.about, self.error)
        found = [self.found[place] for place in range(len(self.pieces))]
        joined = join_hypotheses(self.windows, found, nbest)
        words = bounded(joined[0].words, self.seconds, frame, self.pauses)
        plain = tuple(one.plain for one in joined)
        return Transcription(tuple(words), plain, self.seconds, self.name, self.about)


def read_recording(audio: Audio, cutting: Cutting, keeps_errors: bool) -> Recording:
    """Read a recording and cut it into windows; one without sound has none.

    Raises:
        DataError: it cannot be read, and errors are not kept.
    """
    name = name_of(audio)
    try:
        sound = sound_of(audio)
    except DataError as error:
        if not keeps_errors:
            raise
        return Recording(name, error=error)
    if not has_sound(sound.samples):
        return Recording(name, sound.about, sound.seconds)
    sound, windows, warning = prepared(sound, cutting)
    pieces = [piece_of(sound, one) for one in windows]
    about = "; ".join(filter(None, (sound.about, warning)))
    pauses = pauses_in(sound.samples)
    return Recording(name, about, sound.seconds, windows, pieces, pauses)


def grouped(recordings: Iterable[Recording], seconds: float) -> Iterator[list[Recording]]:
    """Yield neighbouring recordings of at least ``seconds`` together, the last group less."""
    group: list[Recording] = []
    for recording in recordings:
        group.append(recording)
        if sum(one.seconds for one in group) >= seconds:
            yield group
            group = []
    if group:
        yield group


def recognise_group(
    recognise: RecognisePieces, group: Sequence[Recording], batch_seconds: float
) -> None:
    """Recognise the windows of recordings in batches of similar lengths."""
    waiting = [(one, n) for one in group for n in range(len(one.pieces))]
    waiting.sort(key=lambda entry: entry[0].pieces[entry[1]].seconds)
    queue = deque(waiting)
    while queue:
        batch = [queue.popleft()]
        # The next one is the longest: all are padded to its length.
        while queue and (len(batch) + 1) * _seconds(queue[0]) <= batch_seconds:
            batch.append(queue.popleft())
        results = recognise([one.pieces[n] for one, n in batch])
        for (one, n), hypotheses in zip(batch, results, strict=True):
            one.found[n] = hypotheses


def _seconds(entry: tuple[Recording, int]) -> float:
    recording, place = entry
    return recording.pieces[place].seconds
