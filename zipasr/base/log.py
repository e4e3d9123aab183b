"""Logging: one format, a file for each process, the screen for rank 0, repetitions counted."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

logger = logging.getLogger(__name__)

FORMAT = "%(asctime)s %(levelname)s %(message)s"


def is_first() -> bool:
    """Say whether this is the only process, the one that starts the others, or the first of many.

    Known before there is a group: a launcher such as ``torchrun`` says it in the environment.
    """
    return os.environ.get("RANK", "0") == "0"


#: ``extra`` of a record that is no warning and counted all the same.
COUNTED = {"is_counted": True}
# Of equal messages so many are shown, then the 10th, 100th, 1000th and so on.
SHOWN_AT_FIRST = 5
_PLACEHOLDER = re.compile(r"%[-#0 +\d.]*[a-z%]")


class RepeatFilter(logging.Filter):
    """Pass some of the records that say the same: the first ones, then fewer and fewer.

    The same is what one place in the code says about different things. Warnings are counted, and
    what is logged with ``extra=COUNTED``; errors and all else always pass. Handlers that share the
    filter pass the same records.
    """

    def __init__(self) -> None:
        super().__init__()
        self._times: Counter[str] = Counter()
        self._last: dict[str, tuple[int, str]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a record is shown; its attribute ``times`` counts it and its like."""
        if record.levelno != logging.WARNING and not hasattr(record, "is_counted"):
            return True
        facts = record.__dict__
        if "times" not in facts:
            kind = _kind_of(record)
            self._times[kind] += 1
            facts["times"] = self._times[kind]
            if _is_shown(self._times[kind]):
                self._last[kind] = self._times[kind], record.getMessage()
        return _is_shown(facts["times"])

    def untold(self) -> dict[str, int]:
        """Return the last message shown of each kind that came again since -> times in all."""
        return {
            text: self._times[kind]
            for kind, (times, text) in self._last.items()
            if self._times[kind] > times
        }


def _is_shown(times: int) -> bool:
    return times <= SHOWN_AT_FIRST or str(times).strip("0") == "1"


def _kind_of(record: logging.LogRecord) -> str:
    """Return what equal messages share: the words around their values."""
    template = str(record.msg)
    if re.search(r"[^\W\d_]{3}", _PLACEHOLDER.sub("", template)):
        return template
    return re.sub(r"\d+", "#", record.getMessage())


class _CountingFormatter(logging.Formatter):
    """Add to a message how often it came, where that is more than once."""

    def format(self, record: logging.LogRecord) -> str:
        times = getattr(record, "times", 1)
        return super().format(record) + (f" ({times} times so far)" if times > 1 else "")


def log_untold() -> None:
    """Log how often the messages came that were not shown every time."""
    filters = (one for handler in logging.getLogger().handlers for one in handler.filters)
    repeats = next((one for one in filters if isinstance(one, RepeatFilter)), None)
    for text, times in (repeats.untold() if repeats else {}).items():
        logger.info("%d times in all: %s", times, text)


class _PatientFile(logging.FileHandler):
    """Log file handler that skips lines while the disk is full."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def setup_logging(prefix: Path | None = None, rank: int = 0, world_size: int = 1) -> None:
    """Send log records to the screen (rank 0 only) and to ``{prefix}-{time}[-{rank}]``.

    Args:
        prefix: path without the time, such as ``exp/log/log-train``; None for the screen alone.
        rank: of this process.
        world_size: number of processes; the rank is in the name when it is above 1.
    """
    handlers: list[logging.Handler] = []
    if rank == 0:
        handlers.append(logging.StreamHandler(sys.stderr))
    if prefix is not None:
        prefix.parent.mkdir(parents=True, exist_ok=True)
        stamp = datetime.now().strftime("%Y-%m-%d-%H-%M-%S")
        suffix = f"-{rank}" if world_size > 1 else ""
        name = f"{prefix.name}-{stamp}{suffix}"
        handlers.append(_PatientFile(prefix.with_name(name), encoding="utf-8"))
    repeats, formatter = RepeatFilter(), _CountingFormatter(FORMAT)
    for handler in handlers:
        handler.addFilter(repeats)
        handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)


@contextmanager
def logging_put_back() -> Iterator[None]:
    """Put back the handlers and the level of a program that ``setup_logging`` replaces."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []  # those that are there when logging is set up are closed
    try:
        yield
    finally:
        for ours in root.handlers:
            ours.close()
        root.handlers[:] = handlers
        root.setLevel(level)
