"""Logging of commands, and of programs that call them."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest

from zipasr.base.log import COUNTED, log_untold, logging_put_back, setup_logging
from zipasr.base.progress import LiveLine


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


def said(tmp_path: Path) -> list[str]:
    (file,) = tmp_path.iterdir()
    return [line.split(" ", 2)[2] for line in file.read_text().splitlines()]


def test_warnings_that_repeat_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("zipasr.somewhere")
    with logging_put_back():
        setup_logging(tmp_path / "log")
        for n in range(23):
            logger.warning("%d of 9 utterances are too short: %s", n, f"cut-{n}")
        logger.warning("something else")
        log_untold()
    text = "WARNING {} of 9 utterances are too short: cut-{}"
    first = [text.format(n, n) + (f" ({n + 1} times so far)" if n else "") for n in range(5)]
    assert said(tmp_path) == [
        *first,
        f"{text.format(9, 9)} (10 times so far)",
        "WARNING something else",
        "INFO 23 times in all: 9 of 9 utterances are too short: cut-9",
    ]
    assert [line.split(" ", 2)[2] for line in capsys.readouterr().err.splitlines()] == said(
        tmp_path
    )


def test_other_messages_are_shown_every_time(tmp_path: Path) -> None:
    with logging_put_back():
        setup_logging(tmp_path / "log")
        for n in range(8):
            logging.error("nothing is saved since %d", n)
            logging.info("batch %d", n)
            logging.warning("%s", "abcdefgh"[n] * 5)  # without words of its own: each is another
        log_untold()
    assert len(said(tmp_path)) == 24


@pytest.mark.parametrize(("times", "lines"), [(5, 5), (9, 5), (10, 6), (99, 6), (1000, 8)])
def test_fewer_and_fewer_are_shown(tmp_path: Path, times: int, lines: int) -> None:
    with logging_put_back():
        setup_logging(tmp_path / "log")
        for n in range(times):
            logging.info("Scaling gradients by %.1f", 1 / (n + 2), extra=COUNTED)
    assert len(said(tmp_path)) == lines


def test_a_live_line_counts_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The redirection of log lines above it keeps no filters of its own."""
    screen = io.StringIO()
    screen.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stderr", screen)
    with logging_put_back():
        setup_logging()
        foreign = logging.NullHandler()
        logging.getLogger().addHandler(foreign)
        with LiveLine():
            for _ in range(9):
                logging.warning("the same again")
        assert foreign.filters == []
    assert screen.getvalue().count("the same again") == 5
