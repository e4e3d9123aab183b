from __future__ import annotations

import base64
import io
import logging
import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, RecordingSet, SupervisionSet

from tests.corpora.own import table_of, write_sound, write_table
from zipasr.audio.quarantine import Quarantine
from zipasr.base.errors import DataError, UserError
from zipasr.corpora.custom.own_corpus import OwnCorpus


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
    assert lengths["u8-0000750-0002050"] == 1.25  # cut off where the file ends
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


def test_other_rates_are_refused_on_request(mixed: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        prepare(mixed, tmp_path / "data", **{"strict-rate": True})
    assert caught.value.what == (
        "4 of 9 sound files do not have 16000 Hz: 1 of 8000 Hz, 1 of 22050 Hz, 1 of 44100 Hz, "
        f"1 of 48000 Hz; the first: {tmp_path}/u5.wav."
    )
    assert not (tmp_path / "data/audio").exists()


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
    for i in range(7):
        (tmp_path / f"audio/u{i:02d}.flac").unlink()
    with pytest.raises(
        DataError, match=r"7 of 12 utterances cannot be used; .*quarantine.tsv"
    ) as caught:
        prepare(table, tmp_path / "data")
    assert str(caught.value).count("table.tsv, line 2") == 1
    assert caught.value.fix.endswith(f"./prepare.sh --from {table} --max-bad 59")
    assert len(Quarantine.read(tmp_path / "data/manifests")) == 7
    report = (tmp_path / "data/import-report.md").read_text()
    assert all(f"table.tsv, line {line}; " in report for line in range(2, 9))
    assert sum(prepare(table, tmp_path / "data", **{"max-bad": 60}).values()) == 5
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


@pytest.mark.parametrize("how", ["upper,no-punctuation", "1"])
def test_transcripts_are_normalised_on_request(tmp_path: Path, how: str) -> None:
    table = table_of(tmp_path, 4)
    table.write_text(table.read_text().replace("three", "Don\u2019t, stop!"))
    prepare(table, tmp_path / "data", normalise=how)
    splits = ("train", "dev", "test")
    cuts = [cut for split in splits for cut in cuts_of(tmp_path / "data", split)]
    assert {cut.supervisions[0].text for cut in cuts} == {"ONE", "TWO", "DON'T STOP", "FOUR"}
    report = (tmp_path / "data" / "import-report.md").read_text()
    changed = report.split("## Changed\n")[1].split("##")[0]
    assert "- 1 of 4 transcripts: without punctuation" in changed


def test_a_transcript_of_which_nothing_is_left_is_left_out(tmp_path: Path) -> None:
    table = table_of(tmp_path, 8)
    table.write_text(table.read_text().replace("three", "\u2026 !"))
    prepare(table, tmp_path / "data", normalise="no-punctuation")
    splits = ("train", "dev", "test")
    cuts = [cut for split in splits for cut in cuts_of(tmp_path / "data", split)]
    assert len(cuts) == 7
    assert "empty transcript" in (tmp_path / "data" / "import-report.md").read_text()


def test_dev_and_test_keep_what_has_no_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    splits: list[object] = ["train"] * 6 + ["dev", "dev", "test", "test"]
    table = table_of(tmp_path, 10, id=[f"u{i}" for i in range(10)], split=splits)
    lines = table.read_text().splitlines()
    for number, text in ((3, ""), (8, " "), (9, "...")):
        cells = lines[number].split("\t")
        lines[number] = "\t".join([cells[0], text, *cells[2:]])
    table.write_text("\n".join(lines))
    found = prepare(table, tmp_path / "data", normalise="no-punctuation")
    assert found == {"train": 5, "dev": 2, "test": 2}
    texts = {cut.supervisions[0].text for cut in cuts_of(tmp_path / "data", "test")}
    assert texts == {"", "three"}
    kept = "2 utterances of dev or test without a text, kept: what is recognised there is"
    assert kept in caplog.text
    assert "u7 [table.tsv, line 9]; u8 [table.tsv, line 10]" in caplog.text
    assert "left out 1: empty transcript, e.g. u2 [table.tsv, line 4]" in caplog.text


def test_a_test_set_with_many_that_have_no_text_is_refused(tmp_path: Path) -> None:
    splits: list[object] = ["train"] * 3 + ["dev"] + ["test"] * 4
    table = table_of(tmp_path, 8, id=[f"u{i}" for i in range(8)], split=splits)
    lines = table.read_text().splitlines()
    for number in range(5, 8):
        cells = lines[number].split("\t")
        lines[number] = "\t".join([cells[0], "", *cells[2:]])
    table.write_text("\n".join(lines))
    with pytest.raises(DataError) as raised:
        prepare(table, tmp_path / "data")
    assert raised.value.what.startswith("test: 3 of 4 utterances have no text, such as u4 [")
    assert raised.value.fix.startswith("see that the column of the transcripts is the right one;")
    assert prepare(table, tmp_path / "data", **{"max-bad": 75})["test"] == 4


def test_a_recipe_of_an_earlier_version_says_yes_or_no(tmp_path: Path) -> None:
    for value, how in ((True, "1"), (False, "0")):
        settings = {"from": str(tmp_path), "normalise": value}
        assert OwnCorpus.from_settings(tmp_path, settings).normalise == how


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


def test_pipes_are_asked_and_one_that_fails_costs_its_recording(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for i in range(4):
        write_sound(tmp_path / f"r{i}.wav", seed=i)
    pipes = [f"../../r{i} cat {tmp_path}/r{i}.wav |" for i in range(4)]
    pipes[2] = "r2 cat /no/such/file |"
    for name, lines in (("wav.scp", pipes), ("text", [f"{p.split()[0]} yes" for p in pipes])):
        (tmp_path / "kaldi").mkdir(exist_ok=True)
        (tmp_path / "kaldi" / name).write_text("\n".join(lines))
    assert sum(prepare(tmp_path / "kaldi", tmp_path / "x/data").values()) == 3
    (row,) = Quarantine.read(tmp_path / "x/data/manifests").rows
    assert "'cat /no/such/file' ended with 1: " in row.reason
    assert "[text, line 3]" in row.reason
    made = {path.parent for path in tmp_path.rglob("*.wav")}
    assert made == {tmp_path, tmp_path / "x/data/audio/piped"}
    # Another command writes another file.
    pipes[0] = pipes[0].replace("r0.wav", "r3.wav")
    (tmp_path / "kaldi/wav.scp").write_text("\n".join(pipes))
    prepare(tmp_path / "kaldi", tmp_path / "x/data")
    texts = [c.recording for s in ("train", "dev", "test") for c in cuts_of(tmp_path / "x/data", s)]
    (first,) = (one.to_cut().load_audio() for one in texts if one.id == "../../r0")
    np.testing.assert_array_equal(first[0], soundfile.read(tmp_path / "r3.wav")[0])


def test_what_has_no_transcript_stops_nothing(tmp_path: Path) -> None:
    segments, texts = [], []
    for i in range(16):
        write_sound(tmp_path / f"r{i}.wav", 0.2, seed=i)
        segments.append(f"u{i:02d} r{i} 0 -1")
        texts += [f"u{i:02d} yes"] * (i < 4)
    (tmp_path / "wav.scp").write_text("".join(f"r{i} r{i}.wav\n" for i in range(16)))
    (tmp_path / "segments").write_text("\n".join(segments))
    (tmp_path / "text").write_text("\n".join(texts))
    assert sum(prepare(tmp_path, tmp_path / "data").values()) == 4
    report = (tmp_path / "data/import-report.md").read_text()
    assert "12 utterances of segments that have no text" in report
    assert "  - segments, line 16; u15" in report
    assert len(Quarantine.read(tmp_path / "data/manifests")) == 12


def test_sound_outside_the_source_is_written_inside_the_data(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = []
    for i in range(6):
        write_sound(tmp_path / f"wavs/u{i}.wav", rate=8000, seed=i)
        rows.append({"audio": f"../wavs/u{i}.wav", "text": "x"})
    table = write_table(tmp_path / "tables/t.tsv", rows)
    prepare(table, tmp_path / "deep/data")
    assert {path.parents[-3] for path in tmp_path.rglob("*.flac")} == {tmp_path.parents[-3]}
    assert all(p.is_relative_to(tmp_path / "deep/data/audio") for p in tmp_path.rglob("*.flac"))


def test_a_named_pipe_among_the_sound_is_left_out(tmp_path: Path) -> None:
    table_of(tmp_path, 6)
    os.mkfifo(tmp_path / "audio/u99.wav")
    text = "audio/u99.wav\tnever\n"
    (tmp_path / "table.tsv").open("a").write(text)
    assert sum(prepare(tmp_path / "table.tsv", tmp_path / "data").values()) == 6
    (row,) = Quarantine.read(tmp_path / "data/manifests").rows
    assert "u99.wav is a named pipe" in row.reason


def test_channels_that_count_from_one(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = []
    for i in range(4):
        write_sound(tmp_path / f"u{i}.wav", channels=2, seed=i)
        rows += [{"audio": f"u{i}.wav", "text": f"{c}", "channel": c, "id": f"u{i}-{c}"}
                 for c in (1, 2)]  # fmt: skip
    prepare(write_table(tmp_path / "t.tsv", rows), tmp_path / "data")
    report = (tmp_path / "data/import-report.md").read_text()
    assert "8 channels, which the source counts from 1" in report
    assert "2 channels: 4 files, each taken for itself" in report
    (cut,) = (
        cut
        for split in ("train", "dev", "test")
        for cut in cuts_of(tmp_path / "data", split).trim_to_supervisions(keep_overlapping=False)
        if cut.supervisions[0].id == "u0-2"
    )
    expected = soundfile.read(tmp_path / "u0.wav")[0][:, 1]
    np.testing.assert_allclose(cut.load_audio()[0], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        ({"start": 1.0, "end": 2.2}, "ends after its file"),
        ({"start": 2.05, "end": ""}, "starts after the end of its file"),
        ({"start": 1.0, "end": 1.01}, "is too short to hold speech"),
        (
            {"start": 0.1, "end": ""},
            "has no end, though another utterance of its file starts later",
        ),
        ({"start": 1.0, "end": 2.0, "channel": 1}, "its file has no such channel"),
        ({"start": 1.0, "end": 2.0, "split": "other"}, "a split that is neither"),
    ],
)
def test_what_does_not_fit_its_file_is_left_out(
    last: dict[str, object], reason: str, tmp_path: Path
) -> None:
    rows: list[dict[str, object]] = []
    for i in range(4):
        write_sound(tmp_path / f"u{i}.wav", 2.0, seed=i)
        rows += [{"audio": f"u{i}.wav", "text": "x", "start": s, "end": e} for s, e in
                 ((0, 1.0), (1.0, 2.05))]  # fmt: skip
    rows.append({"audio": "u0.wav", "text": "y"} | last)
    assert sum(prepare(write_table(tmp_path / "t.tsv", rows), tmp_path / "data").values()) == 8
    (row,) = Quarantine.read(tmp_path / "data/manifests").rows
    assert row.reason.startswith(reason)
    assert "[t.tsv, line 10]" in row.reason


def test_suspicious_pairs_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rows: list[dict[str, object]] = []
    for i in range(120):
        write_sound(tmp_path / f"u{i:03d}.wav", 0.5, seed=i)
        text = "hello" if i < 105 else f"stop {i}"
        rows.append({"audio": f"u{i:03d}.wav", "text": text, "split": ["dev", "test"][i % 2]})
        rows[-1]["split"] = rows[-1]["split"] if i < 2 else "train"
    rows[110]["text"] = "far too many words for half a second of sound"
    write_sound(tmp_path / "u111.wav", 9.0, seed=111)
    clipped = np.sign(np.random.default_rng(1).normal(size=8000))
    soundfile.write(tmp_path / "u112.wav", clipped, 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "u113.wav", clipped * 1e-4, 16000, subtype="FLOAT")
    (tmp_path / "u114.wav").write_bytes((tmp_path / "u115.wav").read_bytes())
    rows[116] |= {"start": 0.0, "end": 0.4}
    rows.append(rows[116] | {"text": "stay", "start": 0.05, "end": 0.45})
    prepare(write_table(tmp_path / "t.tsv", rows), tmp_path / "data")
    report = (tmp_path / "data/import-report.md").read_text().partition("## Worth a look")[2]
    for kind, place in (
        ("many characters for so few seconds", "line 112; u110"),
        ("few characters for so many seconds", "line 113; u111"),
        ("clipped: more than 0.1 % of the samples", "line 114; u112"),
        ("nearly silent: less than -60 dB", "line 115; u113"),
        ("the same sound with different texts", "line 117; u115; as u114"),
        ("most of it is in another utterance, too", "line 122; u116-0000050-0000450"),
        ("a transcript that occurs 100 times or more", "line 2; u000; 105 times: hello"),
    ):
        listed = report.partition(f"- 1: {kind}")[2].partition("\n- ")[0]
        assert f"t.tsv, {place}" in listed, kind
        assert f"worth a look, 1: {kind}" in caplog.text


def test_the_page_has_ten_transcripts_with_their_sound(tmp_path: Path) -> None:
    table = table_of(tmp_path, 14)
    table.write_text(table.read_text().replace("three", "<b>&amp; \u05d0"))
    prepare(table, tmp_path / "data")
    page = (tmp_path / "data/import-report.html").read_text(encoding="utf-8")
    sounds = re.findall(r'src="data:audio/wav;base64,([^"]+)"', page)
    assert len(sounds) == 10
    for sound in sounds:
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(sound)))
        assert (len(samples), rate) == (16000, 16000)
        assert samples.std() > 0.05
    assert "&lt;b&gt;&amp;amp; \u05d0" in page
    assert "<b>" not in page
