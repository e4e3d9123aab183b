"""Speech as it comes, for programs: samples of any rate in, text that grows out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import soxr

from zipasr.audio.loading import Samples, samples_in_range
from zipasr.base.constants import SAMPLING_RATE, WINDOW
from zipasr.base.errors import DataError, UserError
from zipasr.recognition.transcription import Segment, Transcription, text_of
from zipasr.recognition.word_bounds import bounded
from zipasr.text.timed_words import Token, Word, Written, words_of_tokens

if TYPE_CHECKING:
    from zipasr.scoring.calibration import Calibration

S = TypeVar("S", bound="Stream")

#: Samples that are read at a time, a tenth of a second.
PIECE = SAMPLING_RATE // 10


def in_pieces(samples: Samples) -> Iterator[Samples]:
    """Yield a sound as if it came in while it is spoken."""
    for start in range(0, len(samples), PIECE):
        yield samples[start : start + PIECE]


class Stream(ABC):
    """Recognition of speech as it comes; also a context manager, which ends it.

    What it knows so far stands in ``text`` and ``words``; a word may still change until it is
    over, and with a beam search a little longer. Where ends of utterances are looked for, these
    two begin anew after each, and ``segments`` has what was said before.

    Args:
        frame: seconds of an encoder frame.
        written: from joined pieces to text.
        calibration: of the confidence of words; ``None`` for the model's own.
    """

    def __init__(
        self, frame: float, written: Written, calibration: Calibration | None = None
    ) -> None:
        self._frame, self._written, self._calibration = frame, written, calibration
        self._segments: list[Segment] = []
        self._ended: list[Token] = []
        self._num_samples = 0
        self._is_silent = True
        self._is_over = False
        self._rate: int | None = None
        self._resampler: soxr.ResampleStream | None = None

    @abstractmethod
    def _push(self, samples: Samples) -> None:
        """Take samples at 16 kHz."""

    @abstractmethod
    def _finish(self) -> None:
        """Say that nothing more will come."""

    @abstractmethod
    def _tokens(self) -> list[Token]:
        """Tokens since the last end point, with times from the beginning of the stream."""

    @property
    def seconds(self) -> float:
        """Seconds of sound so far."""
        return self._num_samples / SAMPLING_RATE

    @property
    def words(self) -> tuple[Word, ...]:
        """What is recognised so far, since the last end of an utterance."""
        return self._words_of(self._tokens())

    @property
    def text(self) -> str:
        """The words so far, since the last end of an utterance, on one line."""
        return text_of(self._spoken(self._tokens()))

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The utterances that have ended; after ``finish`` the last one, too."""
        return tuple(self._segments)

    def accept(self, samples: Any, rate: int = SAMPLING_RATE) -> None:
        """Take the next samples.

        Args:
            samples: array or tensor (num_samples,): floating-point in [-1, 1], or integers.
            rate: in Hz; the same in all calls.

        Raises:
            DataError: the rate has changed, or these are no finite samples of one channel.
            UserError: the stream is over.
        """
        if self._is_over:
            raise UserError("the stream is over.", "begin another one: model.stream().")
        array = samples.numpy() if hasattr(samples, "numpy") else samples
        if getattr(array, "ndim", 0) != 1 or array.dtype.kind not in "fiu":
            raise DataError("a stream takes arrays of one dimension.", "give one channel.")
        in_range = samples_in_range(array)
        if not np.isfinite(in_range).all():
            raise DataError("the samples are not all finite.", "look at where they come from.")
        self._take(self._at_16_khz(in_range, rate))

    def finish(self) -> Transcription:
        """Say that nothing more will come; return what was said. More calls return it again.

        A word that an end of an utterance has cut, after 20 s without a pause, is whole there.
        """
        if not self._is_over:
            if self._resampler is not None:
                self._take(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
            self._is_over = True
            self._finish()
            if self.words:
                self._segments.append(Segment(self.words, self.seconds))
        words = self._words_of([*self._ended, *self._tokens()])
        return Transcription(words, seconds=self.seconds)

    def _end_utterance(self, tokens: Sequence[Token], end_point: float) -> None:
        """Keep what was said since the last end point; the search begins anew.

        Args:
            tokens: that were recognised.
            end_point: seconds of sound that were searched.
        """
        end_point = min(end_point, self.seconds)
        self._segments.append(Segment(self._words_of(tokens, end_point), end_point))
        self._ended += tokens

    def _words_of(self, tokens: Sequence[Token], end: float | None = None) -> tuple[Word, ...]:
        """Return the words of tokens; all of them end before the second ``end``, if given."""
        words = self._spoken(tokens)
        if self._calibration is not None:
            words = self._calibration.calibrated(words)
        return tuple(bounded(words, self.seconds if end is None else end, self._frame))

    def _spoken(self, tokens: Sequence[Token]) -> list[Word]:
        """Return the words of tokens, none where nothing can have been heard."""
        if self._is_silent or self._num_samples < WINDOW:
            return []
        return words_of_tokens(tokens, self._written)

    def __enter__(self: S) -> S:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            self.finish()

    def _take(self, samples: Samples) -> None:
        self._num_samples += len(samples)
        self._is_silent = self._is_silent and not samples.any()
        if len(samples):
            self._push(samples)

    def _at_16_khz(self, samples: Samples, rate: int) -> Samples:
        if self._rate not in (None, rate):
            raise DataError(
                f"the rate was {self._rate} Hz, now it is {rate} Hz.", "begin another stream."
            )
        if self._rate is None and rate != SAMPLING_RATE:
            self._resampler = soxr.ResampleStream(
                rate, SAMPLING_RATE, 1, dtype="float32", quality="HQ"
            )
        self._rate = rate
        if self._resampler is None:
            return samples
        resampled: Samples = self._resampler.resample_chunk(samples)
        return resampled
