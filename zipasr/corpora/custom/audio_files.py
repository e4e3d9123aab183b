"""Sound files below a folder, and the file that a name in a table means."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from zipasr.audio.faults import MISSING
from zipasr.corpora.custom.utterances import RowFault, is_unicode

AUDIO_SUFFIXES = {
    ".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au", ".w64", ".sph", ".m4a",
}  # fmt: skip

HIDDEN = "hidden files (names that begin with a point, as macOS writes them), ignored"
BACKSLASHES = "names with backslashes, read as /"
OTHER_FORM = "names in another Unicode form or case than the file has"
BY_NAME = "files found in another folder than the one that is named, by a name that is unique"
SEVERAL = "the name of several files"
NOT_A_FILE = "not a file"

_MOST_FOLDERS = 1000  # that are looked into for a corpus
_HIDDEN_FOLDERS = {"__MACOSX", "@eaDir"}
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFDIR: "a folder",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def kind_of(path: Path) -> str:
    """Say what a path is, such as ``a named pipe``; empty for a file, and where there is none."""
    try:
        return _KINDS.get(stat.S_IFMT(path.stat().st_mode), "")
    except (OSError, ValueError):
        return ""


def is_file(path: Path) -> bool:
    """Say whether there is a file; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Say whether there is a folder that can be looked into."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises where a folder above is closed


def folders_below(folder: Path) -> Iterator[Path]:
    """Yield the folders one and two levels below a folder, at most a thousand."""
    below = (path for levels in ("*", "*/*") for path in sorted(folder.glob(levels)))
    yield from islice(filter(is_folder, below), _MOST_FOLDERS)


def files_below(folder: Path, notes: Counter[str] | None = None) -> list[Path]:
    """Return the files below a folder, in the order of their names.

    Links to folders are followed, each folder is visited once; hidden files are counted in
    ``notes``, hidden folders are left out.
    """
    return sorted(_walk(folder, Counter() if notes is None else notes))


def _walk(folder: Path, notes: Counter[str]) -> Iterator[Path]:
    visited: set[tuple[int, int]] = set()
    for at, folders, names in os.walk(folder, followlinks=True):
        status = Path(at).stat()
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and name not in _HIDDEN_FOLDERS
        )
        for name in names:
            if name.startswith("."):
                notes[HIDDEN] += 1
            else:
                yield Path(at) / name


def is_sound(path: Path | str) -> bool:
    """Say whether a name ends as sound files do, in any case."""
    return os.path.splitext(str(path))[1].lower() in AUDIO_SUFFIXES  # noqa: PTH122


def sound_files(folder: Path, notes: Counter[str] | None = None) -> list[Path]:
    """Return all sound files below a folder, in the order of their names."""
    return [path for path in files_below(folder, notes) if is_sound(path)]


class AudioFiles:
    """Sound files found by the names that a source uses for them.

    Args:
        folder: from which names count, and below which they are looked for.
        notes: what had to be changed about names is counted here.
    """

    def __init__(self, folder: Path, notes: Counter[str]) -> None:
        self._folder, self._notes = folder, notes
        self._by_name: dict[str, list[Path]] | None = None
        self._listings: dict[Path, dict[str, list[str]]] = {}
        self._exact: set[Path] = set()
        self._guesses: dict[Path, set[str]] = {}

    def find(self, name: str) -> Path:
        """Return the file called ``name``.

        Looked for from the folder, with backslashes as ``/``, in other Unicode forms and cases; a
        name with folders in it also from the folders above; then below the folder by the end of
        its path, if one file alone has it.

        Raises:
            RowFault: there is no such file, several, or it is none.
        """
        if not is_unicode(name) or "\0" in name:
            raise RowFault(MISSING, ascii(name))
        name = name.removeprefix("file://")
        path = self._at_its_place(name)
        if path is None and "\\" in name:
            name = name.replace("\\", "/")
            path = self._at_its_place(name)
            self._notes[BACKSLASHES] += 1
        if path is None:
            return self._below(name)
        self._exact.add(path)
        return path

    def is_doubtful(self, path: Path, name: str) -> bool:
        """Say whether a file was found by its last name alone, and is that of another name, too."""
        guesses = self._guesses.get(path, set())
        return name.replace("\\", "/") in guesses and (path in self._exact or len(guesses) > 1)

    def _at_its_place(self, name: str) -> Path | None:
        for base in self._bases(name):
            path = base / name
            if is_file(path):
                return path
            kind = kind_of(path)
            if kind and (kind != "a folder" or is_sound(name)):
                raise RowFault(NOT_A_FILE, f"{name} is {kind}")
        return self._in_another_form(self._folder, name)

    def _bases(self, name: str) -> list[Path]:
        """Return the folders that a name may count from."""
        if len(Path(name).parts) < 2 or Path(name).is_absolute():
            return [self._folder]
        return [self._folder, *self._folder.absolute().parents[:2], Path()]

    def _in_another_form(self, base: Path, name: str) -> Path | None:
        """Return the file whose name differs in Unicode form or case alone, folder by folder."""
        path = Path("/") if Path(name).is_absolute() else base
        for part in Path(name).parts:
            if part in ("/", "..") or _is_there(path / part):
                path = path / part
                continue
            there = self._listing(path).get(_folded(part), [])
            composed = [other for other in there if _composed(other) == _composed(part)]
            if len(composed or there) != 1:
                return None
            path = path / (composed or there)[0]
        if not is_file(path):
            return None
        self._notes[OTHER_FORM] += 1
        return path

    def _listing(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._listings:
            names: dict[str, list[str]] = {}
            try:
                for name in sorted(os.listdir(folder)):  # noqa: PTH208
                    names.setdefault(_folded(name), []).append(name)
            except (OSError, ValueError):
                pass
            self._listings[folder] = names
        return self._listings[folder]

    def _below(self, name: str) -> Path:
        if self._by_name is None:
            self._by_name = self._index()
        parts = [_folded(part) for part in Path(name).parts if part not in ("/", ".", "..")]
        there = self._by_name.get(parts[-1], []) if parts else []
        # Of files of the same name the one whose folders are named as well.
        matched = 1
        for count in range(2, len(parts) + 1):
            fitting = [p for p in there if [*map(_folded, p.parts[-count:-1])] == parts[-count:-1]]
            if not fitting:
                break
            there, matched = fitting, count
        if len(there) > 1:
            raise RowFault(SEVERAL, f"{name}: {there[0]} and {there[1]}")
        if not there:
            raise RowFault(MISSING, name)
        if len(parts) > 1:
            self._notes[BY_NAME] += 1
        if len(parts) > 1 and matched == 1:
            self._guesses.setdefault(there[0], set()).add(name)
        return there[0]

    def _index(self) -> dict[str, list[Path]]:
        names: dict[str, list[Path]] = {}
        for path in sound_files(self._folder):
            for key in {_folded(path.name), _folded(path.stem)}:
                names.setdefault(key, []).append(path)
        return names


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", _composed(name).casefold())
