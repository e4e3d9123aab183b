"""Many recordings at once: windows of similar lengths share a batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from zipasr.audio.loading import Audio, has_sound, name_of, sound_of
from zipasr.audio.silence_windows import Window
from zipasr.base.errors import DataError, UserError
from zipasr.recognition.long_form import (
    Cutting,
    Piece,
    RecognisePieces,
    join_hypotheses,
    piece_of,
    windows_of,
    within,
)
from zipasr.recognition.transcription import TimedHypothesis, Transcription


@dataclass(slots=True)
class Recording:
    """A recording on its way: its windows, and what was found in each."""

    name: str
    seconds: float = 0.0
    windows: list[Window] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    found: dict[int, Sequence[TimedHypothesis]] = field(default_factory=dict)
    error: UserError | None = None

    def result(self, nbest: int, frame: float) -> Transcription:
        """Return what was said in it, when all windows are done."""
        if not self.pieces:
            return Transcription(seconds=self.seconds, name=self.name, error=self.error)
        found = [self.found[place] for place in range(len(self.pieces))]
        joined = join_hypotheses(self.windows, found, nbest)
        words = within(joined[0].words, self.seconds, frame)
        plain = tuple(one.plain for one in joined)
        return Transcription(tuple(words), plain, self.seconds, self.name)


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
        return Recording(name, sound.seconds)
    windows = windows_of(sound, cutting)
    return Recording(name, sound.seconds, windows, [piece_of(sound, one) for one in windows])


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
