"""What --from may point at, told apart by what is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zipasr.base.errors import DataError
from zipasr.corpora.folder import read_folder, sound_files
from zipasr.corpora.kaldi import kaldi_folders, read_kaldi
from zipasr.corpora.lhotse_folder import read_lhotse, supervision_files
from zipasr.corpora.table import SUFFIXES, read_table
from zipasr.corpora.utterances import Found

_FORMS = (
    "give a table (.tsv, .csv), a folder of sound files with .txt files of the same names, "
    "a Kaldi data directory, or a folder of lhotse manifests."
)
_MOST_SHOWN = 5


def read_source(source: Path, encoding: str, piped: Path) -> Found:
    """Read the utterances of a table, a folder, a Kaldi data directory or lhotse manifests.

    Args:
        source: the file or folder.
        encoding: of text files.
        piped: folder for the sound that commands of Kaldi write.

    Raises:
        DataError: there is none of these, or it is damaged.
    """
    if not source.exists():
        raise DataError(f"{source} does not exist; {_beside(source)}.", _FORMS)
    if source.is_file():
        return read_table(source, encoding)
    for is_there, read in _readers(encoding, piped):
        if is_there(source):
            return _with_something(source, read(source))
    raise DataError(f"{source} holds nothing to import; {_inside(source)}.", _FORMS)


def _readers(
    encoding: str, piped: Path
) -> list[tuple[Callable[[Path], object], Callable[[Path], Found]]]:
    return [
        (kaldi_folders, lambda folder: read_kaldi(folder, encoding, piped)),
        (supervision_files, read_lhotse),
        (_only_table, lambda folder: read_table(_the_table(folder), encoding)),
        (sound_files, lambda folder: read_folder(folder, encoding)),
    ]


def _with_something(source: Path, found: Found) -> Found:
    if found.utterances:
        return found
    if any(source.rglob("*.trans.txt")):
        raise DataError(
            f"{source} is laid out as LibriSpeech (*.trans.txt).",
            "./prepare.sh --recipe librispeech prepares that.",
        )
    why = f"; the first of {len(found.left_out)} is left out for: {found.left_out[0].reason}"
    raise DataError(f"{found.kind}: 0 utterances{why if found.left_out else ''}.", _FORMS)


def _tables(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _only_table(folder: Path) -> bool:
    tables = _tables(folder)
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise DataError(f"{folder} has several tables: {names}.", "give one of them: --from FILE.")
    return bool(tables)


def _the_table(folder: Path) -> Path:
    return _tables(folder)[0]


def _beside(source: Path) -> str:
    parent = next((p for p in source.absolute().parents if p.is_dir()), Path("/"))
    return _inside(parent)


def _inside(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return f"{folder} has {', '.join(names[:_MOST_SHOWN]) or 'nothing'}{more}"
