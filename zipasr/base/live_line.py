"""A line on a terminal that is written over in place; elsewhere nothing."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from types import TracebackType

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

SECONDS_BETWEEN_REFRESHES = 0.5
WIDTH = 120  # of a terminal that does not say


class LiveLine:
    """Show a changing text in the last line of the terminal; log lines scroll above it.

    Args:
        visible: False makes all calls do nothing (processes other than the first).
    """

    def __init__(self, *, visible: bool = True) -> None:
        self.is_live = visible and sys.stderr.isatty()
        self._shown = -SECONDS_BETWEEN_REFRESHES
        self._bar = tqdm(bar_format="{desc}", leave=False, disable=not self.is_live)
        # The redirection adds a screen to the log where there was none.
        self._redirect = logging_redirect_tqdm() if self.is_live else nullcontext()

    def __enter__(self) -> LiveLine:
        self._redirect.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        self._redirect.__exit__(kind, error, trace)

    def show(self, text: Callable[[int], str]) -> None:
        """Show what ``text`` returns for the width of the terminal, at most twice a second."""
        now = time.monotonic()
        if self.is_live and now - self._shown >= SECONDS_BETWEEN_REFRESHES:
            self._shown = now
            self._bar.set_description_str(text(_width()), refresh=True)


def _width() -> int:
    """Return how many characters fit into a line without a break."""
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    return (columns or WIDTH) - 1
