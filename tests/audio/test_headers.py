"""What a header promises is compared with what is in the file."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from tests.audio.sounds import RATE, encoded, voice
from zipasr.audio.audio_info import AudioInfo, read_audio_info
from zipasr.audio.coded_headers import CUT_FRAME
from zipasr.audio.loading import load_sound, needs_conversion
from zipasr.base.errors import DataError

SOUND = voice(2.0)
PCM = (SOUND * 32767).astype("<i2").tobytes()
NUM = len(SOUND)


def info(folder: Path, content: bytes, name: str = "a.wav") -> AudioInfo:
    path = folder / name
    path.write_bytes(content)
    found = read_audio_info(path)
    assert found == read_audio_info(path)
    if found.fault:
        with pytest.raises(DataError) as told:
            load_sound(path)
        assert found.fault in str(told.value)
    else:
        sound = load_sound(path)
        assert len(sound.samples) == -(-found.num_samples * 16000 // found.rate)
        assert found.told in sound.about
    return found


def wav(
    data: bytes = PCM,
    size: int | None = None,
    riff: int | None = None,
    before: bytes = b"",
    after: bytes = b"",
    align: int = 2,
    rate: int = RATE,
    channels: int = 1,
) -> bytes:
    form = struct.pack("<HHIIHH", 1, channels, rate, 2 * rate, align, 16)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + before + b"data"
    body += struct.pack("<I", len(data) if size is None else size) + data + after
    return b"RIFF" + struct.pack("<I", len(body) if riff is None else riff) + body


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFDB])
@pytest.mark.parametrize("riff", [0, 0xFFFFFFFF, None])
def test_a_wav_without_a_length_is_read_to_its_end(
    size: int, riff: int | None, tmp_path: Path
) -> None:
    found = info(tmp_path, wav(size=size, riff=riff))
    assert (found.fault, found.num_samples) == ("", NUM)
    assert found.told == "no length in its header: all 2.00 s are read"
    assert found.digest == info(tmp_path, wav()).digest
    assert needs_conversion(tmp_path / "a.wav", found)


def test_a_wav_that_declares_less_than_it_holds_is_read_to_its_end(tmp_path: Path) -> None:
    found = info(tmp_path, wav(size=RATE))
    assert found.num_samples == NUM
    assert found.told == "its header declares 0.50 s: all 2.00 s are read"


def test_a_cut_wav_is_a_fault_and_a_few_samples_are_not(tmp_path: Path) -> None:
    assert info(tmp_path, wav()[: len(PCM) // 2]).fault.startswith("ends after 1.00 s of the 2.00")
    assert info(tmp_path, wav(size=len(PCM) + RATE)).fault == (
        "ends after 2.00 s of the 2.50 s in its header"
    )
    few = info(tmp_path, wav(size=len(PCM) + 16))
    assert (few.fault, few.num_samples) == ("", NUM)
    assert few.told


@pytest.mark.parametrize(
    "content",
    [
        wav(),
        wav(before=chunk(b"LIST", b"INFOISFT" + chunk(b"", b"Lavf"))),
        wav(after=chunk(b"LIST", b"x" * 5000)),
        wav(after=chunk(b"id3 ", b"x" * 5000) + chunk(b"_PMX", b"y" * 500)),
        wav(after=b"\0" * 5001),
        wav(after=b"TAG" + bytes(range(256)) * 20),
        wav(after=b"recorded in the kitchen " * 200),
        wav(align=4),
    ],
)
def test_what_follows_the_sound_is_not_read(content: bytes, tmp_path: Path) -> None:
    found = info(tmp_path, content)
    assert (found.fault, found.told, found.num_samples) == ("", "", NUM)
    assert not needs_conversion(tmp_path / "a.wav", found)


def test_a_chunk_without_its_padding_is_forgiven(tmp_path: Path) -> None:
    found = info(tmp_path, wav(before=chunk(b"LIST", b"INFOx")))
    assert (found.fault, found.num_samples) == ("", NUM)
    assert needs_conversion(tmp_path / "a.wav", found)  # other programs do not find the sound


def test_a_wav_behind_another_is_read_too(tmp_path: Path) -> None:
    found = info(tmp_path, wav() + wav())
    assert found.num_samples == 2 * NUM
    assert "both are read" in found.told
    other = info(tmp_path, wav() + wav(rate=8000))
    assert other.num_samples == NUM
    assert "not read" in other.told


def test_compressed_wavs_are_not_read_in_place(tmp_path: Path) -> None:
    for subtype in ("IMA_ADPCM", "MS_ADPCM", "GSM610"):
        found = info(tmp_path, encoded(SOUND, "WAV", subtype))
        assert found.seconds == pytest.approx(2.0, abs=0.1)
        assert needs_conversion(tmp_path / "a.wav", found)
    cut = encoded(SOUND, "WAV", "GSM610")
    assert info(tmp_path, cut[: len(cut) // 2]).fault.startswith("ends after")
    assert not info(tmp_path, encoded(SOUND, "AU", "G721_32", rate=8000), "a.au").fault


@pytest.mark.parametrize(
    ("rate", "channels"), [(0, 1), (1, 1), (999, 1), (2000000, 1), (RATE, 0), (RATE, 1000)]
)
def test_rates_and_channels_that_nothing_has(rate: int, channels: int, tmp_path: Path) -> None:
    assert (
        str(rate if channels == 1 else channels)
        in info(tmp_path, wav(rate=rate, channels=channels)).fault
    )


@pytest.mark.parametrize("rate", [1000, 7999, 65521, 96001, 999983])
def test_odd_rates_are_read(rate: int, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(rate=rate))
    assert len(load_sound(path).samples) == -(-NUM * 16000 // rate)


def big(number: int, length: int = 4) -> bytes:
    return number.to_bytes(length, "big")


def little(number: int, length: int = 8) -> bytes:
    return number.to_bytes(length, "little")


def with_number(content: bytes, old: bytes, new: bytes) -> bytes:
    assert content.count(old) >= 1
    return content.replace(old, new, 1)


# Format -> how its header writes the number of bytes or frames of the sound, and "unknown".
NUMBERS = {
    "AU": (lambda frames: big(2 * frames), b"\xff" * 4),
    "AIFF": (lambda frames: big(frames) + b"\x00\x10", b"\xff" * 4 + b"\x00\x10"),
    "CAF": (lambda frames: b"data" + big(2 * frames + 4, 8), b"data" + b"\xff" * 8),
    "RF64": (lambda frames: little(2 * frames), b"\xff" * 8),
    "NIST": (lambda frames: b"sample_count -i %05d\n" % frames, b"sample_rates -i 16000\n"),
}


@pytest.mark.parametrize("kind", [*NUMBERS, "W64"])
def test_other_formats_are_compared_as_well(kind: str, tmp_path: Path) -> None:
    content = encoded(SOUND, kind, "PCM_16")
    name = f"a.{kind.lower()}"
    whole = info(tmp_path, content, name)
    assert (whole.fault, whole.told, whole.num_samples) == ("", "", NUM)
    cut = info(tmp_path, content[: len(content) // 2], name)
    assert cut.fault.startswith("ends after")
    if kind == "W64":
        return
    number, unknown = NUMBERS[kind]
    less = info(tmp_path, with_number(content, number(NUM), number(NUM // 4)), name)
    assert (less.fault, less.num_samples, less.digest) == ("", NUM, whole.digest)
    assert less.told == "its header declares 0.50 s: all 2.00 s are read"
    if kind == "AIFF":  # the size of the sound stands in it twice
        content = with_number(content, b"SSND" + big(2 * NUM + 8), b"SSND" + b"\xff" * 4)
    none = info(tmp_path, with_number(content, number(NUM), unknown), name)
    assert (none.fault, none.num_samples, none.digest) == ("", NUM, whole.digest)
    assert none.told == "no length in its header: all 2.00 s are read"


FLAC = encoded(SOUND, "FLAC", "PCM_16")


def flac(total: int) -> bytes:
    word = int.from_bytes(FLAC[18:26], "big") >> 36 << 36 | total
    return FLAC[:18] + big(word, 8) + FLAC[26:]


def test_a_streamed_flac_is_read(tmp_path: Path) -> None:
    whole = info(tmp_path, FLAC, "a.flac")
    assert not needs_conversion(tmp_path / "a.flac", whole)
    streamed = info(tmp_path, flac(0), "a.flac")
    assert (streamed.fault, streamed.digest) == ("", whole.digest)
    assert streamed.told == "no length in its header: all 2.00 s are read"
    assert needs_conversion(tmp_path / "a.flac", streamed)


def test_a_flac_with_another_length_than_it_declares(tmp_path: Path) -> None:
    less = info(tmp_path, flac(8000), "a.flac")
    assert less.num_samples == NUM
    assert less.told == "its header declares 0.50 s: all 2.00 s are read"
    assert info(tmp_path, flac(2 * NUM), "a.flac").fault.startswith("ends after 2.00 s of the 4.00")
    cut = info(tmp_path, FLAC[: len(FLAC) // 2], "a.flac").fault
    assert "damaged or cut" in cut or cut.startswith("ends after")


@pytest.mark.parametrize("behind", [b"TAG" + b"x" * 125, b"hello" * 1000, FLAC])
def test_a_flac_ends_where_it_says(behind: bytes, tmp_path: Path) -> None:
    found = info(tmp_path, FLAC + behind, "a.flac")
    assert (found.fault, found.num_samples) == ("", NUM)


MP3 = encoded(SOUND, "MP3")


def without_count(content: bytes) -> bytes:
    place = max(content.find(b"Xing"), content.find(b"Info"))
    return content[:place] + b"\0\0\0\0" + content[place + 4 :]


def test_a_cut_mp3_is_a_fault_always(tmp_path: Path) -> None:
    whole = info(tmp_path, MP3, "a.mp3")
    assert (whole.fault, whole.num_samples) == ("", NUM)
    for share in (0.2, 0.5, 0.8):
        cut = MP3[: round(share * len(MP3))]
        faults = {info(tmp_path, cut, "a.mp3").fault for _ in range(3)}
        assert len(faults) == 1
        assert faults.pop().startswith("ends after")


def test_an_mp3_without_a_number_of_frames_is_read_to_its_end(tmp_path: Path) -> None:
    found = info(tmp_path, without_count(MP3), "a.mp3")
    assert found.seconds == pytest.approx(2.0, abs=0.2)
    assert found.told.startswith("no length in its header")
    padded = b"ID3\3\0\0\0\0\0\x64" + b"\0" * 100 + without_count(MP3)
    assert info(tmp_path, padded, "a.mp3").num_samples == found.num_samples


def test_an_mp3_without_a_number_that_is_cut_says_so(tmp_path: Path) -> None:
    whole = without_count(MP3)
    assert CUT_FRAME not in info(tmp_path, whole, "a.mp3").told
    found = info(tmp_path, whole[: len(whole) // 2 + 7], "a.mp3")
    assert (found.fault, CUT_FRAME in found.told) == ("", True)


def test_an_mp3_behind_another_is_read_too(tmp_path: Path) -> None:
    found = info(tmp_path, MP3 + MP3, "a.mp3")
    assert found.num_samples == 2 * NUM
    assert found.told == "2 recordings in one file: all are read"


def test_mp3_samples_do_not_depend_on_the_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = set()
    for size in (1 << 20, 4096, 1000):
        monkeypatch.setattr("zipasr.audio.decoding.BLOCK_SAMPLES", size)
        digests.add(info(tmp_path, MP3, "a.mp3").digest)
    assert len(digests) == 1


@pytest.mark.parametrize(("subtype", "rate"), [("VORBIS", 16000), ("OPUS", 48000)])
def test_an_ogg_ends_with_its_pages(subtype: str, rate: int, tmp_path: Path) -> None:
    whole = encoded(np.repeat(SOUND, rate // RATE), "OGG", subtype, rate)
    found = info(tmp_path, whole, "a.ogg")
    assert (found.fault, found.told, found.seconds) == ("", "", 2.0)
    assert "its last page is cut" in info(tmp_path, whole[:-100], "a.ogg").fault
    twice = info(tmp_path, whole + whole, "a.ogg")
    assert twice.seconds == 4.0
    assert twice.told == "2 recordings in one file: all are read"
