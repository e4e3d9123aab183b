"""Logging: one format, a file for each process, the screen for rank 0."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

FORMAT = "%(asctime)s %(levelname)s %(message)s"


def is_first() -> bool:
    """Say whether this is the only process, the one that starts the others, or the first of many.

    Known before there is a group: a launcher such as ``torchrun`` says it in the environment.
    """
    return os.environ.get("RANK", "0") == "0"


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
    logging.basicConfig(format=FORMAT, level=logging.INFO, handlers=handlers, force=True)


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
