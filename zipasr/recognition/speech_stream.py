"""Speech as it comes, for programs: samples of any rate in, text that grows out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import soxr

from zipasr.audio.loading import Samples, samples_in_range
from zipasr.base.constants import SAMPLING_RATE, WINDOW
from zipasr.base.errors import DataError, UserError
from zipasr.recognition.transcription import Transcription, text_of
from zipasr.recognition.word_bounds import bounded
from zipasr.text.timed_words import Word

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
    over, and with a beam search a little longer.

    Args:
        frame: seconds of an encoder frame.
    """

    def __init__(self, frame: float) -> None:
        self._frame = frame
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
    def _words(self) -> list[Word]:
        """Words so far, with times."""

    @property
    def seconds(self) -> float:
        """Seconds of sound so far."""
        return self._num_samples / SAMPLING_RATE

    @property
    def words(self) -> tuple[Word, ...]:
        """What is recognised so far."""
        if self._is_silent or self._num_samples < WINDOW:
            return ()
        return tuple(bounded(self._words(), self.seconds, self._frame))

    @property
    def text(self) -> str:
        """The words so far, on one line."""
        return text_of(self.words)

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
        """Say that nothing more will come; return what was said. More calls return it again."""
        if not self._is_over:
            if self._resampler is not None:
                self._take(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
            self._is_over = True
            self._finish()
        return Transcription(self.words, seconds=self.seconds)

    def __enter__(self: S) -> S:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
