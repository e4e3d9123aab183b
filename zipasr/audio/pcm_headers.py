"""Headers of WAV and of other files with plain samples.

libsndfile reads what such a header declares and no more, or what is in the file if that is less;
both in silence. Here the two are compared, and a header is made that fits what is to be read.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple

from zipasr.audio.header import Content, Layout, Piece, Stretch, is_no_length, judge

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


_AIFC_WIDTHS = (b"NONE", b"sowt", b"twos", b"raw ", b"fl32", b"FL32", b"fl64", b"FL64")
_AIFC_BYTES = (b"ulaw", b"ULAW", b"alaw", b"ALAW")


def aiff_layout(content: Content) -> Layout | None:
    """Read the header of an AIFF file; those with compressed sound are left to libsndfile."""
    common: Chunk | None = None
    for chunk in chunks(content, 12, "big"):
        if chunk.name == b"COMM":
            common = chunk
        elif chunk.name == b"SSND" and common is not None:
            return _aiff(content, common, chunk)
    return None


def _aiff(content: Content, common: Chunk, data: Chunk) -> Layout | None:
    about = content.at(common.start, min(common.size, 1 << 12))
    if len(about) < 18:
        return None
    channels, frames, bits = struct.unpack(">HIH", about[:8])
    kind = about[18:22] if content.at(8, 4) == b"AIFC" else b"NONE"
    width = 1 if kind in _AIFC_BYTES else (bits + 7) // 8 if kind in _AIFC_WIDTHS else 0
    rate = _extended(about[8:18])
    frame = width * channels
    if frame == 0 or rate <= 0:
        return None
    skipped = content.number(data.start, 4, "big")
    start = data.start + 8 + skipped
    by_chunk = -1 if data.size == UNKNOWN_SIZE else data.size - 8 - skipped
    declared = by_chunk if frames == UNKNOWN_SIZE or is_no_length(by_chunk) else frames * frame
    verdict = judge(content, start, declared, rate * frame)
    if verdict.fault or not verdict.told:
        return Layout(fault=verdict.fault)
    length = verdict.length // frame * frame
    counted = about[:2] + struct.pack(">I", length // frame) + about[6:]
    comm = b"COMM" + struct.pack(">I", len(counted)) + counted + b"\0" * (len(counted) % 2)
    ssnd = b"SSND" + struct.pack(">III", length + 8, 0, 0)
    form = content.at(8, 4) + comm + ssnd
    head = b"FORM" + struct.pack(">I", min(len(form) + length, UNKNOWN_SIZE)) + form
    return Layout(parts=((head, Stretch(start, length)),), told=verdict.told)


def _extended(number: bytes) -> float:
    """Return a floating-point number of 80 bits."""
    exponent = (number[0] & 0x7F) << 8 | number[1]
    mantissa = int.from_bytes(number[2:10], "big")
    return mantissa * 2.0 ** (exponent - 16383 - 63) if exponent < 16383 + 64 else 0.0


# Bytes of a sample by the encoding of an AU file.
_AU_WIDTHS: Mapping[int, int] = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}


def au_layout(content: Content) -> Layout | None:
    """Read the header of an AU file; those with compressed sound are left to libsndfile."""
    order: Order = "big" if content.at(0, 4) == b".snd" else "little"
    start, declared, encoding, rate, channels = (
        content.number(4 * place, 4, order) for place in range(1, 6)
    )
    frame = _AU_WIDTHS.get(encoding, 0) * channels
    if frame * rate == 0 or start < 24:
        return None
    verdict = judge(content, start, declared, float(rate * frame))
    if verdict.fault or not verdict.told:
        return Layout(fault=verdict.fault)
    mark = ">" if order == "big" else "<"
    size = min(verdict.length, UNKNOWN_SIZE)
    head = content.at(0, 4) + struct.pack(f"{mark}5I", 24, size, encoding, rate, channels)
    return Layout(parts=((head, Stretch(start, verdict.length)),), told=verdict.told)


def caf_layout(content: Content) -> Layout | None:
    """Read the header of a Core Audio file."""
    place, per_second = 8, 0.0
    for _ in range(MOST_CHUNKS):
        name = content.at(place, 4)
        size = content.number(place + 4, 8, "big", signed=True)
        if len(name) < 4:
            return None
        if name == b"desc":
            (rate,) = struct.unpack(">d", content.at(place + 12, 8).ljust(8, b"\0"))
            packet, per_packet = (content.number(place + 12 + at, 4, "big") for at in (16, 20))
            per_second = rate * packet / per_packet if per_packet else 0.0
        if name == b"data":
            if not 0.0 < per_second < 1e9:
                return None
            # The first four bytes count the edits.
            verdict = judge(content, place + 16, -1 if size < 0 else size - 4, per_second)
            if verdict.fault or not verdict.told:
                return Layout(fault=verdict.fault)
            head = content.at(0, place + 4) + struct.pack(">q", 4 + verdict.length)
            rest = Stretch(place + 12, 4 + verdict.length)
            return Layout(parts=((head, rest),), told=verdict.told)
        if size < 0:
            return None
        place += 12 + size
    return None


_SPHERE_WIDTHS: Mapping[bytes, int] = {b"pcm": 2, b"ulaw": 1, b"mu-law": 1, b"alaw": 1}


def sphere_layout(content: Content) -> Layout | None:
    """Read the header of a NIST SPHERE file; those with compressed sound are left to libsndfile."""
    size = content.at(8, 8).strip()
    start = int(size) if size.isdigit() else 0
    head = content.at(0, min(start, 1 << 16))
    fields = dict(re.findall(rb"^(\w+) -\w+ (\S+)$", head, re.MULTILINE))
    width = _SPHERE_WIDTHS.get(fields.get(b"sample_coding", b"pcm"), 0)
    width = _number(fields, b"sample_n_bytes", width) if width else 0
    rate, channels = _number(fields, b"sample_rate"), _number(fields, b"channel_count", 1)
    frame = width * channels
    if start < 100 or frame * rate <= 0:
        return None
    declared = _number(fields, b"sample_count", -1) * frame
    verdict = judge(content, start, declared, float(rate * frame))
    if verdict.fault or not verdict.told:
        return Layout(fault=verdict.fault)
    count = b"sample_count -i %d\n" % (verdict.length // frame)
    lines = re.sub(rb"^sample_count .*\n", b"", head, flags=re.MULTILINE)
    lines = lines[: lines.find(b"end_head")] + count + b"end_head\n"
    counted = lines[:start].ljust(start, b"\0")
    return Layout(parts=((counted, Stretch(start, verdict.length)),), told=verdict.told)


def _number(fields: Mapping[bytes, bytes], name: bytes, otherwise: int = 0) -> int:
    word = fields.get(name, b"")
    return int(word) if re.fullmatch(rb"\d{1,12}", word) else otherwise


_READERS: Mapping[bytes, Callable[[Content], Layout | None]] = {
    b"RIFF": wav_layout,
    b"RIFX": wav_layout,
    b"RF64": wav_layout,
    b"BW64": wav_layout,
    b"FORM": aiff_layout,
    b".snd": au_layout,
    b"dns.": au_layout,
    b"caff": caf_layout,
    b"NIST": sphere_layout,
    b"riff": w64_layout,
}


def pcm_layout(content: Content) -> Layout | None:
    """Read the header of a file of one of these formats; None: it is of none, or unusual."""
    reader = _READERS.get(content.at(0, 4))
    return None if reader is None else reader(content)
