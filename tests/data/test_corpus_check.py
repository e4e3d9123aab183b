"""Every fault of sound and text: found, counted, listed, and left out of what follows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet

from zipasr.audio.quarantine import Quarantine
from zipasr.base.errors import DataError
from zipasr.data import corpus_check
from zipasr.data.config import DataConfig, FbankConfig
from zipasr.data.corpus_check import CorpusReport, check_corpus
from zipasr.data.fbank import compute_and_store
from zipasr.data.loaders import load_cuts, valid_loader


class Corpus:
    """Manifests of a training and a test split, one second to the file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recordings: dict[str, list[Recording]] = {"train": [], "test": []}
        self.supervisions: dict[str, list[SupervisionSegment]] = {"train": [], "test": []}
        for i in range(8):
            self.add("train", f"a{i}", seed=i, speaker=f"s{i}")
        for i in range(3):
            self.add("test", f"b{i}", seed=100 + i, speaker=f"t{i}")

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.flac"

    def add(self, split: str, name: str, seed: int, text: str = "yes", speaker: str = "x") -> None:
        sound = np.random.default_rng(seed).normal(scale=0.1, size=16000)
        soundfile.write(self.path(name), sound, 16000)
        self.recordings[split].append(Recording.from_file(self.path(name), recording_id=name))
        self.supervisions[split].append(
            SupervisionSegment(name, name, 0.0, 1.0, text=text, speaker=speaker)
        )

    def check(self) -> CorpusReport:
        for split, recordings in self.recordings.items():
            RecordingSet.from_recordings(recordings).to_file(
                self.folder / f"c_recordings_{split}.jsonl.gz"
            )
            SupervisionSet.from_segments(self.supervisions[split]).to_file(
                self.folder / f"c_supervisions_{split}.jsonl.gz"
            )
        return check_corpus(self.folder, "c", ["train"], ["test"], 2)

    def listed(self) -> dict[str, str]:
        """File or utterance -> reason."""
        rows = Quarantine.read(self.folder).rows
        return {row.utterance or Path(row.path).stem: row.reason for row in rows}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path)


def test_a_sound_corpus_has_no_findings(corpus: Corpus) -> None:
    report = corpus.check()
    assert (report.files, report.seconds, dict(report.findings)) == (11, 11.0, {})
    assert corpus.listed() == {}
    report.stop_when_too_many()


def test_every_kind_of_fault_is_found(corpus: Corpus) -> None:
    corpus.path("a0").write_bytes(corpus.path("a0").read_bytes()[:9000])
    corpus.path("b0").write_bytes(b"")
    soundfile.write(corpus.path("a1"), np.random.default_rng(1).normal(size=8000) / 9, 16000)
    corpus.add("train", "wordy", 20, text="many words " * 9)
    corpus.add("train", "mute", 21, text=" ")
    corpus.add("train", "copy", 101, speaker="t2")  # the sound of b1
    corpus.add("test", "silence", 22, text="", speaker="t9")
    corpus.supervisions["test"][2].text = "many words " * 9  # a test set stays whole
    report = corpus.check()
    counts = {kind: len(found) for kind, found in report.findings.items()}
    assert counts == {
        corpus_check.DAMAGED: 2,
        corpus_check.WRONG_LENGTH: 1,
        corpus_check.TEXT_TOO_LONG: 1,
        corpus_check.NO_TEXT: 1,
        corpus_check.UNSPOKEN: 1,
        corpus_check.SAME_SOUND: 1,
        corpus_check.SAME_SPEAKER: 1,
    }
    listed = corpus.listed()
    assert sorted(listed) == ["a0", "a1", "b0", "copy", "mute", "wordy"]
    assert listed["b0"] == "empty file (0 bytes)"
    assert listed["a1"] == "1.00 s in the manifest, 0.50 s in the file"
    assert listed["copy"] == corpus_check.SAME_SOUND
    text = report.text()
    assert "2: damaged audio, e.g. " in text
    assert text.count("to do: ") == len(counts)
    assert str(corpus.folder / "quarantine.tsv") in text


def test_an_id_in_two_splits_and_another_rate_are_found(corpus: Corpus) -> None:
    corpus.add("test", "b3", 50)
    corpus.supervisions["test"][-1].id = "a3"
    soundfile.write(corpus.path("a4"), np.random.default_rng(4).normal(size=8000) / 9, 8000)
    corpus.check()
    listed = corpus.listed()
    assert listed["a4"] == "16000 Hz in the manifest, 8000 Hz in the file"
    assert listed["a3"] == corpus_check.SAME_ID


def test_a_damaged_corpus_is_refused(corpus: Corpus) -> None:
    for i in range(4):
        corpus.path(f"a{i}").unlink()
    with pytest.raises(DataError, match=r"4 of 11 sound files cannot be used; .*does not exist"):
        corpus.check().stop_when_too_many()


def test_features_and_training_leave_out_what_is_listed(corpus: Corpus, tmp_path: Path) -> None:
    corpus.path("a0").write_bytes(b"<html>")
    corpus.add("train", "wordy", 20, text="many words " * 9)
    corpus.check()
    config = FbankConfig(num_jobs=1, perturb_speed=True)
    report = compute_and_store("c", "train", corpus.folder, tmp_path / "fbank", config)
    assert (report.cuts, report.failed) == (7 * 3, 0)
    # A test set keeps utterances without a text.
    corpus.add("test", "silence", 22, text="", speaker="t9")
    corpus.check()
    compute_and_store("c", "test", corpus.folder, tmp_path / "fbank", config)
    loader = valid_loader(load_cuts(tmp_path / "fbank", "c", ["test"]), DataConfig(num_workers=0))
    texts = [text for batch in loader for text in batch.texts]
    assert sorted(texts) == ["", "yes", "yes", "yes"]
    # A line by hand works at once, at all speeds.
    listed = tmp_path / "fbank" / "quarantine.tsv"
    listed.write_text(f"path\treason\tutterance\n{corpus.path('a1')}\tnoise\n\tnoise\ta2\n")
    names = {cut.supervisions[0].id for cut in load_cuts(tmp_path / "fbank", "c", ["train"])}
    assert {name.split("_")[0] for name in names} == {"a3", "a4", "a5", "a6", "a7"}
    assert len(names) == 15
