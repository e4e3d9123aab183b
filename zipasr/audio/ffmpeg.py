"""Sound of the formats that ffmpeg reads, where it is installed: M4A, AAC, WMA, AMR, video."""

from __future__ import annotations

import math
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zipasr.audio.faults import CANNOT_DECODE, UndecodableError
from zipasr.audio.header import TOLERANCE, cut

_BLOCK_BYTES = 1 << 22
_DURATION = re.compile(r"Duration: (\d+):(\d\d):(\d\d\.\d+)")
# It takes noise for MP3, and says so.
_LOW_SCORE = "detected only with low score"
_ROUNDED = 0.5
_GUESSED = "Estimating duration from bitrate"


class Stream(NamedTuple):
    """Sound as it is decoded.

    Attributes:
        rate: samples a second.
        channels: their number.
        blocks: (num_samples, channels) float32.
    """

    rate: int
    channels: int
    blocks: Iterator[NDArray[np.float32]]


def is_installed() -> bool:
    """Say whether there is a program ``ffmpeg``."""
    return shutil.which("ffmpeg") is not None


@contextmanager
def through_ffmpeg(path: Path) -> Iterator[Stream]:
    """Decode the first sound of a file.

    Raises:
        UndecodableError: ffmpeg cannot decode it, or only a part. The blocks raise it too.
    """
    # A playlist could name other files and addresses: this one alone is read.
    words: list[str | bytes] = ["ffmpeg", "-hide_banner", "-nostats", "-nostdin"]
    words += ["-v", "level+info", "-protocol_whitelist", "file", "-i", b"file:" + os.fsencode(path)]
    words += ["-map", "0:a:0", "-f", "wav", "-c:a", "pcm_f32le", "pipe:1"]
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=said) as process,
    ):
        try:
            assert process.stdout is not None
            form = _form(process.stdout)
            if form is None:
                process.wait()
                raise UndecodableError(_fault(said))
            rate, channels = form
            blocks = _blocks(process, channels)
            yield Stream(rate, channels, _judged(blocks, process, said, rate))
        finally:
            process.kill()


def _form(stream: IO[bytes]) -> tuple[int, int] | None:
    """Read the header of a WAV file up to its sound: rate and channels."""
    if len(stream.read(12)) < 12:
        return None
    form = b""
    while len(head := stream.read(8)) == 8:
        if head[:4] == b"data":
            break
        chunk = stream.read(int.from_bytes(head[4:], "little"))
        form = chunk if head[:4] == b"fmt " else form
    if len(form) < 8:
        return None
    channels, rate = struct.unpack("<HI", form[2:8])
    return rate, channels


def _blocks(process: subprocess.Popen[bytes], channels: int) -> Iterator[NDArray[np.float32]]:
    assert process.stdout is not None
    frame = 4 * channels
    while data := process.stdout.read(max(1, _BLOCK_BYTES // frame) * frame):
        whole = len(data) // frame * frame
        if whole:
            yield np.frombuffer(data[:whole], "<f4").reshape(-1, channels)


def _judged(
    blocks: Iterator[NDArray[np.float32]],
    process: subprocess.Popen[bytes],
    said: IO[bytes],
    rate: int,
) -> Iterator[NDArray[np.float32]]:
    """Yield the blocks; raise in the end if there should have been more."""
    count = 0
    for block in blocks:
        count += len(block)
        yield block
    failed = process.wait() != 0
    text = _text(said)
    if failed or _LOW_SCORE in text:
        raise UndecodableError(_fault(said))
    length = _DURATION.search(text)
    if length is None or _GUESSED in text:
        return
    hours, minutes, seconds = map(float, length.groups())
    declared = 3600 * hours + 60 * minutes + seconds
    # A film may be longer than its sound; and durations are rounded.
    slack = TOLERANCE if "[error]" in text else math.inf if " Video: " in text else _ROUNDED
    if declared - count / rate > slack:
        raise UndecodableError(cut(count / rate, declared))


def _text(said: IO[bytes]) -> str:
    said.seek(0)
    return said.read().decode("utf-8", "replace")


def _fault(said: IO[bytes]) -> str:
    text = _text(said)
    lines = [line for line in text.splitlines() if "[error]" in line or "[fatal]" in line]
    why = re.sub(r"^(\[[^]]*\] ?)+", "", lines[-1]).strip() if lines else "no sound in it"
    if _LOW_SCORE in text:
        why = "no format that it knows"
    return f"{CANNOT_DECODE}, ffmpeg: {why.rstrip('.')}"
