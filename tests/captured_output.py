"""Commands called in a test's own process, as their scripts call them, and what they said."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Said(NamedTuple):
    """The end of a command."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The message of a command that failed: the one line on the error stream."""
        (line,) = self.err.splitlines()
        assert line.startswith("error: ")
        return line

    @property
    def error_after_logs(self) -> str:
        """The same when log lines went before it."""
        assert "Traceback" not in self.err
        (line,) = [line for line in self.err.splitlines() if line.startswith("error")]
        return line


Call = Callable[..., Said]
