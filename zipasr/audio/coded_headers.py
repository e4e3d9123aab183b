"""Headers of compressed formats: FLAC, MP3 and OGG, whose lengths are wrong or missing at times."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from zipasr.audio.header import TOLERANCE, Content, Layout, Piece, Stretch, cut, more

_FLAC_SAMPLES = 36  # bits
_ID3_V1 = 128

CUT_FRAME = "its last frame is cut: more of it may be missing"


def flac_layout(content: Content) -> Layout | None:
    """Read the header of a FLAC file; None: it is none.

    libsndfile stops at the number of samples in the header. So it is given one without a number,
    and what comes is counted.
    """
    start = _behind_id3(content)
    block = content.at(start, 42)
    if len(block) < 42 or block[:4] != b"fLaC" or block[4] & 0x7F:
        return None
    word = int.from_bytes(block[18:26], "big")
    declared = word & ((1 << _FLAC_SAMPLES) - 1)
    without = (word >> _FLAC_SAMPLES << _FLAC_SAMPLES).to_bytes(8, "big")
    # Old programs put their tags, which are no FLAC, behind the sound.
    tag = _ID3_V1 if content.at(content.size - _ID3_V1, 3) == b"TAG" else 0
    rest = Stretch(start + 26, content.size - start - 26 - tag)
    return Layout(
        parts=((block[:18] + without, rest),),
        declared=declared or None,
        is_counted=True,
        is_plain=declared > 0,
    )


def _behind_id3(content: Content) -> int:
    """Return where a file begins behind the tags that some programs put before it."""
    start = 0
    while (head := content.at(start, 10))[:3] == b"ID3" and len(head) == 10:
        size = 0
        for byte in head[6:10]:
            size = size << 7 | byte & 0x7F
        start += 10 + size
    return start


class FrameHead(NamedTuple):
    """Header of a frame of MPEG layer III.

    Attributes:
        kind: bits that are the same in all frames of a file: version, layer, rate.
        size: of the frame in bytes.
        samples: of each channel.
        rate: Hz.
        side: bytes between header and sound.
    """

    kind: int
    size: int
    samples: int
    rate: int
    side: int


# kbit/s of layer III: MPEG 1, then MPEG 2 and 2.5.
_BITRATES = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_KIND_BITS = 0xFFFE0C00


def frame_head(word: bytes) -> FrameHead | None:
    """Read four bytes; None when they are no header of a frame, or one of free format."""
    bits = int.from_bytes(word[:4], "big")
    version, layer = bits >> 19 & 3, bits >> 17 & 3
    bitrate, rate = bits >> 12 & 15, bits >> 10 & 3
    if len(word) < 4 or bits >> 21 != 0x7FF or layer != 1 or version == 1:
        return None
    if bitrate in (0, 15) or rate == 3:
        return None
    first = version == 3
    hertz = _RATES[version][rate]
    kbits = _BITRATES[0 if first else 1][bitrate]
    size = (144 if first else 72) * kbits * 1000 // hertz + (bits >> 9 & 1)
    mono = bits >> 6 & 3 == 3
    side = (17 if mono else 32) if first else (9 if mono else 17)
    return FrameHead(bits & _KIND_BITS, size, 1152 if first else 576, hertz, side)


class Frames(NamedTuple):
    """Frames in a row.

    Attributes:
        head: of the first.
        start: of the first, in bytes; it is the one with the number of frames, if there is one.
        end: of the last.
        num_frames: without the one that holds their number.
        declared: number that stands in the first one; None without one.
        is_cut: the last one ends with the file before its end.
    """

    head: FrameHead
    start: int
    end: int
    num_frames: int
    declared: int | None
    is_cut: bool


def mp3_layout(content: Content) -> Layout | None:
    """Count the frames of an MP3 file; None: it is none.

    libsndfile stops at the number of frames in the first one, or at an estimate where there is no
    number. A file without it, or with one that is too small, gets the right one.
    """
    start = _behind_id3(content)
    if frame_head(content.at(start, 4)) is None:
        return None
    data = content.at(start, content.size)
    rows = list(_rows(data))
    if not rows:
        return None
    faults = [fault for fault in map(_fault, rows) if fault]
    if faults:
        return Layout(fault=faults[0])
    is_one, one = len(rows) == 1, rows[0]
    if is_one and one.declared is not None and one.num_frames - one.declared <= _slack(one):
        return Layout()
    told = f"{len(rows)} recordings in one file: all are read"
    if is_one:
        frame = one.head.samples / one.head.rate
        declared = None if one.declared is None else one.declared * frame
        told = more(one.num_frames * frame, declared)
    if rows[-1].is_cut and rows[-1].declared is None:
        # Broadcasts that were recorded end so, too: it is no fault without a number that says so.
        told = "; ".join(filter(None, (told, CUT_FRAME)))
    return Layout(parts=tuple(_with_count(data, row, start) for row in rows), told=told)


def _slack(row: Frames) -> float:
    return TOLERANCE * row.head.rate / row.head.samples


def _fault(row: Frames) -> str:
    if row.declared is None or row.declared - row.num_frames <= _slack(row):
        return ""
    seconds = row.head.samples / row.head.rate
    return cut(row.num_frames * seconds, row.declared * seconds)


def _rows(data: bytes) -> Iterator[Frames]:
    """Yield the frames of each file that was put behind another."""
    place = 0
    while (row := _row(data, place)) is not None:
        yield row
        place = _next_sync(data, row.end, row.head)
        if place < 0:
            return


def _row(data: bytes, start: int) -> Frames | None:
    head = frame_head(data[start : start + 4])
    if head is None:
        return None
    declared = _declared(data, start, head)
    place, count = start, 0
    while True:
        one = frame_head(data[place : place + 4])
        if one is None or one.kind != head.kind:
            found = _next_sync(data, place, head)
            if found < 0:
                return Frames(head, start, place, count, declared, False)
            place = found
            continue
        if place > start and _declared(data, place, one) is not None:
            return Frames(head, start, place, count, declared, False)
        if place + one.size > len(data):
            return Frames(head, start, len(data), count, declared, True)
        count += not (place == start and declared is not None)
        place += one.size


def _declared(data: bytes, start: int, head: FrameHead) -> int | None:
    """Return the number of frames that stands in a frame."""
    tag = start + 4 + head.side
    name, flags = data[tag : tag + 4], int.from_bytes(data[tag + 4 : tag + 8], "big")
    if name in (b"Xing", b"Info") and flags & 1:
        return int.from_bytes(data[tag + 8 : tag + 12], "big")
    if data[start + 36 : start + 40] == b"VBRI":
        return int.from_bytes(data[start + 50 : start + 54], "big")
    return None


def _next_sync(data: bytes, place: int, head: FrameHead) -> int:
    """Return where the next frame of the same kind begins that is followed by another one."""
    while (place := data.find(b"\xff", place)) >= 0:
        one = frame_head(data[place : place + 4])
        if one is not None and one.kind == head.kind:
            after = frame_head(data[place + one.size : place + one.size + 4])
            if after is not None and after.kind == head.kind:
                return place
        place += 1
    return -1


def _with_count(data: bytes, row: Frames, offset: int) -> tuple[Piece, ...]:
    """Return a file of these frames, with their number in a frame before them."""
    first = data[row.start : row.start + 4]
    start = row.start
    if row.declared is not None:
        if row.num_frames - row.declared <= _slack(row):
            return (Stretch(offset + start, row.end - start),)
        start += row.head.size
    tag = b"Xing" + struct.pack(">II", 1, row.num_frames)
    # The highest bit rate, so that the tag fits; no checksum.
    word = int.from_bytes(first, "big") | 1 << 16
    word = word & ~(0xF << 12) & ~(1 << 9) | 14 << 12
    head = frame_head(word.to_bytes(4, "big"))
    size = row.head.size if head is None else head.size
    frame = (word.to_bytes(4, "big") + b"\0" * row.head.side + tag).ljust(size, b"\0")
    return frame, Stretch(offset + start, row.end - start)


_PAGE_HEAD = 27
_FIRST_PAGE, _LAST_PAGE = 2, 4


def ogg_layout(content: Content) -> Layout | None:
    """Walk over the pages of an OGG file; None: it is none.

    libsndfile reads the first of several streams that follow each other.
    """
    if content.at(0, 4) != b"OggS":
        return None
    begins = [0]
    place = 0
    is_inside = False
    while len(head := content.at(place, _PAGE_HEAD + 255)) >= _PAGE_HEAD and head[:4] == b"OggS":
        is_first = bool(head[5] & _FIRST_PAGE)
        if is_first and is_inside:
            begins.append(place)
        is_inside = not is_first
        place += _PAGE_HEAD + head[26] + sum(head[_PAGE_HEAD : _PAGE_HEAD + head[26]])
    if place > content.size or _ends_in_a_head(content, place):
        return Layout(fault="its last page is cut: a part of the file is missing")
    if len(begins) == 1:
        return Layout()
    ends = [*begins[1:], content.size]
    parts = tuple((Stretch(a, b - a),) for a, b in zip(begins, ends, strict=True))
    return Layout(parts=parts, told=f"{len(parts)} recordings in one file: all are read")


def _ends_in_a_head(content: Content, place: int) -> bool:
    rest = content.at(place, _PAGE_HEAD)
    return 0 < len(rest) < _PAGE_HEAD and b"OggS".startswith(rest[:4])


def coded_layout(content: Content) -> Layout | None:
    """Read the header of a FLAC, OGG or MP3 file; None: it is none of them."""
    return flac_layout(content) or ogg_layout(content) or mp3_layout(content)
