"""The line on a terminal: few refreshes; nothing where there is no terminal."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from zipasr.base import progress as live_line
from zipasr.base.progress import LiveLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def texts(screen: Terminal) -> list[str]:
    """What was shown, one after the other."""
    return [part.strip() for part in screen.getvalue().split("\r") if part.strip()]


def test_it_is_drawn_at_most_twice_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    now = 100.0
    monkeypatch.setattr(live_line.time, "monotonic", lambda: now)
    with LiveLine() as line:
        for tenth in range(21):
            now = 100.0 + tenth / 10
            line.show(lambda width, t=tenth: f"at {t}"[:width])
    shown = list(dict.fromkeys(texts(screen)))
    assert shown == ["at 0", "at 5", "at 10", "at 15", "at 20"]
    assert "\n" not in screen.getvalue()


@pytest.mark.parametrize("visible", [True, False])
def test_it_is_silent_elsewhere(visible: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO() if visible else Terminal()
    monkeypatch.setattr(sys, "stderr", screen)

    def never(width: int) -> str:
        raise AssertionError("nobody looks at this")

    with LiveLine(visible=visible) as line:
        line.show(never)
    assert screen.getvalue() == ""


def test_log_lines_scroll_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [logging.StreamHandler(screen)])
    with LiveLine() as line:
        line.show(lambda width: "going")
        logging.warning("told")
    assert "told\n" in screen.getvalue().replace("\r", "")
