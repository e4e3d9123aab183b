"""Any bytes give a sound or one sentence, the same each time, and no memory of others."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.audio.sounds import encoded, voice
from zipasr.audio.loading import load_sound
from zipasr.base.errors import DataError

SOUND = voice(0.2)
STEREO = np.stack([SOUND, SOUND[::-1]], axis=1)
KINDS = [
    ("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "PCM_24"), ("WAV", "IMA_ADPCM"),
    ("WAV", "MS_ADPCM"), ("WAV", "GSM610"), ("WAVEX", "PCM_16"), ("RF64", "PCM_16"),
    ("W64", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("AU", "G721_32"), ("CAF", "PCM_16"),
    ("NIST", "PCM_16"), ("VOC", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]  # fmt: skip
MONO_ONLY = ("GSM610", "G721_32")
FILES = [
    encoded(samples, *kind, 8000 if kind[1] in MONO_ONLY else 16000)
    for kind in KINDS
    for samples in ((SOUND,) if kind[1] in MONO_ONLY else (SOUND, STEREO))
]

# Where headers are, mutations count most.
places = st.one_of(st.integers(0, 64), st.integers(0, 400), st.integers(0, 20000))
number = st.sampled_from(
    [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"]
)
edit = st.one_of(
    st.tuples(st.just("write"), places, st.one_of(number, st.binary(min_size=1, max_size=4))),
    st.tuples(st.just("cut"), places, st.just(b"")),
    st.tuples(st.just("drop"), places, st.binary(min_size=1, max_size=30)),
    st.tuples(st.just("add"), places, st.binary(min_size=1, max_size=30)),
    st.tuples(st.just("append"), places, st.binary(min_size=1, max_size=2000)),
)


def edited(content: bytes, edits: list[tuple[str, int, bytes]]) -> bytes:
    for what, place, data in edits:
        place = min(place, len(content))
        if what == "write":
            content = content[:place] + data + content[place + len(data) :]
        elif what == "cut":
            content = content[:place]
        elif what == "drop":
            content = content[:place] + content[place + len(data) :]
        else:
            content += data
    return content


def outcome(path: Path) -> tuple[str, bytes]:
    try:
        sound = load_sound(path)
    except DataError as problem:
        return str(problem), b""
    assert np.isfinite(sound.samples).all()
    return sound.about, sound.samples.tobytes()


def check(folder: Path, content: bytes) -> None:
    path = folder / "a.wav"
    path.write_bytes(content)
    first = outcome(path)
    assert "\n" not in first[0]
    # What the next arrays get, if nobody writes to them.
    for value in (0.5, np.nan):
        junk = np.full(1 << 20, np.float32(value))
        del junk
        assert outcome(path) == first


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


@pytest.fixture(autouse=True)
def no_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zipasr.audio.decoding.is_installed", lambda: False)


KEPT = [HealthCheck.function_scoped_fixture]


@settings(max_examples=300, suppress_health_check=KEPT)
@given(st.sampled_from(FILES), st.lists(edit, min_size=1, max_size=6))
def test_damaged_files(folder: Path, content: bytes, edits: list[tuple[str, int, bytes]]) -> None:
    check(folder, edited(content, edits))


@pytest.mark.slow
@settings(max_examples=5000 if "LONG_TESTS" in os.environ else 1000, suppress_health_check=KEPT)
@given(st.sampled_from(FILES), st.lists(edit, min_size=1, max_size=6))
def test_many_damaged_files(
    folder: Path, content: bytes, edits: list[tuple[str, int, bytes]]
) -> None:
    check(folder, edited(content, edits))


@settings(max_examples=100, suppress_health_check=KEPT)
@given(
    st.sampled_from(
        [b"", b"RIFF\0\0\0\0WAVE", b"fLaC\0\0\0\x22", b"OggS\0\2", b"\xff\xfb\x90\0", b"FORM"]
    ),
    st.binary(max_size=300),
)
def test_any_bytes(folder: Path, head: bytes, rest: bytes) -> None:
    check(folder, head + rest)
