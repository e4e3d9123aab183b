"""What an interrupted extraction has done: archives that the next call need not compute again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lhotse import CutSet
from lhotse.cut import Cut

from zipasr.base.files import atomic_path
from zipasr.data.failures import Failure

_ORIGIN = "begun_from.json"
_CUTS = ".done.jsonl.gz"
_FAILURES = ".failed.json"


def begin(folder: Path, origin: Mapping[str, Any]) -> None:
    """Make the folder ready; what it holds is kept if it was begun from the same ``origin``."""
    record = folder / _ORIGIN
    text = json.dumps(origin, sort_keys=True)
    if not (record.is_file() and record.read_text(encoding="utf-8") == text):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with atomic_path(record) as temporary:
            temporary.write_text(text, encoding="utf-8")


def remember(folder: Path, name: str, cuts: Sequence[Cut], failures: Sequence[Failure]) -> None:
    """Note that the archive ``name`` is whole: the cuts in it, and those that failed."""
    with atomic_path(folder / f"{name}{_FAILURES}") as temporary:
        temporary.write_text(json.dumps([list(failure) for failure in failures]), encoding="utf-8")
    # Last, and so a sign that all of it is there.
    with atomic_path(folder / f"{name}{_CUTS}") as temporary:
        CutSet.from_cuts(cuts).to_file(temporary)


def remembered(
    folder: Path, name: str, cuts: Sequence[Cut]
) -> tuple[list[Cut], list[Failure]] | None:
    """Return what ``remember`` noted about the archive of these cuts; None when it is not done."""
    path = folder / f"{name}{_CUTS}"
    if not path.is_file():
        return None
    done = list(CutSet.from_file(path))
    rows = json.loads((folder / f"{name}{_FAILURES}").read_text(encoding="utf-8"))
    failures = [Failure(*row) for row in rows]
    known = {cut.id for cut in done} | {failure.cut_id for failure in failures}
    # Other cuts may have gone into quarantine since.
    return (done, failures) if known == {cut.id for cut in cuts} else None


def has_memory(folder: Path) -> bool:
    """Say whether any archive of the folder is done."""
    return next(folder.glob(f"*{_CUTS}"), None) is not None


def forget(folder: Path) -> None:
    """Delete the notes: all archives are done."""
    for path in [folder / _ORIGIN, *folder.glob(f"*{_CUTS}"), *folder.glob(f"*{_FAILURES}")]:
        path.unlink(missing_ok=True)
