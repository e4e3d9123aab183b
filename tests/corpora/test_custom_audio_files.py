"""The file that a name means."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from zipasr.audio.faults import MISSING
from zipasr.corpora.custom.audio_files import (
    BACKSLASHES,
    BY_NAME,
    HIDDEN,
    NOT_A_FILE,
    OTHER_FORM,
    SEVERAL,
    AudioFiles,
    sound_files,
)
from zipasr.corpora.custom.utterances import RowFault


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.fixture
def notes() -> Counter[str]:
    return Counter()


def fault(files: AudioFiles, name: str) -> str:
    with pytest.raises(RowFault) as said:
        files.find(name)
    return said.value.reason


def test_names_as_other_systems_write_them(tmp_path: Path, notes: Counter[str]) -> None:
    decomposed = unicodedata.normalize("NFD", "Ärzte/é.wav")
    touch(tmp_path, "in/a.wav", decomposed, "in/Loud.WAV")
    files = AudioFiles(tmp_path / "in", notes)
    assert files.find("../in\\a.wav").samefile(tmp_path / "in/a.wav")
    assert files.find("..\\Ärzte\\é.wav").samefile(tmp_path / decomposed)
    assert files.find("LOUD.wav").samefile(tmp_path / "in/Loud.WAV")
    assert files.find(f"file://{tmp_path}/in/a.wav").samefile(tmp_path / "in/a.wav")
    assert (notes[BACKSLASHES], notes[OTHER_FORM]) == (2, 2)


def test_a_name_is_looked_for_below_the_folder(tmp_path: Path, notes: Counter[str]) -> None:
    touch(tmp_path, "deep/s1/a.wav", "deep/s2/a.wav", "deep/s2/b.wav")
    files = AudioFiles(tmp_path, notes)
    assert files.find("b") == files.find("b.wav") == tmp_path / "deep/s2/b.wav"
    assert files.find("/gone/s1/a.wav") == tmp_path / "deep/s1/a.wav"
    assert fault(files, "a.wav") == SEVERAL
    assert fault(files, "c.wav") == MISSING
    assert notes == {BY_NAME: 1}


def test_a_file_of_another_row_is_not_taken_by_its_name(
    tmp_path: Path, notes: Counter[str]
) -> None:
    touch(tmp_path, "s2/a.wav")
    files = AudioFiles(tmp_path, notes)
    path = files.find("s1/a.wav")
    assert not files.is_doubtful(path, "s1/a.wav")
    files.find("s2/a.wav")
    assert files.is_doubtful(path, "s1/a.wav")
    assert not files.is_doubtful(path, "s2/a.wav")


def test_links_to_folders_are_followed_once(tmp_path: Path, notes: Counter[str]) -> None:
    touch(tmp_path, "real/a.wav", "top/b.wav", "top/._b.wav", "top/__MACOSX/b.wav", "top/.x/c.wav")
    (tmp_path / "top/link").symlink_to(tmp_path / "real")
    (tmp_path / "real/loop").symlink_to(tmp_path / "top")
    found = sound_files(tmp_path / "top", notes)
    assert [path.name for path in found] == ["b.wav", "a.wav"]
    assert notes == {HIDDEN: 1}


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/", "a\0b", "x" * 300, "\ud800", "\\", "//", "a/"]
)
def test_names_that_no_file_has(name: str, tmp_path: Path, notes: Counter[str]) -> None:
    assert fault(AudioFiles(tmp_path, notes), name) == MISSING


def test_a_named_pipe_is_not_opened(tmp_path: Path, notes: Counter[str]) -> None:
    os.mkfifo(tmp_path / "a.wav")
    (tmp_path / "b.wav").mkdir()
    files = AudioFiles(tmp_path, notes)
    assert fault(files, "a.wav") == fault(files, "b.wav") == NOT_A_FILE
