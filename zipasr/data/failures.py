"""Cuts that cannot be used, and why, in one line each."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from lhotse.cut import Cut

from zipasr.base.errors import DataError

# lhotse lists what each of its audio libraries said; the first of them is the one that counts.
_FIRST_LIBRARY = re.compile(r"Exception #0 .*?: <class '[^']*'>: ([^\n]*)")
_MAX_CHARACTERS = 200

# What reading a manifest raises that is cut off, or is something else.
BROKEN_MANIFEST = (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error)


class Failure(NamedTuple):
    """A cut that could not be read."""

    cut_id: str
    path: str
    reason: str


def reason_of(error: BaseException) -> str:
    """Return what an exception says in one line; its type when it says nothing."""
    said = _FIRST_LIBRARY.search(str(error))
    text = " ".join((said[1] if said else str(error)).split()) or type(error).__name__
    return text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 3] + "..."


def broken_manifest(path: Path, error: BaseException) -> DataError:
    """Return the error that says that a manifest is damaged."""
    return DataError(
        f"{path} is not a readable manifest of cuts: {reason_of(error)}.",
        "delete it and run ./prepare.sh --stage 2 again",
    )


def failure_of(cut: Cut, error: BaseException) -> Failure:
    """Describe the failure of a cut, with the file that its audio is in."""
    recording = getattr(cut, "recording", None)
    sources = recording.sources if recording is not None else []
    path = str(sources[0].source) if sources and isinstance(sources[0].source, str) else ""
    # The audio library only says "System error".
    missing = path and "://" not in path and not Path(path).exists()
    return Failure(cut.id, path, "the file does not exist" if missing else reason_of(error))


def quarantine_text(failures: Iterable[Failure]) -> str:
    """Format the table of failures: a header, then cut, path and reason between tabs."""
    rows = [Failure("cut", "path", "reason"), *failures]
    return "".join("\t".join(row) + "\n" for row in rows)
