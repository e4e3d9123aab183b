"""The corpus of given manifests, and the checks all manifests go through."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet

from zipasr.base.errors import DataError, UserError
from zipasr.corpora.corpus import CorpusOptions, get_corpus
from zipasr.corpora.manifest_files import write_manifests


def corpus_from(folder: Path, **more: Any) -> Any:
    settings = {"from": str(folder), **more}
    options = CorpusOptions(recipe_dir=Path("egs/x"), audio_dir=Path("x"), settings=settings)
    return get_corpus("manifests", options)


def two_utterances(folder: Path, **changes: Any) -> tuple[RecordingSet, SupervisionSet]:
    recordings, supervisions = [], []
    for name in ("a", "b"):
        path = folder / f"{name}.wav"
        soundfile.write(path, np.zeros(1600), 16000)
        recordings.append(Recording.from_file(path))
        fields = {"start": 0.0, "duration": 0.1, "text": "HELLO", **changes}
        supervisions.append(SupervisionSegment(id=name, recording_id=name, **fields))
    return RecordingSet.from_recordings(recordings), SupervisionSet.from_segments(supervisions)


def write_split(folder: Path, split: str, **changes: Any) -> None:
    recordings, supervisions = two_utterances(folder, **changes)
    recordings.to_file(folder / f"{split}_recordings.jsonl.gz")
    supervisions.to_file(folder / f"{split}_supervisions.jsonl.gz")


def test_manifests_are_taken_over_under_the_standard_names(tmp_path: Path) -> None:
    write_split(tmp_path, "train")
    write_split(tmp_path, "test-other")
    out = tmp_path / "out"
    assert corpus_from(tmp_path).prepare(out, num_jobs=1) == {"test-other": 2, "train": 2}
    assert {path.name for path in out.iterdir()} == {
        f"manifests_{kind}_{split}.jsonl.gz"
        for kind in ("recordings", "supervisions")
        for split in ("train", "test-other")
    }
    written = SupervisionSet.from_file(out / "manifests_supervisions_train.jsonl.gz")
    assert [segment.text for segment in written] == ["HELLO", "HELLO"]


def test_an_empty_folder_says_what_it_should_hold(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no manifest called <split>_recordings.jsonl.gz"):
        corpus_from(tmp_path).prepare(tmp_path / "out", num_jobs=1)


def test_recordings_without_supervisions_name_the_missing_file(tmp_path: Path) -> None:
    write_split(tmp_path, "train")
    (tmp_path / "train_supervisions.jsonl.gz").unlink()
    with pytest.raises(DataError, match=r"train_supervisions.jsonl.gz does not exist"):
        corpus_from(tmp_path).prepare(tmp_path / "out", num_jobs=1)


def test_a_file_that_is_no_manifest_is_named(tmp_path: Path) -> None:
    write_split(tmp_path, "train")
    (tmp_path / "train_recordings.jsonl.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match=r"train_recordings.jsonl.gz is not a manifest") as raised:
        corpus_from(tmp_path).prepare(tmp_path / "out", num_jobs=1)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"duration": 5.0}, "contradict themselves: Supervision a: exceeded the bounds"),
        ({"channel": 3}, "channel 3 does not exist"),
        ({"text": " "}, "train: 2 of 2 utterances have no text, such as a, b"),
    ],
)
def test_manifests_that_cannot_be_true_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write_split(tmp_path, "train", **changes)
    with pytest.raises(DataError, match=message):
        corpus_from(tmp_path).prepare(tmp_path / "out", num_jobs=1)
    assert not list(tmp_path.glob("out/*"))


def test_a_few_utterances_without_a_text_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recordings, supervisions = two_utterances(tmp_path)
    silent = [dataclasses.replace(s, text=s.text if s.id == "b" else None) for s in supervisions]
    recordings.to_file(tmp_path / "test_recordings.jsonl.gz")
    SupervisionSet.from_segments(silent).to_file(tmp_path / "test_supervisions.jsonl.gz")
    assert corpus_from(tmp_path).prepare(tmp_path / "out", num_jobs=1) == {"test": 2}
    assert "test: 1 of 2 utterances have no text, such as a; they are not trained on" in caplog.text


def test_a_split_without_supervisions_is_refused(tmp_path: Path) -> None:
    recordings, _ = two_utterances(tmp_path)
    with pytest.raises(DataError, match="there is no supervision at all"):
        write_manifests(tmp_path, "x", "train", recordings, SupervisionSet.from_segments([]))


def test_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no option 'form'\. Fix: did you mean 'from'"):
        corpus_from(tmp_path, form="x")
    options = CorpusOptions(recipe_dir=tmp_path, audio_dir=tmp_path)
    with pytest.raises(UserError, match="does not know where the manifests are"):
        get_corpus("manifests", options)
