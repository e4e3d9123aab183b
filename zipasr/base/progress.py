"""Progress of long work: a bar or live line on a terminal, plain lines in a log."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

logger = logging.getLogger(__name__)

L = TypeVar("L", bound="_LastLine")


class _LastLine:
    """The last line of a terminal inside a ``with`` block, while log lines scroll above it."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        # The redirection adds a screen to the log where there was none.
        self._redirect = nullcontext() if bar.disable else logging_redirect_tqdm()

    def __enter__(self: L) -> L:
        # The redirection replaces handlers of the screen by others, which have no filters.
        root = logging.getLogger()
        before = root.handlers[:]
        self._redirect.__enter__()
        for handler in root.handlers:
            if handler not in before:
                for one in {one for replaced in before for one in replaced.filters}:
                    handler.addFilter(one)
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.close()
        self._redirect.__exit__(*error)


class Progress(_LastLine):
    """Count steps of a known or unknown total, show speed and remaining time.

    On a terminal a bar is redrawn at most twice a second and log lines scroll above it. Elsewhere
    a plain line is logged every ``seconds_between_lines``, without control characters.

    Args:
        what: shown before the numbers.
        total: number of steps, or None when it is not known.
        start: steps done before (a resumed run).
        visible: False makes all calls do nothing (processes other than the first).
    """

    seconds_between_lines = 30.0

    def __init__(
        self, what: str, total: int | None, *, start: int = 0, visible: bool = True
    ) -> None:
        self._what, self._total, self._start, self._done = what, total, start, start
        self._begun = self._last_line = time.monotonic()
        self._lines = visible and not sys.stderr.isatty()
        bar = tqdm(
            desc=what,
            total=total,
            initial=start,
            mininterval=0.5,
            dynamic_ncols=True,
            disable=not (visible and sys.stderr.isatty()),
        )
        super().__init__(bar)

    @property
    def done(self) -> int:
        """The steps done so far, those before the start included."""
        return self._done

    def step(self, note: str = "", count: int = 1) -> None:
        """Advance by ``count``; ``note`` is shown behind the numbers."""
        self._done += count
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(count)
        now = time.monotonic()
        if self._lines and now - self._last_line >= self.seconds_between_lines:
            self._last_line = now
            logger.info(self.line(now, note))

    def speed(self, now: float | None = None) -> float:
        """Return the steps per second since the beginning, at the monotonic time ``now``."""
        elapsed = (time.monotonic() if now is None else now) - self._begun
        return (self._done - self._start) / max(elapsed, 1e-9)

    def line(self, now: float, note: str = "") -> str:
        """Format the state at the monotonic time ``now`` (seconds) as a plain line."""
        speed = self.speed(now)
        text = f"{self._what} {self._done}/{self._total or '?'}, {speed:.2f} a second"
        if self._total and speed > 0:
            text += f", {clock((self._total - self._done) / speed)} to go"
        return f"{text}, {note}" if note else text


def two_digits(number: float) -> str:
    """Return a number with two significant digits, without an exponent: 0.012, 1.5, 160."""
    return f"{float(f'{number:.2g}'):g}"


def clock(seconds: float) -> str:
    """Format a duration: ``45s``, ``12m05s``, ``3h04m``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


SECONDS_BETWEEN_REFRESHES = 0.5
WIDTH = 120  # of a terminal that does not say


class LiveLine(_LastLine):
    """Show a changing text in the last line of the terminal; log lines scroll above it.

    Args:
        visible: False makes all calls do nothing (processes other than the first).
    """

    def __init__(self, *, visible: bool = True) -> None:
        self.is_live = visible and sys.stderr.isatty()
        self._shown = -SECONDS_BETWEEN_REFRESHES
        super().__init__(tqdm(bar_format="{desc}", leave=False, disable=not self.is_live))

    def show(self, text: Callable[[int], str]) -> None:
        """Show what ``text`` returns for the width of the terminal, at most twice a second."""
        now = time.monotonic()
        if self.is_live and now - self._shown >= SECONDS_BETWEEN_REFRESHES:
            self._shown = now
            try:
                self._bar.set_description_str(text(terminal_width()), refresh=True)
            except OSError:  # the terminal was closed; what is shown must not end what is done
                self.is_live = False


def terminal_width() -> int:
    """Return how many characters fit into a line without a break."""
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    return (columns or WIDTH) - 1
