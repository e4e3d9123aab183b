"""Raw audio from the standard input, and text that grows on the terminal."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np

from zipasr.audio.loading import Samples
from zipasr.base.errors import DataError
from zipasr.base.progress import terminal_width
from zipasr.recognition.speech_stream import PIECE, Stream
from zipasr.recognition.transcription import Segment

BYTES_PER_SAMPLE = 2

# Of WAV, FLAC, OGG and MP3 files: as samples they would be noise, and at another rate.
HEADERS = (b"RIFF", b"fLaC", b"OggS", b"ID3")


def pcm_pieces(source: BinaryIO) -> Iterator[Samples]:
    """Yield the samples of raw sound: 16 kHz, 16 bit, one channel, little-endian, without a header.

    Ctrl-C ends the sound, not the program, whenever it comes; a second one ends that, too.

    Raises:
        DataError: it has a header.
    """
    left, is_first = b"", True
    with _EndOfSound() as end:
        while data := end.read(source):
            data = left + data
            if is_first and data.startswith(HEADERS):
                raise DataError(
                    "the standard input is a sound file, not raw sound.",
                    "give the name of the file instead of -, or send 16 kHz, 16 bit, one channel, "
                    "without a header, as arecord -t raw -f S16_LE -r 16000 does.",
                )
            is_first = False
            whole = len(data) // BYTES_PER_SAMPLE * BYTES_PER_SAMPLE
            left = data[whole:]
            yield np.frombuffer(data[:whole], dtype="<i2").astype(np.float32) / 32768.0


class _EndOfSound:
    """Ctrl-C as the end of a sound: at once while it is waited for, else after the piece."""

    def __init__(self) -> None:
        self._is_over = self._is_reading = False

    def __enter__(self) -> _EndOfSound:
        self._before = signal.signal(signal.SIGINT, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _stop(self, *_: object) -> None:
        if self._is_over or self._is_reading:
            raise KeyboardInterrupt
        self._is_over = True

    def read(self, source: BinaryIO) -> bytes:
        """Return the next piece of sound; nothing at the end."""
        self._is_reading = True
        try:
            return b"" if self._is_over else source.read(PIECE * BYTES_PER_SAMPLE)
        except KeyboardInterrupt:
            return b""
        finally:
            self._is_reading = False


class LiveText:
    """Text that grows: one line that is written over on a terminal, else a line when it changed.

    Args:
        tell: writes the line of an utterance that has ended; ``None`` where none is wanted.
    """

    def __init__(self, tell: Callable[[str], object] | None = None) -> None:
        self._tell, self._num_told = tell, 0
        self._shown = ""

    def update(self, stream: Stream) -> None:
        """Write the utterances that have ended since the last call, and show what came behind."""
        self._tell_ended(stream)
        self.show(stream.text)

    def end(self, stream: Stream) -> None:
        """Write what is left of a stream that is over."""
        self._tell_ended(stream)
        self.close()

    def _tell_ended(self, stream: Stream) -> None:
        ended = stream.segments[self._num_told :]
        self._num_told += len(ended)
        if self._tell is None:
            return
        for segment in ended:
            self.close()
            if segment.words:
                self._tell(segment_line(segment))

    def show(self, text: str) -> None:
        """Show what was said so far, on a terminal as much of its end as fits into the line."""
        if text == self._shown:
            return
        if sys.stderr.isatty():
            width = terminal_width()
            fits = text if len(text) <= width else f"...{text[3 - width :]}"
            sys.stderr.write(f"\r\x1b[K{fits}")
            sys.stderr.flush()
        else:
            sys.stderr.write(f"{text}\n")
        self._shown = text

    def close(self) -> None:
        """Leave the line."""
        if self._shown and sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        self._shown = ""


def segment_line(segment: Segment) -> str:
    """Write an utterance that has ended, with the seconds of its first and last word."""
    return f"{segment.start:10.2f} to {segment.end:8.2f} s  {segment.text}\n"
