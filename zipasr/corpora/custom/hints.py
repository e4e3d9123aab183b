"""What to do about a source of which nothing can be used: a likely cause, found in its folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path

from zipasr.audio.faults import MISSING
from zipasr.corpora.custom.audio_files import files_below, is_sound
from zipasr.corpora.custom.audio_folder import NO_TRANSCRIPT, tables_in
from zipasr.corpora.custom.columns import NOT_A_TIME

MEND = "mend the corpus."

_ARCHIVES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar", ".zip", ".7z", ".rar")
_TABLES = {".tsv", ".csv", ".jsonl"}


def what_to_do(source: Path, reasons: Collection[str]) -> str:
    """Say what to do about a source of which nothing can be used.

    Args:
        source: the file or folder.
        reasons: for which its rows and files are left out.
    """
    kinds = set(reasons)
    if kinds == {NO_TRANSCRIPT}:
        return _without_transcripts(source)
    if kinds == {MISSING}:
        folder = source if source.is_dir() else source.parent
        return archive_hint(folder) or (
            f"names in it count from {folder}: give a table that lies above its sound, or names "
            "with all folders."
        )
    if kinds == {NOT_A_TIME}:
        return "give times in seconds, or as 0:00:12.5."
    return MEND


def archive_hint(folder: Path) -> str:
    """Return how to unpack the archives of a folder; empty when there are none."""
    archives = [path for path in files_below(folder) if path.name.lower().endswith(_ARCHIVES)]
    if not archives:
        return ""
    return f"unpack {archives[0]} first."


def _without_transcripts(folder: Path) -> str:
    """Say where the transcripts of a folder may be: in tables, in other files, in other folders."""
    files = files_below(folder)
    tables = [path for path in files if path.suffix.lower() in _TABLES]
    above = tables_in(folder.absolute().parent)
    for group in (tables, above):
        if len(group) == 1:
            return f"--from {group[0]}"
        if group:
            return f"give the table of the transcripts: --from {group[0]}, or another one there."
    stems = {path.stem for path in files if is_sound(path)}
    beside = Counter(p.suffix for p in files if p.stem in stems and p.suffix and not is_sound(p))
    for suffix, count in beside.most_common(1):
        if suffix.lower() == ".txt":
            return (
                "put each .txt file beside its sound file, or write a table: columns audio, text."
            )
        return (
            f"{count} {suffix} files have the names of sound files: write what they say to .txt "
            "files, or to a table with the columns audio and text."
        )
    return "write a table with the columns audio and text, or a .txt beside each sound file."
