"""Headers of WAV files and their relatives for large files: RIFF, RIFX, RF64, BW64, Wave64."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Literal, NamedTuple

from zipasr.audio.header import Layout, judge
from zipasr.audio.spliced import Content, Piece, Stretch

Order = Literal["little", "big"]

_PCM, _FLOAT, _ALAW, _ULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
UNKNOWN_SIZE = 0xFFFFFFFF
_LARGEST_RIFF = 0xFFFFFF00
MOST_CHUNKS = 1000


class Chunk(NamedTuple):
    """A chunk of a file: its name, where its content begins, and the size that it declares."""

    name: bytes
    start: int
    size: int


def chunks(content: Content, start: int, order: Order) -> Iterator[Chunk]:
    """Yield chunks up to the end, or up to what is none; a missing byte of padding is forgiven."""
    for _ in range(MOST_CHUNKS):
        head = content.at(start, 8)
        if len(head) < 8:
            return
        size = int.from_bytes(head[4:], order)
        yield Chunk(head[:4], start + 8, size)
        start += 8 + size
        if size % 2 and not _begins_a_chunk(content.at(start, 4)):
            start += 1


def _begins_a_chunk(name: bytes) -> bool:
    return name in (b"data", b"fmt ", b"fact", b"LIST", b"bext", b"SSND", b"COMM")


class WaveFormat(NamedTuple):
    """Content of the chunk ``fmt``."""

    tag: int
    channels: int
    rate: int
    bytes_per_second: int
    bits: int

    @property
    def is_plain(self) -> bool:
        """Whether every sample has bytes of its own."""
        return self.tag in (_PCM, _FLOAT, _ALAW, _ULAW)

    @property
    def real_bytes_per_second(self) -> float:
        """As computed, for the field is often wrong; of compressed sound, the field."""
        width = (self.bits + 7) // 8
        return float(self.rate * self.channels * width if self.is_plain else self.bytes_per_second)


def wave_format(chunk: bytes, order: Order) -> WaveFormat | None:
    """Read the content of a chunk ``fmt``; None where there is too little."""
    if len(chunk) < 16:
        return None
    mark = "<" if order == "little" else ">"
    tag, channels, rate, per_second, _, bits = struct.unpack(f"{mark}HHIIHH", chunk[:16])
    if tag == _EXTENSIBLE and len(chunk) >= 26:
        tag = int.from_bytes(chunk[24:26], order)
    return WaveFormat(tag, channels, rate, per_second, bits)


def wav_layout(content: Content, start: int = 0) -> Layout | None:
    """Read the header of a WAV file (RIFF, RIFX, RF64); None: it is for libsndfile to judge."""
    order: Order = "big" if content.at(start, 4) == b"RIFX" else "little"
    form = sizes = b""
    for chunk in chunks(content, start + 12, order):
        if chunk.name == b"fmt ":
            form = content.at(chunk.start, min(chunk.size, 1 << 12))
        elif chunk.name == b"ds64":
            sizes = content.at(chunk.start, 28)
        elif chunk.name == b"data":
            return _wav(content, chunk, form, sizes, order)
    return None


def _wav(content: Content, data: Chunk, form: bytes, sizes: bytes, order: Order) -> Layout | None:
    known = wave_format(form, order)
    if known is None:
        return None
    if known.rate == 0 or known.channels == 0:
        return Layout(fault=f"{known.channels} channels of {known.rate} Hz in its header")
    if known.real_bytes_per_second <= 0:
        return None
    declared = data.size
    if len(sizes) >= 16 and declared == UNKNOWN_SIZE:
        declared = int.from_bytes(sizes[8:16], "little", signed=True)
        # Recorders that were killed leave zeros or the largest number.
        declared = -1 if declared > 1 << 62 else declared
    verdict = judge(content, data.start, declared, known.real_bytes_per_second)
    if verdict.fault:
        return Layout(fault=verdict.fault)
    sound = _riff(form, verdict.length, order), Stretch(data.start, verdict.length)
    follows = data.start + declared
    if not verdict.told and content.at(follows, 4) in (b"RIFF", b"RIFX"):
        return _with_next(content, sound, form, wav_layout(content, follows), follows)
    is_usual = not verdict.told and libsndfile_finds(content, data)
    if is_usual:
        return Layout(is_plain=known.is_plain)
    return Layout(parts=(sound,), told=verdict.told)


def libsndfile_finds(content: Content, data: Chunk) -> bool:
    """Say whether the chunks before the sound are padded, so that it is found by all programs."""
    order: Order = "big" if content.at(0, 4) == b"RIFX" else "little"
    place = 12
    while place < data.start - 8:
        size = content.number(place + 4, 4, order)
        place += 8 + size + size % 2
    return place == data.start - 8


def _with_next(
    content: Content,
    sound: tuple[Piece, ...],
    form: bytes,
    following: Layout | None,
    start: int,
) -> Layout:
    """Return the layout of a file behind which another one follows (``cat a.wav b.wav``)."""
    fmt = next((c for c in chunks(content, start + 12, "little") if c.name == b"fmt "), None)
    is_alike = fmt is not None and content.at(fmt.start, fmt.size)[:16] == form[:16]
    if following is None or following.fault or not is_alike:
        return Layout(parts=(sound,), told="another file follows in it, which is not read")
    as_it_is: tuple[Piece, ...] = (Stretch(start, content.size - start),)
    return Layout(
        parts=(sound, *(following.parts or (as_it_is,))),
        told="another file follows in it: both are read",
    )


def _riff(form: bytes, length: int, order: Order) -> bytes:
    """Return a header for so many bytes of sound."""
    mark = "<" if order == "little" else ">"
    fmt = b"fmt " + struct.pack(f"{mark}I", len(form)) + form
    if length <= _LARGEST_RIFF:
        body = 4 + len(fmt) + 8 + length
        name = b"RIFF" if order == "little" else b"RIFX"
        head = name + struct.pack(f"{mark}I", body) + b"WAVE" + fmt
        return head + b"data" + struct.pack(f"{mark}I", length)
    sizes = struct.pack("<QQQI", 36 + len(fmt) + 8 + length, length, 0, 0)
    ds64 = b"ds64" + struct.pack("<I", len(sizes)) + sizes
    unknown = struct.pack("<I", UNKNOWN_SIZE)
    return b"RF64" + unknown + b"WAVE" + ds64 + fmt + b"data" + unknown


_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_W64_GUID = bytes.fromhex("f3acd3118cd100c04f8edb8a")


def w64_layout(content: Content) -> Layout | None:
    """Read the header of a Sony Wave64 file."""
    place, form = 40, b""
    for _ in range(MOST_CHUNKS):
        name, size = content.at(place, 16), content.number(place + 16, 8, "little")
        if len(name) < 16 or name[4:] != _W64_GUID or (size < 24 and name[:4] != b"data"):
            return None
        if name[:4] == b"fmt ":
            form = content.at(place + 24, min(size - 24, 1 << 12))
        elif name[:4] == b"data":
            known = wave_format(form, "little")
            if known is None or known.real_bytes_per_second <= 0:
                return None
            declared = -1 if size > 1 << 62 else max(0, size - 24)
            start = place + 24
            verdict = judge(content, start, declared, known.real_bytes_per_second)
            # libsndfile reads to the end of such a file, whatever is there.
            sound = _riff(form, verdict.length, "little"), Stretch(start, verdict.length)
            return Layout(parts=(sound,), told=verdict.told, fault=verdict.fault)
        place += size + -size % 8
    return None
