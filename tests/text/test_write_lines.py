"""Text for language models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from zipasr.base.errors import DataError
from zipasr.text.text_io import write_lines


def test_spaces_are_made_single_and_empty_lines_left_out(tmp_path: Path) -> None:
    assert write_lines(tmp_path / "a.txt", ["A  B\n", " ", "", "C\tD "]) == 2
    assert (tmp_path / "a.txt").read_text() == "A B\nC D\n"


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    def broken() -> Iterator[str]:
        yield "A"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_lines(tmp_path / "a.txt", broken())
    with pytest.raises(DataError, match=r"there is no text for .*a\.txt"):
        write_lines(tmp_path / "a.txt", ["", " "])
    assert not list(tmp_path.iterdir())
