"""Manifests of LibriSpeech and MUSAN, and what is said about copies that are not whole."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from lhotse import RecordingSet, SupervisionSet
from lhotse.recipes import prepare_librispeech

from tests.corpora import libri
from zipasr.base.errors import DataError, UserError
from zipasr.corpora.librispeech import LibriSpeechCorpus
from zipasr.corpora.openslr import write_noise_manifests

GENUINE = Path(__file__).resolve().parents[3] / "shared" / "data" / "LibriSpeech"


def corpus(folder: Path, *parts: str, musan: bool = False) -> LibriSpeechCorpus:
    return LibriSpeechCorpus.from_settings(folder, parts or ("dev-clean-2",), {"musan": musan})


@pytest.fixture
def chapter(tmp_path: Path) -> Path:
    return libri.write_part(tmp_path / "LibriSpeech", "dev-clean-2")


def test_the_manifests_are_those_of_lhotse(chapter: Path, tmp_path: Path) -> None:
    libri.write_part(tmp_path / "LibriSpeech", "train-clean-5", speaker="7")
    found = corpus(tmp_path, "dev-clean-2", "train-clean-5").prepare(tmp_path / "out", 2)
    assert found == {"dev-clean-2": 3, "train-clean-5": 3}
    theirs = prepare_librispeech(tmp_path / "LibriSpeech", output_dir=tmp_path / "theirs")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        path.name for path in (tmp_path / "theirs").iterdir()
    )
    for part in found:
        ours = RecordingSet.from_file(tmp_path / f"out/librispeech_recordings_{part}.jsonl.gz")
        assert list(ours) == list(theirs[part]["recordings"])
        said = SupervisionSet.from_file(tmp_path / f"out/librispeech_supervisions_{part}.jsonl.gz")
        assert list(said) == list(theirs[part]["supervisions"])


@pytest.mark.skipif(not GENUINE.is_dir(), reason=f"{GENUINE} is not there")
def test_genuine_recordings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    counts = corpus(GENUINE.parent, "dev-clean-2", "test-other").prepare(tmp_path, 2)
    assert counts == {"dev-clean-2": 19, "test-other": 16}
    said = SupervisionSet.from_file(tmp_path / "librispeech_supervisions_test-other.jsonl.gz")
    assert {segment.speaker for segment in said} == {"2609", "3080"}
    assert sum(segment.duration for segment in said) == pytest.approx(116.3, abs=0.05)
    assert "19 utterances, where the published part has 1089" in caplog.text


def test_a_few_lost_files_are_named_and_left_out(
    chapter: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (chapter / "121-121726-0000.flac").unlink()
    (chapter / "121-121726-0001.flac").write_bytes(b"<html>")
    assert corpus(tmp_path).prepare(tmp_path / "out", 1) == {"dev-clean-2": 1}
    assert "audio of 2 of 3 utterances is missing or damaged" in caplog.text
    assert "such as 121-121726-0000, 121-121726-0001; going on without them" in caplog.text


def test_no_audio_at_all_is_an_error(chapter: Path, tmp_path: Path) -> None:
    for path in chapter.glob("*.flac"):
        path.unlink()
    with pytest.raises(DataError, match=r"3 of 3 utterances is missing.*Fix: delete the folder"):
        corpus(tmp_path).prepare(tmp_path / "out", 1)
    assert not (tmp_path / "out").exists()


def test_no_transcripts_is_an_error(chapter: Path, tmp_path: Path) -> None:
    next(chapter.glob("*.txt")).unlink()
    with pytest.raises(DataError, match="dev-clean-2 has no transcripts"):
        corpus(tmp_path).prepare(tmp_path / "out", 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"121-121726-0000 A\n121-121726-0001 CAF\xe9 B\n", r"line 2: b'\\xe9' is no UTF-8"),
        (b"121-121726-0000 A\n\n121-121726-0001 \n", "line 3: there is no text"),
    ],
)
def test_a_transcript_that_cannot_be_read_names_its_line(
    content: bytes, message: str, chapter: Path, tmp_path: Path
) -> None:
    (chapter / "121-121726.trans.txt").write_bytes(content)
    with pytest.raises(DataError, match=f"121-121726.trans.txt, {message}"):
        corpus(tmp_path).prepare(tmp_path / "out", 1)


def test_marks_and_line_ends_of_other_systems_are_no_text(chapter: Path, tmp_path: Path) -> None:
    path = chapter / "121-121726.trans.txt"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert corpus(tmp_path).prepare(tmp_path / "out", 1) == {"dev-clean-2": 3}
    path = tmp_path / "out/librispeech_supervisions_dev-clean-2.jsonl.gz"
    assert [segment.text for segment in SupervisionSet.from_file(path)] == list(libri.TEXTS)


@pytest.mark.parametrize(
    ("there", "dl_dir", "fix"),
    [
        ("other", "download", "run ./prepare.sh --stage 0 first"),
        ("download/LibriSpeech", "download/LibriSpeech", "give --dl-dir {}/download"),
        ("corpora/LibriSpeech/LibriSpeech", "corpora", "give --dl-dir {}/corpora/LibriSpeech"),
        ("corpora/LibriSpeech", "corpora/LibriSpeech/dev-clean-2", "give --dl-dir {}/corpora"),
        ("a/speech/LibriSpeech", "a", "give --dl-dir {}/a/speech"),
        ("corpora", "corpora", "ln -s {0}/corpora {0}/LibriSpeech, and give --dl-dir {0}"),
    ],
)
def test_a_corpus_in_another_place_is_found(
    there: str, dl_dir: str, fix: str, tmp_path: Path
) -> None:
    libri.write_part(tmp_path / there, "dev-clean-2")
    with pytest.raises(DataError) as raised:
        corpus(tmp_path / dl_dir).prepare(tmp_path / "out", 1)
    assert str(tmp_path / dl_dir / "LibriSpeech" / "dev-clean-2") in raised.value.what
    assert fix.format(tmp_path) in raised.value.fix


@pytest.mark.parametrize("place", ["download", "download/LibriSpeech", "", "download/a/b"])
def test_an_archive_that_is_not_unpacked_is_found(place: str, tmp_path: Path) -> None:
    (tmp_path / "download").mkdir()
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / place / "dev-clean-2.tar.gz").touch()
    with pytest.raises(DataError) as raised:
        corpus(tmp_path / "download").prepare(tmp_path / "out", 1)
    assert raised.value.fix == (
        f"run ./prepare.sh --stage 0 --dl-dir {tmp_path / place}, which unpacks dev-clean-2.tar.gz"
    )


def test_what_is_there_is_listed(tmp_path: Path) -> None:
    (tmp_path / "download").mkdir()
    (tmp_path / "download" / "dev-clean-2.tar.gz").touch()
    with pytest.raises(DataError, match=r"download holds dev-clean-2.tar.gz\."):
        corpus(tmp_path / "download").prepare(tmp_path / "out", 1)


@pytest.mark.parametrize(
    ("parts", "settings", "message"),
    [
        (["dev-claen"], {}, "no part 'dev-claen'. Fix: did you mean 'dev-clean'"),
        ([], {"musn": True}, "no option 'musn'. Fix: did you mean 'musan'"),
        ([], {"musan": "yes"}, "musan = 'yes' is neither true nor false"),
        ([], {"lm": "x"}, "lm = 'x' is no list"),
        ([], {"lm": ["5-gram.arpa.gz"]}, "did you mean '4-gram.arpa.gz'"),
    ],
)
def test_settings_are_checked(parts: list[str], settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LibriSpeechCorpus.from_settings(Path("download"), parts, settings)


def test_the_downloads_of_a_recipe(tmp_path: Path) -> None:
    lm = ["librispeech-lexicon.txt"]
    libri_corpus = LibriSpeechCorpus.from_settings(tmp_path, ["dev-other"], {"lm": lm})
    addresses = [item.file.addresses("m")[0] for item in libri_corpus.downloads()]
    assert addresses == [
        "m/12/dev-other.tar.gz",
        "m/17/musan.tar.gz",
        "m/11/librispeech-lexicon.txt",
    ]
    assert [str(item.gives) for item in libri_corpus.downloads()] == [
        "LibriSpeech/dev-other",
        "musan",
        "None",
    ]
    assert libri_corpus.lexicon() is None
    (tmp_path / "lm").mkdir()
    for name in ("librispeech-lexicon.txt", "librispeech-lm-norm.txt.gz"):
        (tmp_path / "lm" / name).touch()
    assert libri_corpus.lexicon() == tmp_path / "lm" / "librispeech-lexicon.txt"
    assert libri_corpus.lm_text() is None  # the recipe does not ask for it


def test_noise_has_the_manifests_of_icefall(tmp_path: Path) -> None:
    musan = libri.write_musan(tmp_path, seconds=1.0)
    counts = write_noise_manifests(musan, tmp_path / "out")
    assert counts == {"music": 1, "speech": 1, "noise": 1}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "musan_recordings_music.jsonl.gz",
        "musan_recordings_noise.jsonl.gz",
        "musan_recordings_speech.jsonl.gz",
        "musan_supervisions_music.jsonl.gz",
    ]


def test_noise_that_is_missing_or_damaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(DataError, match="set musan = false"):
        write_noise_manifests(tmp_path / "musan", tmp_path / "out")
    musan = libri.write_musan(tmp_path, seconds=0.1)
    (musan / "noise/source/noise-source-0000.wav").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read"):
        write_noise_manifests(musan, tmp_path / "out")
    assert not (tmp_path / "out").exists()
