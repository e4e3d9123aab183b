from pathlib import Path

import numpy as np
import pytest
import soundfile

from zipasr.audio import decoding
from zipasr.audio import faults as facts
from zipasr.audio.audio_info import read_audio_info

RNG = np.random.default_rng(0)
SOUND = RNG.normal(scale=0.1, size=48000)


def write(path: Path, samples: np.ndarray, rate: int = 16000, **how: str) -> Path:
    soundfile.write(path, samples, rate, **how)
    return path


def test_a_whole_file_is_described(tmp_path: Path) -> None:
    stereo = np.stack([SOUND, 0.5 * SOUND], axis=1)
    seen = read_audio_info(write(tmp_path / "a.wav", stereo, 8000))
    assert (seen.fault, seen.rate, seen.num_samples, seen.seconds) == ("", 8000, 48000, 6.0)
    np.testing.assert_allclose(seen.energies, np.mean(stereo**2, axis=0), rtol=1e-3)
    assert seen.clipped == 0.0


def test_a_long_file_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", SOUND)
    at_once = read_audio_info(path)
    monkeypatch.setattr(decoding, "BLOCK_SAMPLES", 1000)
    in_blocks = read_audio_info(path)
    assert in_blocks.digest == at_once.digest
    np.testing.assert_allclose(in_blocks.energies, at_once.energies)


def test_equal_sound_has_an_equal_digest_whatever_holds_it(tmp_path: Path) -> None:
    whole = (SOUND * 10000).astype(np.int16)
    wav = read_audio_info(write(tmp_path / "a.wav", whole))
    flac = read_audio_info(write(tmp_path / "a.flac", whole))
    other = read_audio_info(write(tmp_path / "b.flac", whole + np.int16(1)))
    assert wav.digest == flac.digest != other.digest


def test_a_cut_flac_is_found_though_its_header_is_fine(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", SOUND)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert soundfile.info(path).frames == len(SOUND)
    fault = read_audio_info(path).fault
    assert fault.startswith(("cannot be decoded", "ends after"))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", facts.EMPTY),
        (b"\n<!DOCTYPE html><html><body>404</body></html>", facts.HTML),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", facts.POINTER),
        (b"not sound at all" * 100, f"cannot be decoded: Format not recognised; {facts.NO_FFMPEG}"),
    ],
)
def test_what_is_no_sound_is_named(
    content: bytes, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "is_installed", lambda: False)
    path = tmp_path / "a.flac"
    path.write_bytes(content)
    assert read_audio_info(path).fault == fault


def test_faults_of_the_samples_are_named(tmp_path: Path) -> None:
    floats = {"subtype": "FLOAT"}
    assert read_audio_info(tmp_path / "no.wav").fault == facts.MISSING
    assert read_audio_info(write(tmp_path / "a.wav", SOUND[:0])).fault == facts.NO_SAMPLES
    assert read_audio_info(write(tmp_path / "b.wav", 0 * SOUND)).fault == facts.SILENT
    assert (
        read_audio_info(write(tmp_path / "c.wav", 32768 * SOUND, **floats)).fault == facts.TOO_LOUD
    )
    bad = np.where(np.arange(len(SOUND)) == 7, np.nan, SOUND)
    assert read_audio_info(write(tmp_path / "d.wav", bad, **floats)).fault == facts.NOT_FINITE


def test_clipping_is_a_share_of_the_samples(tmp_path: Path) -> None:
    loud = np.where(np.arange(1000) < 100, 1.0, 0.1)
    assert read_audio_info(write(tmp_path / "a.wav", loud)).clipped == pytest.approx(0.1)
