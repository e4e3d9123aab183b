"""The embedded corpus, spoken: same seed, same bytes; whole manifests; clear refusals."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, RecordingSet, SupervisionSet

from zipasr.base.errors import DataError, UserError
from zipasr.corpora.corpus import CorpusOptions, get_corpus
from zipasr.corpora.espeak import espeak_corpus as espeak
from zipasr.corpora.espeak.espeak_corpus import LOADER, EspeakCorpus, config_from, synthesise

RECIPE = Path("egs/espeak")
FEW = {"num_train": 4, "num_dev": 1, "num_test": 2}

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None or not hasattr(os, "fork"),
    reason="needs eSpeak NG (pip install -r egs/espeak/requirements.txt) and a system that forks",
)


def few(audio_dir: Path, **settings: Any) -> EspeakCorpus:
    return EspeakCorpus.from_settings(RECIPE, audio_dir, {**FEW, **settings})


def digests(folder: Path) -> dict[str, str]:
    files = sorted(folder.rglob("*.flac"))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spoken")
    counts = few(folder / "audio").prepare(folder / "manifests", num_jobs=1)
    assert counts == {"train": 4, "dev": 1, "test": 2}
    return folder


@needs_espeak
def test_bytes_do_not_depend_on_the_number_of_jobs(spoken: Path, tmp_path: Path) -> None:
    few(tmp_path / "audio").prepare(tmp_path / "manifests", num_jobs=2)
    assert digests(tmp_path) == digests(spoken)
    assert len(digests(spoken)) == 7


@needs_espeak
def test_another_run_speaks_only_what_is_missing(spoken: Path) -> None:
    before = digests(spoken)
    files = sorted(spoken.rglob("*.flac"))
    times = {file: file.stat().st_mtime_ns for file in files[1:]}
    files[0].unlink()
    few(spoken / "audio").prepare(spoken / "manifests", num_jobs=2)
    assert digests(spoken) == before
    assert {file: file.stat().st_mtime_ns for file in files[1:]} == times
    assert not list(spoken.rglob(".tmp-*"))


@needs_espeak
def test_another_seed_is_another_corpus(spoken: Path, tmp_path: Path) -> None:
    few(tmp_path / "audio", espeak_seed=2).prepare(tmp_path / "manifests", num_jobs=1)
    assert not set(digests(spoken)) & set(digests(tmp_path))
    assert not set(digests(spoken).values()) & set(digests(tmp_path).values())


@needs_espeak
def test_manifests_tell_the_truth_about_the_audio(spoken: Path) -> None:
    plan = {utterance.id: utterance for utterance in few(spoken / "audio").plan()}
    for split, count in (("train", 4), ("dev", 1), ("test", 2)):
        recordings = RecordingSet.from_file(
            spoken / "manifests" / f"espeak_recordings_{split}.jsonl.gz"
        )
        supervisions = SupervisionSet.from_file(
            spoken / "manifests" / f"espeak_supervisions_{split}.jsonl.gz"
        )
        cuts = CutSet.from_manifests(recordings=recordings, supervisions=supervisions)
        assert len(cuts) == count
        for cut in cuts:
            segment = cut.supervisions[0]
            planned = plan[cut.recording_id]
            assert cut.sampling_rate == 16000
            assert cut.load_audio().shape == (1, cut.num_samples)
            assert 0.5 < segment.duration < 8
            assert (segment.text, segment.speaker) == (planned.text, planned.variant)
            assert segment.custom["accent"] == planned.accent
            assert segment.custom["snr"] == planned.snr_db
            for name in ("rate", "pitch", "size"):
                assert segment.custom[name] == getattr(planned, name)


@needs_espeak
def test_files_are_16_bit_mono_at_the_planned_level(spoken: Path) -> None:
    corpus = few(spoken / "audio")
    for utterance in corpus.plan():
        path = corpus.audio_path(utterance)
        info = soundfile.info(path)
        assert (info.format, info.subtype, info.channels) == ("FLAC", "PCM_16", 1)
        samples, _ = soundfile.read(path)
        level = 10 * np.log10(np.mean(samples**2))
        assert level == pytest.approx(utterance.level_dbfs, abs=0.2)
        # The margin has noise only: far below the whole, and not digital silence.
        margin = samples[:1600]
        assert 0 < np.mean(margin**2) < np.mean(samples**2) / 10


@needs_espeak
def test_paths_in_manifests_are_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = RECIPE.absolute()
    monkeypatch.chdir(tmp_path)
    settings = {"num_train": 1, "num_dev": 1, "num_test": 1}
    corpus = EspeakCorpus.from_settings(recipe, Path("data/audio"), settings)
    corpus.prepare(Path("data/manifests"), num_jobs=1)
    recordings = RecordingSet.from_file("data/manifests/espeak_recordings_dev.jsonl.gz")
    source = next(iter(recordings)).sources[0].source
    assert source.startswith("data/audio/dev/dev-00000-")


@needs_espeak
@pytest.mark.parametrize("wrong", [{"variant": "nobody"}, {"accent": "en-nowhere"}])
def test_a_voice_that_does_not_exist_is_an_error_not_another_voice(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], wrong: dict[str, str]
) -> None:
    corpus = few(tmp_path)
    good, bad = (corpus.order(utterance) for utterance in corpus.plan()[:2])
    bad = dataclasses.replace(bad, **wrong)
    with pytest.raises(DataError, match=rf"1 of 2 utterances .* the first is {bad.id}"):
        synthesise([good, bad], num_jobs=1)
    assert f"eSpeak NG has no voice {bad.accent}+{bad.variant}" in capfd.readouterr().err
    assert Path(good.path).exists()


@needs_espeak
def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    corpus = few(tmp_path / "audio")
    corpus.prepare(tmp_path / "manifests", num_jobs=1)
    broken = corpus.audio_path(corpus.plan()[0])
    broken.write_bytes(b"")
    with pytest.raises(DataError, match=rf"{broken.name} cannot be read as audio. Fix: delete it"):
        corpus.prepare(tmp_path / "manifests", num_jobs=1)


@needs_espeak
def test_this_process_never_loads_the_library(spoken: Path) -> None:
    assert "espeakng_loader" not in sys.modules


def test_a_missing_library_is_answered_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(espeak.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"-m pip install espeakng-loader==0\.2\.4$"):
        few(tmp_path / "audio").prepare(tmp_path / "manifests", num_jobs=1)


def test_the_recipe_installs_the_version_the_message_names() -> None:
    assert LOADER in (RECIPE / "requirements.txt").read_text().splitlines()


def test_unknown_and_impossible_options_are_refused() -> None:
    options = CorpusOptions(recipe_dir=RECIPE, audio_dir=RECIPE, settings={"num-trian": 5})
    with pytest.raises(UserError, match=r"no option 'num_trian'; .* did you mean 'num_train'"):
        get_corpus("espeak", options)
    with pytest.raises(UserError, match="corpus 'espeak': --num-train must be an integer"):
        config_from({"num-train": 0})


def test_options_of_a_recipe_become_fields() -> None:
    config = config_from({"num-train": 5, "speech_rate": [150, 160]})
    assert (config.num_train, config.speech_rate) == (5, (150, 160))
    assert Counter(dataclasses.asdict(config)) != Counter(dataclasses.asdict(config_from({})))
