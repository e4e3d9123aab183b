from pathlib import Path

import pytest

from zipasr.audio.quarantine import FILE_NAME, LeftOut, Quarantine, write_quarantine
from zipasr.base.errors import DataError


def test_steps_write_their_own_rows_and_keep_the_others(tmp_path: Path) -> None:
    write_quarantine(tmp_path, [LeftOut("a.flac", "empty"), LeftOut("b.flac", "text", "b-1")], "x")
    path = write_quarantine(tmp_path, [LeftOut("c.flac", "tab\there")], "y")
    assert path.read_text().splitlines()[0].split("\t")[:2] == ["path", "reason"]
    write_quarantine(tmp_path, [LeftOut("d.flac", "new")], "x")
    assert Quarantine.read(tmp_path).rows == [
        LeftOut("c.flac", "tab here", "", "y"),
        LeftOut("d.flac", "new", "", "x"),
    ]
    write_quarantine(tmp_path, [], "x")
    write_quarantine(tmp_path, [], "y")
    assert not path.exists()


def test_files_and_single_utterances_are_left_out(tmp_path: Path) -> None:
    # Written by hand: one column is enough.
    (tmp_path / FILE_NAME).write_text("path\treason\na.flac\nb.flac\tnoise\tb-1\n")
    quarantine = Quarantine.read(tmp_path)
    assert quarantine.holds("a.flac", "any")
    assert quarantine.holds("b.flac", "b-1")
    assert not quarantine.holds("b.flac", "b-2")
    assert not quarantine.holds("c.flac", "b-1")  # another utterance that has the same name
    assert len(quarantine) == 2
    assert {row.found_by for row in quarantine.rows} == {"hand"}
    assert not Quarantine.read(tmp_path / "nowhere").holds("a.flac", "any")


def test_another_encoding_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"path\treason\n\xe9.flac\tx\n")
    with pytest.raises(DataError, match="not UTF-8"):
        Quarantine.read(tmp_path)
