"""What to do about sources of which nothing can be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.corpora.own import table_of, write_sound
from zipasr.base.errors import DataError
from zipasr.corpora.custom.own_corpus import OwnCorpus
from zipasr.corpora.custom.readers import read_source


def fix_of(source: Path, folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        OwnCorpus.from_settings(folder / "audio", {"from": str(source)}).survey(folder, 1)
    return caught.value.fix


def sounds(folder: Path) -> Path:
    for i in range(3):
        write_sound(folder / f"u{i}.wav", seed=i)
    return folder


def test_a_table_below_or_above_a_folder_of_sound_is_proposed(tmp_path: Path) -> None:
    table = table_of(tmp_path / "corpus/inner", 3)
    for folder in (tmp_path / "corpus", table.parent / "audio"):
        assert fix_of(folder, tmp_path / "d") == f"--from {table}"


def test_transcripts_elsewhere_are_noticed(tmp_path: Path) -> None:
    folder = sounds(tmp_path / "c")
    assert fix_of(folder, tmp_path / "d").startswith("write a table")
    for i in range(3):
        (folder / f"u{i}.lab").write_text("one")
    assert fix_of(folder, tmp_path / "d").startswith("3 .lab files have the names of sound files")
    (folder / "text").mkdir()
    for i in range(3):
        (folder / f"u{i}.lab").rename(folder / f"text/u{i}.txt")
    assert fix_of(folder, tmp_path / "d").startswith("put each .txt file beside its sound file")


def test_sound_that_is_not_there_is_looked_for_in_archives(tmp_path: Path) -> None:
    table = table_of(tmp_path / "c", 3)
    for path in (tmp_path / "c/audio").iterdir():
        path.unlink()
    assert fix_of(table, tmp_path / "d").startswith(f"names in it count from {table.parent}:")
    (tmp_path / "c/audio.tar.gz").write_bytes(b"\x1f\x8b")
    assert fix_of(table, tmp_path / "d") == f"unpack {tmp_path / 'c/audio.tar.gz'} first."
    table.unlink()
    assert fix_of(table.parent, tmp_path / "d") == f"unpack {tmp_path / 'c/audio.tar.gz'} first."


@pytest.mark.parametrize(
    ("name", "fix"), [("tabel.tsv", "did you mean 'table.tsv'?"), ("nothing", "give a table")]
)
def test_the_nearest_name_is_proposed(name: str, fix: str, tmp_path: Path) -> None:
    table = table_of(tmp_path / "c", 1)
    assert fix_of(table.parent / name, tmp_path / "d").startswith(fix)


def test_one_file_of_a_kaldi_directory_leads_to_the_directory(tmp_path: Path) -> None:
    for name in ("wav.scp", "text", "utt2spk"):
        (tmp_path / name).write_text("u0 x\n")
        if name != "wav.scp":
            assert fix_of(tmp_path / name, tmp_path / "d") == f"--from {tmp_path}"


def test_the_standard_input_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not read from the standard input"):
        read_source(Path("-"), "utf-8", tmp_path)
