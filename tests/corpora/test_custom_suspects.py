"""What the import says about transcripts, sounds and splits that look wrong."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.corpora.own import table_of, write_sound, write_table
from zipasr.base.errors import DataError
from zipasr.corpora.custom.own_corpus import OwnCorpus


def told(source: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> str:
    caplog.set_level(logging.INFO)
    corpus = OwnCorpus.from_settings(folder / "audio", {"from": str(source)})
    corpus.prepare(folder / "manifests", 1)
    return caplog.text


def refused(source: Path, folder: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        OwnCorpus.from_settings(folder / "audio", {"from": str(source)}).survey(folder, 1)
    return caught.value


def texts(tmp_path: Path, *odd: str) -> Path:
    """A table of twelve utterances, the first with texts of their own."""
    source = table_of(tmp_path / "c", 12)
    head, *lines = source.read_text().splitlines()
    changed = [line.split("\t")[0] + "\t" + text for line, text in zip(lines, odd, strict=False)]
    source.write_text("\n".join([head, *changed, *lines[len(changed) :]]) + "\n")
    return source


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (["a.txt", "b/c.WAV"], "worth a look, 2: a transcript that is the name of a file"),
        (["3.25", "1.0"], "worth a look, 2: a transcript that is a number with decimals"),
        (["...", "-", "\u200b?"], "worth a look, 3: a transcript without any letter or digit"),
        (["<b>one</b>", "[noise] two", "a &amp; b"], "worth a look, 3: tags in the transcript"),
        (["ONE", "Two"], "worth a look, 2: not in the case of most transcripts"),
    ],
)
def test_a_transcript_that_is_none_is_worth_a_look(
    odd: list[str], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert said in told(texts(tmp_path, *odd), tmp_path / "d", caplog)


def test_plain_transcripts_are_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain = texts(tmp_path, "7", "one < two", "ok.", "日本語", "12 3")
    assert "worth a look" not in told(plain, tmp_path / "d", caplog)


def test_mixed_case_is_nobodys_mistake(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mixed = texts(tmp_path, *["Hello there"] * 6)
    assert "not in the case" not in told(mixed, tmp_path / "d", caplog)


def test_a_column_of_file_names_is_refused(tmp_path: Path) -> None:
    error = refused(texts(tmp_path, *[f"txt/u{i}.txt" for i in range(7)]), tmp_path / "d")
    assert error.what.startswith("7 of 12 transcripts are names of files, such as 'txt/u0.txt'")


def test_sound_and_speakers_of_dev_and_test_that_are_in_training_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows: list[dict[str, object]] = []
    for i in range(12):
        write_sound(tmp_path / f"u{i}.wav", seed=i)
        split = "test" if i < 3 else "dev" if i < 5 else "train"
        speaker = "anna" if i in (0, 11) else f"s{i}"
        rows.append({"audio": f"u{i}.wav", "text": "one", "split": split, "speaker": speaker})
    write_sound(tmp_path / "copy.wav", seed=1)  # the sound of a test utterance, by another name
    rows += [{"audio": "copy.wav", "text": "one", "split": "train", "speaker": "s1"}]
    log = told(write_table(tmp_path / "t.tsv", rows), tmp_path / "d", caplog)
    assert "worth a look, 1: dev or test sound that is in the training, too" in log
    assert "worth a look, 2: dev or test utterances of speakers that are in the training" in log
    report = (tmp_path / "d/import-report.md").read_text()
    assert "u1; as copy \\[t.tsv, line 14\\]" in report


def test_an_utterance_listed_twice_is_told_once_and_in_our_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = table_of(tmp_path / "c", 12)
    source.write_text(source.read_text() + source.read_text().splitlines()[1] + "\n")
    log = told(source, tmp_path / "d", caplog)
    assert "worth a look, 1: the same sound with the same text, again" in log
    assert "Did you forget" not in log
