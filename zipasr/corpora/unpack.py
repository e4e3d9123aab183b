"""Archives: whole or not, and unpacked into a folder that is whole or not there."""

from __future__ import annotations

import gzip
import logging
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from zipasr.base.errors import DataError
from zipasr.base.progress import Progress

_CHUNK = 1 << 20


class DamagedError(Exception):
    """An archive ends early or does not fit its own checksum."""


def check_gzip(path: Path) -> None:
    """Read a gzip file through and raise ``DamagedError`` unless its checksum fits."""
    try:
        with (
            path.open("rb") as raw,
            gzip.open(raw) as content,
            _progress(f"MB of {path.name} checked", path) as progress,
        ):
            while content.read(_CHUNK):
                progress.step(count=raw.tell() // _CHUNK - progress.done)
    except (OSError, EOFError, zlib.error) as problem:
        raise DamagedError(f"the archive is damaged ({problem})") from problem


def unpack(archive: Path, folder: Path, gives: PurePosixPath) -> Path:
    """Unpack a tar.gz file and return the folder ``folder / gives``.

    Everything goes to a temporary folder first, so the result is whole whenever it is there.

    Args:
        archive: checked before; nothing but files and folders in it is unpacked.
        folder: where its top folder belongs.
        gives: folder in the archive that is wanted, such as ``LibriSpeech/dev-clean``. Files
            that stand beside it are taken, too.

    Raises:
        DataError: the archive does not hold that folder.
    """
    final = folder / gives
    partial = folder / f".unpacking-{final.name}"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _unpack_all(archive, partial, gives.parts[0])
        if not (partial / gives).is_dir():
            raise DataError(
                f"{archive} does not hold the folder {gives}.", "delete it to download it again."
            )
        final.parent.mkdir(parents=True, exist_ok=True)
        for beside in (partial / gives).parent.iterdir():
            if beside.is_file():
                beside.replace(final.parent / beside.name)
        (partial / gives).replace(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return final


def _unpack_all(archive: Path, folder: Path, top: str) -> None:
    with (
        archive.open("rb") as raw,
        tarfile.open(fileobj=raw, mode="r|gz") as tar,
        _progress(f"MB of {archive.name} unpacked", archive) as progress,
    ):
        for member in tar:
            if _is_wanted(member, top):
                _write(tar, member, folder / member.name)
            else:
                logging.warning("left out of the archive: %s", member.name)
            progress.step(count=raw.tell() // _CHUNK - progress.done)


def _is_wanted(member: tarfile.TarInfo, top: str) -> bool:
    path = PurePosixPath(member.name)
    inside = path.parts[:1] == (top,) and ".." not in path.parts
    return inside and (member.isfile() or member.isdir())


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    content = tar.extractfile(member)
    if content is None:
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        shutil.copyfileobj(content, out, _CHUNK)


def _progress(what: str, path: Path) -> Progress:
    return Progress(what, -(-path.stat().st_size // _CHUNK))
