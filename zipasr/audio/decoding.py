"""Blocks of samples of a sound file, decoded once, in order, from the first to the last."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from zipasr.audio.coded_headers import coded_layout
from zipasr.audio.faults import (
    CANNOT_DECODE,
    CUT,
    EMPTY,
    HTML,
    MISSING,
    NO_FFMPEG,
    NOT_A_FILE,
    PLAYLIST,
    POINTER,
    UndecodableError,
    check_form,
    error_of_system,
)
from zipasr.audio.ffmpeg import is_installed, through_ffmpeg
from zipasr.audio.header import TOLERANCE, Content, Layout, SplicedFile, cut, more
from zipasr.audio.pcm_headers import pcm_layout

BY_FFMPEG = "decoded by ffmpeg"

BLOCK_SAMPLES = 1 << 20
"""Of all channels together."""

_BYTES_OF_HEAD = 512
# Formats without a header, known by their names alone; libsndfile takes any .au for one of them.
_RAW = {".gsm": "GSM610", ".vox": "VOX_ADPCM"}
_RAW_RATE = 8000

Block = NDArray[np.float32]


@dataclass(slots=True, kw_only=True)
class Decoding:
    """A file that is being read.

    Attributes:
        rate: samples a second.
        channels: their number.
        blocks: (num_samples, channels) float32, none of them empty.
        told: what is unusual about the file, for people; complete when all blocks are read.
        is_plain: any program reads the same samples from it.
    """

    rate: int
    channels: int
    blocks: Iterator[Block]
    told: str = ""
    is_plain: bool = False


class _InOrder(soundfile.SoundFile):  # type: ignore[misc]
    """A sound that is read from beginning to end.

    After each block, soundfile goes to the place where it is already. In MP3 that changes what
    comes next, FLAC without a length fails at it, and GSM 6.10 has no places to go to.
    """

    def seekable(self) -> bool:
        """Return False."""
        return False


@contextmanager
def decoding(path: Path) -> Iterator[Decoding]:
    """Open a file for reading its samples.

    Raises:
        UndecodableError: it is no sound that can be read, or not whole. The blocks raise it too.
        ResourceError: the machine lacks file handles or memory.
    """
    with ExitStack() as stack:
        file = stack.enter_context(_opened(path))
        _check_head(file)
        content = Content(file.fileno())
        layout = pcm_layout(content) or coded_layout(content) or Layout()
        if layout.fault:
            raise UndecodableError(layout.fault)
        try:
            sounds = _sounds(file, content, layout, path.suffix.lower())
        except soundfile.LibsndfileError as problem:
            if not is_installed():
                raise UndecodableError(f"{_said(problem)}; {NO_FFMPEG}") from problem
            stream = stack.enter_context(through_ffmpeg(path))
            check_form(stream.rate, stream.channels)
            yield Decoding(
                rate=stream.rate, channels=stream.channels, blocks=stream.blocks, told=BY_FFMPEG
            )
            return
        for sound in sounds:
            stack.enter_context(sound)
        yield _decoding(sounds, file, layout)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open what is a file: opening a pipe waits for somebody to write to it."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise UndecodableError(NOT_A_FILE)
        file = path.open("rb")
    except (FileNotFoundError, ValueError):  # ValueError: a zero byte in the name
        raise UndecodableError(MISSING) from None
    except OSError as problem:
        raise error_of_system(problem) from problem
    with file:
        yield file


def _check_head(file: BinaryIO) -> None:
    """Recognise from the first bytes what no audio library has a word for."""
    try:
        head = os.pread(file.fileno(), _BYTES_OF_HEAD, 0)
    except OSError as problem:
        raise error_of_system(problem) from problem
    if not head:
        raise UndecodableError(EMPTY)
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise UndecodableError(HTML)
    if start.startswith(b"version https://git-lfs"):
        raise UndecodableError(POINTER)
    # ffmpeg would read the files that it names, wherever they are.
    if start.startswith((b"#extm3u", b"ffconcat", b"[playlist]")):
        raise UndecodableError(PLAYLIST)


def _sounds(
    file: BinaryIO, content: Content, layout: Layout, suffix: str
) -> list[soundfile.SoundFile]:
    """Open the parts of a file."""
    if layout.parts:
        return [_InOrder(SplicedFile(content, pieces)) for pieces in layout.parts]
    return [_as_it_is(file, suffix)]


def _as_it_is(file: BinaryIO, suffix: str = "") -> soundfile.SoundFile:
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    try:
        return _InOrder(file.fileno(), closefd=False)
    except soundfile.LibsndfileError:
        if suffix not in _RAW:
            raise
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    return _InOrder(
        file.fileno(),
        samplerate=_RAW_RATE,
        channels=1,
        format="RAW",
        subtype=_RAW[suffix],
        closefd=False,
    )


def _said(problem: soundfile.LibsndfileError) -> str:
    return f"{CANNOT_DECODE}: {problem.error_string.strip().rstrip('.')}"


def _decoding(sounds: Sequence[soundfile.SoundFile], file: BinaryIO, layout: Layout) -> Decoding:
    first = sounds[0]
    check_form(first.samplerate, first.channels)
    alike = [
        sound
        for sound in sounds
        if (sound.samplerate, sound.channels) == (first.samplerate, first.channels)
    ]
    told = layout.told
    if len(alike) < len(sounds):
        told += "; parts of another rate or number of channels are left out"
    found = Decoding(
        rate=first.samplerate,
        channels=first.channels,
        blocks=iter(()),
        told=told,
        is_plain=layout.is_plain,
    )
    found.blocks = _blocks(alike, file, layout, found)
    return found


def _blocks(
    sounds: Sequence[soundfile.SoundFile], file: BinaryIO, layout: Layout, found: Decoding
) -> Iterator[Block]:
    """Yield the samples of all parts; raise in the end if the headers promised more."""
    count = 0
    try:
        for sound in sounds:
            for block in _of(sound):
                count += len(block)
                yield block
    except soundfile.LibsndfileError:
        if layout.declared is None:
            raise UndecodableError(CUT) from None
        for block in _to_declared_end(file, count, layout.declared):
            count += len(block)
            yield block
    _judge(count, sounds[0].frames, layout, found)


def _judge(count: int, frames: int, layout: Layout, found: Decoding) -> None:
    """Compare the number of samples that came with the one in the header."""
    declared, slack = layout.declared, TOLERANCE * found.rate
    if declared is None and not layout.parts and frames < np.iinfo(np.int64).max // 2:
        declared = frames
    if declared is not None and declared - count > slack and count > 0:
        raise UndecodableError(cut(count / found.rate, declared / found.rate))
    if layout.is_counted and (declared is None or count - declared > slack):
        found.told = more(count / found.rate, None if declared is None else declared / found.rate)
        found.is_plain = False


def _of(sound: soundfile.SoundFile, most: int | None = None) -> Iterator[Block]:
    """Yield the samples of an open file; ``most`` limits what the decoder is asked for."""
    size = max(1, BLOCK_SAMPLES // sound.channels)
    while most is None or most > 0:
        # Zeros: decoders that stop too early leave what was in the memory before.
        block = np.zeros((size if most is None else min(size, most), sound.channels), np.float32)
        read: Block = sound.read(out=block)
        if not len(read):
            return
        most = None if most is None else most - len(read)
        yield read


def _to_declared_end(file: BinaryIO, skipped: int, declared: int) -> Iterator[Block]:
    """Yield what is left up to the length in the header: something else may follow the sound."""
    try:
        with _as_it_is(file) as sound:
            for block in _of(sound, declared):
                if skipped < len(block):
                    yield block[skipped:]
                skipped = max(0, skipped - len(block))
    except soundfile.LibsndfileError:
        raise UndecodableError(CUT) from None
