"""One sound recognised while it comes in: samples in any pieces, what was said so far."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from zipasr.audio.loading import SAMPLING_RATE, Samples
from zipasr.base.errors import DataError
from zipasr.cli.chunkwise import HearsChunks
from zipasr.cli.recogniser import CAUSAL_TAIL, LOG_ZERO
from zipasr.data.features import NUM_MEL_BINS, LiveFbank
from zipasr.encoder.masks import MIN_FRAMES
from zipasr.search.protocol import Utterance

#: Samples that are read at a time, a tenth of a second.
PIECE = SAMPLING_RATE // 10

BYTES_PER_SAMPLE = 2

# Of WAV, FLAC, OGG and MP3 files: as samples they would be noise, and at another rate.
HEADERS = (b"RIFF", b"fLaC", b"OggS", b"ID3")


class LiveStream:
    """A stream that is given its sound bit by bit.

    The result at the end is that of ``streaming_decode.py`` on the whole sound.

    Args:
        recogniser: a causal model with a search that goes on from chunk to chunk.
    """

    def __init__(self, recogniser: HearsChunks) -> None:
        self._recogniser = recogniser
        self._size = recogniser.size
        self._fbank = LiveFbank()
        self._hearing = recogniser.start(1)
        self._waiting = torch.zeros(0, NUM_MEL_BINS)  # features from the next chunk on
        self._num_features = 0
        self._index = 0

    def push(self, samples: Samples) -> Utterance:
        """Take samples in, 16 kHz in [-1, 1]; return what is recognised so far."""
        self._take(self._fbank.push(samples))
        while len(self._waiting) >= self._size.frames:
            self._advance(self._waiting[: self._size.frames], self._size.frames)
        return self.found

    def finish(self) -> Utterance:
        """Say that nothing more will come; return what was said."""
        self._take(self._fbank.finish())
        num_frames = max(self._num_features + CAUSAL_TAIL, MIN_FRAMES)
        while self._index < self._size.num_chunks(num_frames):
            part = self._waiting[: self._size.frames]
            filled = F.pad(part, (0, 0, 0, self._size.frames - len(part)), value=LOG_ZERO)
            self._advance(filled, self._size.valid(self._index, num_frames))
        return self.found

    @property
    def found(self) -> Utterance:
        """What is recognised so far."""
        return self._recogniser.search.results(self._hearing.search)[0]

    def _take(self, features: Tensor) -> None:
        self._waiting = torch.cat([self._waiting, features])
        self._num_features += len(features)

    def _advance(self, chunk: Tensor, valid: int) -> None:
        lens = torch.tensor([valid])
        self._hearing = self._recogniser.advance(self._hearing, chunk.unsqueeze(0), lens)
        self._waiting = self._waiting[self._size.step :]
        self._index += 1


def in_pieces(samples: Samples) -> Iterator[Samples]:
    """Yield a sound as if it came in while it is spoken."""
    for start in range(0, len(samples), PIECE):
        yield samples[start : start + PIECE]


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
    """Text that grows: one line that is written over on a terminal, else a line when it changed."""

    def __init__(self) -> None:
        self._shown = ""

    def show(self, text: str) -> None:
        """Show what was said so far."""
        if text == self._shown:
            return
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
        else:
            sys.stderr.write(f"{text}\n")
        self._shown = text

    def close(self) -> None:
        """Leave the line."""
        if self._shown and sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
