"""Reasons for which a sound file is not used, as people read them."""

from __future__ import annotations

import errno

from zipasr.base.errors import ResourceError

EMPTY = "empty file (0 bytes)"
MISSING = "the file does not exist"
HTML = "an HTML page, not audio (did the download fail?)"
POINTER = "a git-lfs pointer, not audio (run git lfs pull)"
PLAYLIST = "a list of files, not audio"
NOT_A_FILE = "a named pipe or a device, not a file"
NOT_UTF8 = "its name is not UTF-8, as manifests are: rename it"
NO_SAMPLES = "no samples"
SILENT = "all samples are zero"
NOT_FINITE = "samples that are not finite"
TOO_LOUD = "samples far beyond full scale (integers stored as floating point?)"
CANNOT_DECODE = "cannot be decoded"
CUT = f"{CANNOT_DECODE} to its end: it is damaged or cut"
CANNOT_READ = "cannot be read"
NO_FFMPEG = "ffmpeg, which reads more formats, is not installed"

LOWEST_RATE, HIGHEST_RATE = 1000, 1_000_000
"""Hz; what is said beyond them is no rate of recorded speech."""

MOST_CHANNELS = 64


class UndecodableError(Exception):
    """A file that is no sound, or not whole; its text is the fault."""


def is_lasting(fault: str) -> bool:
    """Say whether a fault is the file's, and not one of the machine that may be gone next time."""
    return NO_FFMPEG not in fault and not fault.startswith(CANNOT_READ)


def error_of_system(problem: OSError) -> Exception:
    """Return what to raise when a file cannot be opened: the file is not always to blame."""
    if problem.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return ResourceError(
            f"sound files cannot be opened: {problem.strerror}.",
            "raise the limit of open files (ulimit -n), or use fewer jobs.",
        )
    return UndecodableError(f"{CANNOT_READ}: {problem.strerror}")


def check_form(rate: int, channels: int) -> None:
    """Refuse what no recorder writes.

    Raises:
        UndecodableError: it is so.
    """
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise UndecodableError(
            f"a rate of {rate} Hz, which is not between {LOWEST_RATE} and {HIGHEST_RATE}"
        )
    if not 1 <= channels <= MOST_CHANNELS:
        raise UndecodableError(f"{channels} channels, which is not between 1 and {MOST_CHANNELS}")
