"""Choice of the reader for --from, and what to do about a source that nothing can read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from zipasr.audio.faults import MISSING, NO_FFMPEG
from zipasr.base.errors import DataError, nearest
from zipasr.corpora.custom.audio_files import (
    files_below,
    folders_below,
    is_file,
    is_sound,
    kind_of,
    sound_files,
)
from zipasr.corpora.custom.audio_folder import (
    NO_TRANSCRIPT,
    read_folder,
    read_split_tables,
    split_tables,
    tables_in,
)
from zipasr.corpora.custom.columns import NOT_A_TIME
from zipasr.corpora.custom.kaldi import feats_alone, kaldi_folders, read_kaldi
from zipasr.corpora.custom.lhotse_manifests import (
    cut_files,
    read_cuts,
    read_lhotse,
    supervision_files,
)
from zipasr.corpora.custom.table import (
    JSON_SUFFIXES,
    TABLE_SUFFIXES,
    is_ljspeech,
    read_json_lines,
    read_ljspeech,
    read_table,
)
from zipasr.corpora.custom.utterances import ImportedCorpus

MEND = "mend the corpus."

_ARCHIVES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar", ".zip", ".7z", ".rar")
_TABLES = {*TABLE_SUFFIXES, ".jsonl"}


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
    if kinds and all(NO_FFMPEG in reason for reason in kinds):
        return "install ffmpeg, or convert the files to WAV or FLAC."
    return MEND


def archive_hint(folder: Path) -> str:
    """Return how to unpack the archives of a folder; empty when there are none."""
    archives = [path for path in files_below(folder) if path.name.lower().endswith(_ARCHIVES)]
    if not archives:
        return ""
    return f"unpack {archives[0]} first."


def _corpus_below(folder: Path) -> str:
    """Return how to name the first corpus one or two levels below a folder; empty without any."""
    for path in folders_below(folder):
        if kaldi_folders(path) or supervision_files(path) or cut_files(path) or _tables(path):
            return f"--from {path}"
    return ""


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
    if corpus := _corpus_below(folder):
        return corpus
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


_FORMS = (
    "give a table (.tsv, .csv), JSON lines, a folder of sound files with .txt files of the same "
    "names, a Kaldi data directory, a folder of lhotse manifests, or one of Common Voice or "
    "LJSpeech."
)
_MOST_SHOWN = 5
_DESCRIPTORS = Path("/dev/fd")  # what a shell makes of <(command); stages do not have it
_SAVE_AS_CSV = "save it as CSV, in UTF-8."
_OTHER_FORMATS = {
    b"PK\x03\x04": ("a zip archive or an Excel sheet", _SAVE_AS_CSV),
    b"\xd0\xcf\x11\xe0": ("an Excel sheet", _SAVE_AS_CSV),
    b"PAR1": ("a Parquet file", _SAVE_AS_CSV),
    b"\x1f\x8b": ("compressed by gzip", "unpack it: gunzip, or tar -xzf if it is an archive."),
}
_KALDI_FILES = {"wav.scp", "text", "segments", "utt2spk", "spk2utt", "utt2dur", "spk2gender"}


class _Reader(NamedTuple):
    """A kind of folder: how it is recognised, and what reads it."""

    is_there: Callable[[Path], object]
    read: Callable[[Path], ImportedCorpus]


def read_source(source: Path, encoding: str, piped: Path) -> ImportedCorpus:
    """Read the utterances of a source of any kind.

    Args:
        source: the file or folder.
        encoding: of text files.
        piped: folder for the sound that commands of Kaldi write.

    Returns:
        What it holds; there may be nothing that can be used.

    Raises:
        DataError: it is of no such kind, is empty or damaged.
    """
    kind = "a named pipe" if source.parent == _DESCRIPTORS else kind_of(source)
    if kind not in ("", "a folder"):
        raise DataError(f"{source} is {kind}, which can be read only once.", "give a file.")
    if not kind and not is_file(source):
        if str(source) == "-":
            raise DataError("a corpus is not read from the standard input.", "give a file.")
        raise DataError(f"{source} does not exist; {_beside(source)}.", _nearest(source) or _FORMS)
    if not kind:
        return _with_something(source, _read_file(source, encoding))
    for reader in _readers(encoding, piped):
        if reader.is_there(source):
            return _with_something(source, reader.read(source))
    if feats_alone(source):
        raise DataError(
            f"{source} has feats.scp, but no wav.scp.",
            "features are computed here, from sound: give a directory with wav.scp.",
        )
    fix = _corpus_below(source) or archive_hint(source) or _FORMS
    raise DataError(f"{source} holds nothing to import; {_inside(source)}.", fix)


def _read_file(path: Path, encoding: str) -> ImportedCorpus:
    if is_sound(path):
        raise DataError(
            f"{path} is one sound file, not a corpus.",
            f"give the folder of it and of its .txt file (--from {path.parent}), or a table.",
        )
    if path.name in _KALDI_FILES and (path.parent / "wav.scp").is_file():
        raise DataError(f"{path} is one file of a corpus.", f"--from {path.parent}")
    if not path.stat().st_size:
        raise DataError(f"{path} is empty (0 bytes).", _FORMS)
    if is_ljspeech(path):
        return read_ljspeech(path, encoding)
    if cut_files(path):
        return read_cuts(path)
    if path.suffix.lower() in JSON_SUFFIXES:
        return read_json_lines(path, encoding)
    _refuse_other_formats(path)
    return read_table(path, encoding)


def _refuse_other_formats(path: Path) -> None:
    """Refuse a file that is no text, as its first bytes show.

    Raises:
        DataError: it is none.
    """
    with path.open("rb") as file:
        head = file.read(8)
    for begin, (what, fix) in _OTHER_FORMATS.items():
        if head.startswith(begin):
            raise DataError(f"{path} is {what}, not a table of text.", fix)


def _readers(encoding: str, piped: Path) -> list[_Reader]:
    return [
        _Reader(kaldi_folders, lambda folder: read_kaldi(folder, encoding, piped)),
        _Reader(supervision_files, read_lhotse),
        _Reader(cut_files, read_cuts),
        _Reader(split_tables, lambda folder: read_split_tables(folder, encoding)),
        _Reader(_only_table, lambda folder: _read_file(_the_table(folder), encoding)),
        _Reader(sound_files, lambda folder: read_folder(folder, encoding)),
    ]


def _with_something(source: Path, found: ImportedCorpus) -> ImportedCorpus:
    if not found.utterances and any(
        path.name.endswith(".trans.txt") for path in files_below(source)
    ):
        raise DataError(
            f"{source} is laid out as LibriSpeech (*.trans.txt).",
            "./prepare.sh --recipe librispeech prepares that.",
        )
    if not found.utterances and not found.dropped:
        raise DataError(f"{found.kind}: 0 utterances.", _FORMS)
    return found


def _tables(folder: Path) -> list[Path]:
    """Return the tables of a folder; JSON lines only where there are no others."""
    tables = tables_in(folder)
    return [path for path in tables if path.suffix.lower() in TABLE_SUFFIXES] or tables


def _only_table(folder: Path) -> bool:
    tables = _tables(folder)
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise DataError(
            f"{folder} has several tables: {names}.",
            "give one of them (--from FILE), or name them train, dev and test.",
        )
    return bool(tables)


def _the_table(folder: Path) -> Path:
    return _tables(folder)[0]


def _beside(source: Path) -> str:
    parent = next((p for p in source.parents if p.is_dir()), Path("/"))
    return _inside(parent)


def _nearest(source: Path) -> str:
    """Return a hint at a name beside the source that is like it; empty when none is."""
    parent = source.parent
    return nearest(source.name, [p.name for p in parent.iterdir()]) if parent.is_dir() else ""


def _inside(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return f"{folder} has {', '.join(names[:_MOST_SHOWN]) or 'nothing'}{more}"
