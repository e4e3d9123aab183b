import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet, Recording, RecordingSet, load_manifest
from lhotse.cut import Cut

from tests.data.conftest import (
    CONFIG,
    NUM_CUTS,
    TinyCorpus,
    write_manifests,
    write_recording,
)
from tests.peers import needed
from zipasr.base.errors import DataError
from zipasr.data import feature_store as archives
from zipasr.data import feature_store as unfinished
from zipasr.data.config import FbankConfig
from zipasr.data.fbank import compute_and_store
from zipasr.data.feature_store import fbank_extractor

EXACT = FbankConfig(num_jobs=1, storage="numpy_files")


def reference(samples: np.ndarray) -> torch.Tensor:
    return needed("torchaudio.compliance.kaldi").fbank(
        torch.from_numpy(samples),
        num_mel_bins=80,
        dither=0.0,
        snip_edges=False,
        high_freq=-400.0,
        sample_frequency=16000.0,
    )


@pytest.mark.parametrize("num_samples", [1600, 16000, 23457])
def test_equals_torchaudio(num_samples: int) -> None:
    rng = np.random.default_rng(num_samples)
    samples = rng.normal(scale=0.1, size=(1, num_samples)).astype(np.float32)
    ours = torch.from_numpy(fbank_extractor().extract(samples, 16000))
    torch.testing.assert_close(ours, reference(samples), atol=1e-4, rtol=0)


def test_stored_features_are_those_of_the_audio(corpus: TinyCorpus, tmp_path: Path) -> None:
    report = compute_and_store("tiny", "train", corpus.manifests, tmp_path, EXACT)
    for cut in CutSet.from_file(report.manifest).subset(first=3):
        expected = reference(cut.load_audio())
        stored = torch.from_numpy(cut.load_features())
        torch.testing.assert_close(stored, expected, atol=1e-4, rtol=0)


def test_compressed_features_are_close(corpus: TinyCorpus) -> None:
    cut = corpus.cuts[0]
    assert np.abs(cut.load_features() - reference(cut.load_audio()).numpy()).max() < 0.02


def test_order_and_numbers_do_not_depend_on_the_processes(
    corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zipasr.data.fbank._CUTS_PER_ARCHIVE", 5)
    config = FbankConfig(num_jobs=3)
    report = compute_and_store("tiny", "train", corpus.manifests, tmp_path, config)
    cuts = CutSet.from_file(report.manifest).to_eager()
    assert report.cuts == NUM_CUTS
    assert [cut.id for cut in cuts] == [cut.id for cut in corpus.cuts]
    for cut, expected in zip(cuts, corpus.cuts, strict=True):
        np.testing.assert_array_equal(cut.load_features(), expected.load_features())


def test_second_run_computes_nothing(corpus: TinyCorpus) -> None:
    files = {p: p.stat().st_mtime_ns for p in corpus.fbank.rglob("*")}
    report = compute_and_store("tiny", "train", corpus.manifests, corpus.fbank, CONFIG)
    assert report.reused
    assert report.cuts == NUM_CUTS
    assert {p: p.stat().st_mtime_ns for p in corpus.fbank.rglob("*")} == files


def test_nothing_partial_is_left(corpus: TinyCorpus) -> None:
    assert sorted(p.name for p in corpus.fbank.iterdir()) == [
        "tiny_cuts_train.jsonl.gz",
        "tiny_feats_train",
    ]


def test_killed_run_does_not_look_whole(
    corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("zipasr.data.fbank.store_archive", killed)
        with pytest.raises(KeyboardInterrupt):
            compute_and_store("tiny", "train", corpus.manifests, tmp_path, CONFIG)
    assert list(tmp_path.iterdir()) == []
    # A power cut leaves the folder behind; the next run starts over.
    (tmp_path / ".partial-tiny_feats_train").mkdir()
    (tmp_path / ".partial-tiny_feats_train" / "feats-00000.lca").write_bytes(b"half")
    report = compute_and_store("tiny", "train", corpus.manifests, tmp_path, CONFIG)
    assert (report.reused, report.cuts) == (False, NUM_CUTS)
    assert not (tmp_path / ".partial-tiny_feats_train").exists()


def test_an_interrupted_run_goes_on_where_it_was(
    corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zipasr.data.fbank._CUTS_PER_ARCHIVE", 5)
    samples, read = archives._samples, []

    def counted(cut: Cut) -> np.ndarray:
        if len(read) == 12:
            raise KeyboardInterrupt
        read.append(cut.id)
        return samples(cut)

    monkeypatch.setattr(archives, "_samples", counted)
    with pytest.raises(KeyboardInterrupt):
        compute_and_store("tiny", "train", corpus.manifests, tmp_path, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == [".partial-tiny_feats_train"]
    again = read[10:]
    read[:] = ["unlimited"] * 13
    report = compute_and_store("tiny", "train", corpus.manifests, tmp_path, CONFIG)
    # The two archives that were whole are not read again, the third is.
    assert read[13:15] == again
    assert len(read[13:]) == NUM_CUTS - 10
    cuts = CutSet.from_file(report.manifest).to_eager()
    assert [cut.id for cut in cuts] == [cut.id for cut in corpus.cuts]
    for cut, expected in zip(cuts, corpus.cuts, strict=True):
        np.testing.assert_array_equal(cut.load_features(), expected.load_features())
    names = {path.name for path in (tmp_path / "tiny_feats_train").iterdir()}
    assert {name for name in names if not name.endswith(".lca")} == {"made_from.json"}


def test_what_was_begun_with_other_settings_is_thrown_away(
    corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zipasr.data.fbank._CUTS_PER_ARCHIVE", 5)
    with monkeypatch.context() as patch:
        patch.setattr("zipasr.data.fbank.forget_archives", lambda folder: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            compute_and_store("tiny", "train", corpus.manifests, tmp_path, CONFIG)
    assert unfinished.is_begun(tmp_path / ".partial-tiny_feats_train")
    report = compute_and_store("tiny", "train", corpus.manifests, tmp_path, EXACT)
    first = next(iter(CutSet.from_file(report.manifest)))
    assert first.features.storage_type == "numpy_files"


def test_other_settings_or_manifests_are_computed_again(
    corpus: TinyCorpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    compute_and_store("tiny", "train", corpus.manifests, tmp_path, CONFIG)
    with caplog.at_level(logging.INFO):
        report = compute_and_store("tiny", "train", corpus.manifests, tmp_path, EXACT)
    assert not report.reused
    assert "with other settings" in caplog.text
    made_from = json.loads((tmp_path / "tiny_feats_train" / "made_from.json").read_text())
    assert made_from["settings"]["storage"] == "numpy_files"


def test_speed_is_perturbed_in_train_only(tmp_path: Path) -> None:
    recording = write_recording(tmp_path, "a", 1.2)
    for split in ("train", "dev"):
        write_manifests(tmp_path, split, [recording], ["ON"])
    config = FbankConfig(num_jobs=1, perturb_speed=True)
    train = compute_and_store("tiny", "train", tmp_path, tmp_path, config)
    dev = compute_and_store("tiny", "dev", tmp_path, tmp_path, config)
    assert (train.cuts, dev.cuts) == (3, 1)
    cuts = CutSet.from_file(train.manifest).to_eager()
    assert [cut.num_frames for cut in cuts] == [120, 133, 109]
    assert [cut.load_features().shape[0] for cut in cuts] == [120, 133, 109]


def test_other_sampling_rates_are_resampled(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(8000) + 1e-3, 8000)
    write_manifests(tmp_path, "dev", [Recording.from_file(tmp_path / "a.wav")], ["ON"])
    report = compute_and_store("tiny", "dev", tmp_path, tmp_path, CONFIG)
    assert CutSet.from_file(report.manifest)[0].load_features().shape == (100, 80)


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def web_page(path: Path) -> None:
    path.write_text("<!DOCTYPE html><html><body>404 Not Found</body></html>")


@pytest.mark.parametrize("damage", [cut_in_half, empty, web_page, Path.unlink])
def test_damaged_audio_is_left_out_counted_and_listed(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    recordings = [write_recording(tmp_path, f"u{i}", 1.0, seed=i) for i in range(4)]
    write_manifests(tmp_path, "train", recordings, ["ON"] * 4)
    damage(tmp_path / "u2.flac")
    report = compute_and_store("tiny", "train", tmp_path, tmp_path / "fbank", CONFIG)
    assert (report.cuts, report.failed) == (3, 1)
    assert "1 of 4 cuts of tiny train cannot be read" in caplog.text
    assert report.quarantine is not None
    header, row = [line.split("\t") for line in report.quarantine.read_text().splitlines()]
    assert header == ["cut", "path", "reason"]
    assert row[:2] == ["u2-2", str(tmp_path / "u2.flac")]
    assert 5 < len(row[2]) <= 200
    assert (row[2] == "the file does not exist") == (damage is Path.unlink)
    again = compute_and_store("tiny", "train", tmp_path, tmp_path / "fbank", CONFIG)
    assert (again.reused, again.failed) == (True, 1)
    assert "1 cuts are missing in" in caplog.text


def test_many_damaged_files_stop_the_stage(tmp_path: Path) -> None:
    recordings = [write_recording(tmp_path, f"u{i}", 1.0, seed=i) for i in range(6)]
    write_manifests(tmp_path, "train", recordings, ["ON"] * 6)
    for i in range(4):
        empty(tmp_path / f"u{i}.flac")
    with pytest.raises(DataError, match=r"4 of 6 cuts .* listed in .*quarantine_train\.tsv"):
        compute_and_store("tiny", "train", tmp_path, tmp_path / "fbank", CONFIG)
    assert (tmp_path / "fbank" / "tiny_quarantine_train.tsv").is_file()
    assert not (tmp_path / "fbank" / "tiny_cuts_train.jsonl.gz").exists()


def test_missing_manifest_names_the_stage(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tiny_recordings_train\.jsonl\.gz .*--stage 1"):
        compute_and_store("tiny", "train", tmp_path, tmp_path, CONFIG)


def test_empty_manifest_is_an_error(tmp_path: Path) -> None:
    write_manifests(tmp_path, "train", [], [])
    with pytest.raises(DataError, match="is empty"):
        compute_and_store("tiny", "train", tmp_path, tmp_path, CONFIG)


def test_damaged_manifest_is_an_error(corpus: TinyCorpus, tmp_path: Path) -> None:
    for path in corpus.manifests.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match="is damaged"):
        compute_and_store("tiny", "train", tmp_path, tmp_path, CONFIG)


def test_manifests_of_the_fixture_are_as_many_as_cuts(corpus: TinyCorpus) -> None:
    recordings = load_manifest(corpus.manifests / "tiny_recordings_train.jsonl.gz")
    assert isinstance(recordings, RecordingSet)
    assert len(recordings) == len(corpus.cuts) == NUM_CUTS
