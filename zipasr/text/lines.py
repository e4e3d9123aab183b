"""Text for language models: one sentence a line, single spaces, whole or not there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from zipasr.base.errors import DataError
from zipasr.base.files import atomic_path
from zipasr.base.progress import Progress

_LINES_PER_STEP = 100_000


def write_lines(path: Path, texts: Iterable[str], total: int | None = None) -> int:
    """Write the texts that are not empty and return how many there are.

    Args:
        path: the file.
        texts: may be more than memory holds.
        total: about how many there are, to show the remaining time.

    Raises:
        DataError: all texts are empty.
    """
    written = 0
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8") as out,
        Progress(f"lines of {path.name}", total) as progress,
    ):
        for text in texts:
            line = " ".join(text.split())
            if line:
                out.write(f"{line}\n")
                written += 1
                if written % _LINES_PER_STEP == 0:
                    progress.step(count=_LINES_PER_STEP)
        out.flush()
        if not written:
            raise DataError(f"there is no text for {path}.", "look at the transcripts.")
    return written
