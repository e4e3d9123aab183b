"""Features of MUSAN: windows of ten seconds, where the training looks for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet

from tests.corpora import libri
from zipasr.base.errors import DataError
from zipasr.corpora.manifest_files import write_folder_manifest
from zipasr.corpora.openslr import write_noise_manifests
from zipasr.data.augment import mix_noise
from zipasr.data.config import AugmentConfig, FbankConfig
from zipasr.data.fbank import FbankReport
from zipasr.data.noise_features import compute_and_store_noise, noise_path

CONFIG = FbankConfig(num_jobs=1, perturb_speed=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FbankReport | None]:
    folder = tmp_path_factory.mktemp("noise")
    write_noise_manifests(libri.write_musan(folder, seconds=26.0), folder / "manifests")
    return folder, compute_and_store_noise(folder / "manifests", folder / "fbank", CONFIG)


def test_windows_of_ten_seconds_and_what_is_longer_than_five(
    made: tuple[Path, FbankReport | None],
) -> None:
    folder, report = made
    assert noise_path(folder / "fbank").name == "musan_cuts.jsonl.gz"
    cuts = list(CutSet.from_file(noise_path(folder / "fbank")))
    # Three recordings of 10 + 10 + 6 s.
    assert sorted(cut.duration for cut in cuts) == [6.0] * 3 + [10.0] * 6
    assert report is not None
    assert (report.cuts, report.seconds, report.failed) == (9, 78.0, 0)
    assert (folder / "fbank" / "musan_feats").is_dir()
    for cut in cuts:
        features = cut.load_features()
        assert features.shape == (round(cut.duration * 100), 80)
        assert np.isfinite(features).all()


def test_windows_of_five_seconds_are_too_short(tmp_path: Path) -> None:
    write_noise_manifests(libri.write_musan(tmp_path, seconds=15.0), tmp_path)
    compute_and_store_noise(tmp_path, tmp_path, CONFIG)
    assert [cut.duration for cut in CutSet.from_file(noise_path(tmp_path))] == [10.0] * 3


def test_it_is_made_once(made: tuple[Path, FbankReport | None]) -> None:
    folder, _ = made
    again = compute_and_store_noise(folder / "manifests", folder / "fbank", CONFIG)
    assert again is not None
    assert again.reused


def test_the_training_finds_it(made: tuple[Path, FbankReport | None]) -> None:
    noise = mix_noise(AugmentConfig(), made[0] / "fbank")
    assert noise is not None
    assert len(noise._noise) == 9
    assert all(not cut.supervisions for cut in noise._noise)


def test_without_noise_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert compute_and_store_noise(tmp_path, tmp_path / "fbank", CONFIG) is None
    assert not (tmp_path / "fbank").exists()


def sound(path: Path, seconds: float, channels: int = 1, rate: int = 16000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(1).uniform(-0.1, 0.1, (int(seconds * rate), channels))
    soundfile.write(path, samples, rate)


def test_any_folder_of_sound_is_noise(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "street"
    sound(folder / "door.wav", 1.5)
    sound(folder / "a" / "cars.flac", 13.0, channels=2, rate=44100)
    sound(folder / "b" / "cars.flac", 26.0)
    sound(folder / "click.wav", 0.2)
    (folder / "broken.wav").write_bytes(b"RIFF")
    (folder / "notes.txt").write_text("no sound")
    assert write_folder_manifest(folder, tmp_path / "manifests") == 4
    assert "broken.wav cannot be read" in caplog.text
    compute_and_store_noise(tmp_path / "manifests", tmp_path / "fbank", CONFIG)
    cuts = list(CutSet.from_file(noise_path(tmp_path / "fbank")))
    # The ends of long files that are shorter than 5 s are left out, as MUSAN's are.
    assert sorted(round(cut.duration, 2) for cut in cuts) == [1.5, 6.0, 10.0, 10.0, 10.0]
    for cut in cuts:
        assert cut.load_features().shape[1] == 80
        assert cut.load_audio().shape == (1, cut.num_samples)


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_without_sound_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"--noise-dir .*(no folder|no sound that can be read)"):
        write_folder_manifest(tmp_path / name, tmp_path)
