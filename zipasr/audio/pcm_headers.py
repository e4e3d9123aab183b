"""Headers of formats that hold samples one after the other: AIFF, AU, CAF, SPHERE; and WAV.

libsndfile reads what such a header declares and no more, or what is in the file if that is less;
both in silence. Here the two are compared, and a header is made that fits what is to be read.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping

from zipasr.audio.header import Layout, is_no_length, judge
from zipasr.audio.spliced import Content, Stretch
from zipasr.audio.wav_headers import (
    MOST_CHUNKS,
    UNKNOWN_SIZE,
    Chunk,
    Order,
    chunks,
    w64_layout,
    wav_layout,
)

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
