"""Manifests of a made-up GigaSpeech, and what is said of copies that are not whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from lhotse import CutSet, RecordingSet, SupervisionSet

from tests.corpora import giga
from zipasr.base.errors import DataError, ResourceError, UserError
from zipasr.corpora import gigaspeech
from zipasr.corpora.gigaspeech import GigaSpeechCorpus

pytest.importorskip("ijson")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("giga") / "GigaSpeech"
    folder.mkdir()
    giga.write_copy(folder)
    return folder


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "GigaSpeech"))


def texts(folder: Path, part: str) -> dict[str, str]:
    said = SupervisionSet.from_file(folder / f"gigaspeech_supervisions_{part}.jsonl.gz")
    assert all(segment.custom == {"origin": "giga"} for segment in said)
    return {segment.id: segment.text for segment in said}


def test_texts_are_cleaned_and_what_is_no_speech_is_left_out(
    original: Path, tmp_path: Path
) -> None:
    parts = ("XS", "XL", "DEV", "TEST")
    corpus = GigaSpeechCorpus.from_settings(original, parts, {})
    assert corpus.prepare(tmp_path, 2) == {"XS": 2, "XL": 5, "DEV": 1, "TEST": 1}
    assert texts(tmp_path, "XS") == {
        "POD0000000001_S0000000": "SO HERE WE ARE",
        "POD0000000001_S0000002": "ARE WE YES",
    }
    assert [*texts(tmp_path, "XL").values()][2:] == ["ONE MORE", "THE LAST OF THEM", "OH"]
    recordings = RecordingSet.from_file(tmp_path / "gigaspeech_recordings_XL.jsonl.gz")
    # As long as the files are, not as they are said to be; nor does an utterance end later.
    assert [recording.duration for recording in recordings] == [3.0, 2.0, 3.0]
    cuts = CutSet.from_file(tmp_path / "gigaspeech_cuts_XL_raw.jsonl.gz")
    assert [len(cut.supervisions) for cut in cuts] == [2, 1, 2]
    assert all(s.end <= cut.duration for cut in cuts for s in cut.supervisions)
    # Done before: the folder is not looked at again.
    again = GigaSpeechCorpus.from_settings(tmp_path / "gone", parts[:2], {})
    assert again.prepare(tmp_path, 1) == {"XS": 2, "XL": 5}


def test_a_recording_that_is_lost_is_told(
    copy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (copy / "audio/podcast/P0001/YOU0000000002.opus").unlink()
    assert GigaSpeechCorpus(copy, ("XL",)).prepare(tmp_path / "out", 1) == {"XL": 4}
    assert "XL: 1 of 3 recordings cannot be read" in caplog.text
    (copy / "audio/podcast/P0003/POD1000000004.opus").write_bytes(b"<html>")
    with pytest.raises(DataError, match="DEV: 1 of 1 recordings cannot be read"):
        GigaSpeechCorpus(copy, ("DEV", "TEST")).prepare(tmp_path / "out", 1)
    assert not [*(tmp_path / "out").glob("*DEV*")]


def test_what_is_no_copy_is_refused(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(folder: Path, *parts: str) -> None:
        GigaSpeechCorpus.from_settings(folder, parts, {}).prepare(tmp_path / "out", 1)

    with pytest.raises(DataError, match=r"GigaSpeech.json does not exist.*--giga-dir"):
        prepare(tmp_path / "nowhere", "S")
    with pytest.raises(DataError, match="no speech of the subset M"):
        prepare(copy, "M")
    with pytest.raises(UserError, match="has no part 'XXL'"):
        prepare(copy, "XXL")
    file = copy / "GigaSpeech.json"
    file.write_text(file.read_text()[:-900])
    with pytest.raises(DataError, match="ends or breaks after 3 recordings"):
        prepare(copy, "S")
    file.write_text("{}")
    with pytest.raises(DataError, match="describes no recording"):
        prepare(copy, "S")
    with pytest.raises(UserError, match="no option 'musan'"):
        GigaSpeechCorpus.from_settings(copy, ["S"], {"musan": True})

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(gigaspeech.importlib, "import_module", missing)
    with pytest.raises(ResourceError, match=r"egs/gigaspeech/requirements.txt"):
        prepare(copy, "S")
    assert not [*(tmp_path / "out").iterdir()]
