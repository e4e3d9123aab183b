from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, RecordingSet, SupervisionSet

from tests.corpora.own import table_of, write_sound, write_table
from zipasr.audio.quarantine import Quarantine
from zipasr.base.errors import DataError, UserError
from zipasr.corpora.custom.corpus import OwnCorpus


def prepare(source: Path, folder: Path, **options: object) -> dict[str, int]:
    corpus = OwnCorpus.from_settings(folder / "audio", {"from": str(source), **options})
    return corpus.prepare(folder / "manifests", 2)


def cuts_of(folder: Path, split: str) -> CutSet:
    recordings, supervisions = (
        kind.from_file(folder / "manifests" / f"own_{name}_{split}.jsonl.gz")
        for kind, name in ((RecordingSet, "recordings"), (SupervisionSet, "supervisions"))
    )
    return CutSet.from_manifests(recordings=recordings, supervisions=supervisions)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Ten files of many rates and channels; the last two are one file in two segments."""
    rows: list[dict[str, object]] = []
    for i, (rate, channels) in enumerate(
        [(16000, 1)] * 5 + [(8000, 1), (44100, 2), (48000, 1), (22050, 2)]
    ):
        write_sound(tmp_path / f"u{i}.wav", 2.0, rate=rate, channels=channels, seed=i)
        rows.append({"audio": f"u{i}.wav", "text": f"word {i}", "split": "train"})
    rows[-1] |= {"start": 0.0, "end": 0.75}
    rows += [rows[-1] | {"start": 0.75, "end": 2.05}]
    rows[0] |= {"split": "dev"}
    rows[1] |= {"split": "test"}
    return write_table(tmp_path / "source.tsv", rows)


def test_any_rate_and_channels_become_16_khz_and_one(
    mixed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert prepare(mixed, tmp_path / "data") == {"dev": 1, "test": 1, "train": 8}
    cuts = cuts_of(tmp_path / "data", "train").trim_to_supervisions(keep_overlapping=False)
    for cut in cuts:
        assert cut.sampling_rate == 16000
        assert cut.load_audio().shape == (1, cut.num_samples)
    lengths = {cut.supervisions[0].id: cut.duration for cut in cuts}
    assert lengths["u8-0000750"] == 1.25  # cut off where the file ends
    assert lengths["u5"] == 2.0
    for row in (
        "  8000 Hz, 1 channel: 1 files -> 16000 Hz; narrow-band",
        "  16000 Hz, 1 channel: 5 files\n",
        "  44100 Hz, 2 channels: 1 files -> 16000 Hz, mixed down",
        "split train: 8 utterances, ",
        "characters of the transcripts: ",
    ):
        assert row in caplog.text
    # What fits already is used where it is.
    made = sorted(path.name for path in (tmp_path / "data/audio").iterdir())
    assert made == ["u5.wav.flac", "u6.wav.flac", "u7.wav.flac", "u8.wav.flac"]


def test_a_second_time_nothing_is_converted_and_the_result_is_the_same(
    mixed: Path, tmp_path: Path
) -> None:
    prepare(mixed, tmp_path / "data")
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "data/audio").iterdir()}
    before = cuts_of(tmp_path / "data", "train").to_eager()
    (tmp_path / "data/audio/u6.wav.flac").unlink()
    prepare(mixed, tmp_path / "data")
    changed = {p for p, time in files.items() if p.stat().st_mtime_ns != time}
    assert changed == {tmp_path / "data/audio/u6.wav.flac"}
    assert cuts_of(tmp_path / "data", "train").to_eager() == before


def test_unusable_files_are_left_out_and_listed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    table = table_of(tmp_path, 12)
    audio = tmp_path / "audio"
    (audio / "u03.flac").write_bytes(b"")
    (audio / "u05.flac").write_bytes(b"<html>not found</html>")
    whole = (audio / "u07.flac").read_bytes()
    (audio / "u07.flac").write_bytes(whole[: len(whole) // 2])
    counts = prepare(table, tmp_path / "data")
    assert sum(counts.values()) == 9
    rows = Quarantine.read(tmp_path / "data/manifests").rows
    assert [Path(row.path).name for row in rows] == ["u03.flac", "u05.flac", "u07.flac"]
    assert "left out 1: empty file (0 bytes), e.g. " in caplog.text


def test_too_many_unusable_ones_stop_the_import(tmp_path: Path) -> None:
    table = table_of(tmp_path, 12)
    for i in range(4):
        (tmp_path / f"audio/u{i:02d}.flac").unlink()
    with pytest.raises(DataError, match=r"4 of 12 utterances cannot be used; .*quarantine.tsv"):
        prepare(table, tmp_path / "data")
    assert len(Quarantine.read(tmp_path / "data/manifests")) == 4
    table.write_text(table.read_text().replace("three", "").replace("one", ""))
    with pytest.raises(DataError, match="see that the column of the transcripts"):
        prepare(write_table(tmp_path / "e.tsv", [{"audio": "x", "text": ""}] * 9), tmp_path / "e")


def test_the_louder_channel_is_taken_when_one_is_silent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    table = table_of(tmp_path, 4)
    sound = np.random.default_rng(9).normal(scale=0.1, size=16000)
    path = tmp_path / "audio/u00.flac"
    soundfile.write(path, np.stack([0 * sound, sound], axis=1), 16000)
    prepare(table, tmp_path / "data")
    assert "2 channels: 1 files, the one channel that is not silent" in caplog.text
    made = soundfile.read(tmp_path / "data/audio/audio/u00.flac.flac")[0]
    np.testing.assert_allclose(made, soundfile.read(path)[0][:, 1], atol=1e-4)


def test_transcripts_are_normalised_on_request(tmp_path: Path) -> None:
    table = table_of(tmp_path, 4)
    table.write_text(table.read_text().replace("three", "Don\u2019t, stop!"))
    prepare(table, tmp_path / "data", normalise=True)
    splits = ("train", "dev", "test")
    cuts = [cut for split in splits for cut in cuts_of(tmp_path / "data", split)]
    assert {cut.supervisions[0].text for cut in cuts} == {"ONE", "TWO", "DON'T STOP", "FOUR"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "does not know where it is"),
        ({"from": "x", "encodin": "y"}, "no option 'encodin'. Fix: did you mean 'encoding'?"),
        ({"from": "x", "seed": "1"}, "seed = '1' is no int"),
        ({"from": "x", "encoding": "utf-9"}, "not the name of an encoding"),
    ],
)
def test_options_are_checked(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as said:
        OwnCorpus.from_settings(Path("audio"), settings)
    assert message in str(said.value)
