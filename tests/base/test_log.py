"""Logging of commands, and of programs that call them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from zipasr.base.log import logging_put_back, setup_logging


class Closing(logging.NullHandler):
    """A handler that remembers whether it was closed."""

    is_closed = False

    def close(self) -> None:
        """Note it."""
        self.is_closed = True
        super().close()


def test_the_logging_of_a_program_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, own = logging.getLogger(), Closing()
    monkeypatch.setattr(root, "handlers", [own])
    before = root.level
    with logging_put_back():
        setup_logging(tmp_path / "log")
        assert own not in root.handlers
        logging.getLogger("zipasr.base").info("written to the file")
    assert root.handlers == [own]
    assert root.level == before
    assert not own.is_closed
    (file,) = tmp_path.iterdir()
    assert "INFO written to the file" in file.read_text()
