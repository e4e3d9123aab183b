"""Errors that a user can act on: what is wrong, where, what to do; exit statuses."""

from __future__ import annotations

import difflib
import errno
import sys
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what was asked for: flags, recipe, names.

    Args:
        what: one sentence with the offending value and where it stands.
        fix: what to do about it, one sentence or command; may be empty.
    """

    exit_code = 2

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(f"{what} Fix: {fix}" if fix else what)
        self.what = what
        self.fix = fix


class DataError(UserError):
    """Audio, transcripts, manifests or features are missing or damaged."""

    exit_code = 3


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or belongs to another model."""

    exit_code = 4


class ResourceError(UserError):
    """The machine lacks what was asked for: devices, memory, disk."""

    exit_code = 5


class NumericError(UserError):
    """Training produced numbers that are not finite and cannot go on."""

    exit_code = 6


class DownloadError(UserError):
    """A file could not be downloaded, or is not the one that was published."""

    exit_code = 7


class Interrupted(KeyboardInterrupt):
    """A long work was stopped from outside, after it was saved.

    Args:
        command: that goes on with it; of a call in Python, the call.
    """

    def __init__(self, command: str) -> None:
        super().__init__(f"to go on: {command}")
        self.command = command


def lacks_packages() -> UserError:
    """Return the error of an interpreter in which the requirements are not installed."""
    return UserError(
        f"{sys.executable} lacks packages.",
        "local/install.sh requirements.txt && source .venv/bin/activate",
    )


def nearest(word: str, names: Iterable[str]) -> str:
    """Return a hint such as ``did you mean 'x'?``; empty when nothing is close."""
    close = difflib.get_close_matches(word, list(names), n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def is_disk_full(error: BaseException | None) -> bool:
    """Say whether an operation failed for want of space: disk, quota or file size limit."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_machine_fault(error: BaseException | None) -> bool:
    """Say whether an operation failed for want of open files or memory, whatever it wanted to do.

    Libraries wrap such an error in their own, or repeat it in words.
    """
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            return True
        if "Too many open files" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_not_writable(error: BaseException | None) -> bool:
    """Say whether a file could not be written: no space, no permission, a read-only disk."""
    denied = (errno.EACCES, errno.EPERM, errno.EROFS)
    return is_disk_full(error) or (isinstance(error, OSError) and error.errno in denied)
