"""Corpora that are published on the network: fetch, check and unpack what they need."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol, runtime_checkable

from zipasr.base.errors import DataError, ResourceError
from zipasr.corpora.config import DownloadConfig
from zipasr.corpora.custom.audio_files import folders_below, is_file, is_folder
from zipasr.corpora.download import fetch, missing_bytes, unpack
from zipasr.corpora.openslr import RemoteFile

logger = logging.getLogger(__name__)

# FLAC hardly shrinks in an archive, WAV by a tenth.
_GROWTH = 1.15


class Download(NamedTuple):
    """One file to download, and the folder it is unpacked to.

    Attributes:
        file: as published.
        folder: where it goes.
        gives: folder that it is unpacked to, below ``folder``; None leaves it as it is.
    """

    file: RemoteFile
    folder: Path
    gives: PurePosixPath | None = None

    @property
    def is_done(self) -> bool:
        """The unpacked folder, or the file, is there."""
        return (self.folder / (self.gives or self.file.name)).exists()


@runtime_checkable
class PublishedCorpus(Protocol):
    """A corpus that can be downloaded."""

    def downloads(self) -> list[Download]:
        """Return all files that it needs."""
        ...


@runtime_checkable
class WithText(Protocol):
    """A corpus that comes with text for language models and with pronunciations."""

    def lm_text(self) -> Path | None:
        """Return the gzip file of sentences; None when it was not downloaded."""
        ...

    def lexicon(self) -> Path | None:
        """Return the file of lines ``WORD PHONE PHONE``; None when it was not downloaded."""
        ...


def fetch_corpus(downloads: Sequence[Download], config: DownloadConfig) -> None:
    """Fetch and unpack what is missing.

    Raises:
        DownloadError: a file cannot be had.
        DataError: an archive does not hold what it should, or what is missing lies near by.
        ResourceError: there is not enough room on the disk, found before the first byte is fetched
            or, when others fill it, later.
    """
    missing = [download for download in downloads if not download.is_done]
    for download in downloads:
        if download.is_done:
            there = download.folder / (download.gives or download.file.name)
            logger.info("%s is there; it is taken as it is", there)
        elif not is_file(download.folder / download.file.name) and (fix := near_by(download)):
            raise DataError(
                f"{download.folder} lacks {download.gives}, which seems to be near by.",
                f"{fix}; to download it all the same, choose a folder further away with --dl-dir",
            )
    _require_room(missing, keep=config.keep_archives)
    for number, download in enumerate(missing, start=1):
        logger.info("%d of %d: %s", number, len(missing), download.file.name)
        archive = fetch(download.file, download.folder, mirror=config.mirror)
        if download.gives is not None:
            unpack(archive, download.folder, download.gives)
            if not config.keep_archives:
                archive.unlink()


def near_by(download: Download) -> str:
    """Return how to use what was unpacked, or downloaded, near the place where it belongs.

    It is looked for in the two folders above ``download.folder`` and in those up to two levels
    below. Empty where it is not there.
    """
    if download.gives is None:
        return ""
    folder, gives, archive = download.folder.resolve(), download.gives, download.file.name
    for place in (folder, *folder.parents[:2], *folders_below(folder)):
        if place != folder and is_folder(place / gives):
            return f"give --dl-dir {place}"
        if is_file(place / archive):
            return f"run ./prepare.sh --stage 0 --dl-dir {place}, which unpacks {archive}"
        if gives.parent.name and is_folder(place / gives.name) and place.name != gives.parent.name:
            return (
                f"{place / gives.name} has to be in a folder {gives.parent}: "
                f"ln -s {place} {place.parent / gives.parent}, and give --dl-dir {place.parent}"
            )
    return ""


def bytes_needed(downloads: Sequence[Download], *, keep: bool) -> int:
    """Return the room on the disk that ``fetch_corpus`` needs at its fullest."""
    needed = most = 0
    for download in downloads:
        needed += missing_bytes(download.file, download.folder)
        if download.gives is not None:
            needed += int(download.file.size * _GROWTH)
        most = max(most, needed)
        if download.gives is not None and not keep:
            needed -= download.file.size
    return most


def _require_room(downloads: Sequence[Download], *, keep: bool) -> None:
    if not downloads:
        return
    folder = downloads[0].folder
    folder.mkdir(parents=True, exist_ok=True)
    to_fetch = sum(missing_bytes(each.file, each.folder) for each in downloads)
    needed, free = bytes_needed(downloads, keep=keep), shutil.disk_usage(folder).free
    logger.info(
        "%.1f GB to download; %.1f GB of disk needed, %.1f GB free in %s",
        to_fetch / 1e9,
        needed / 1e9,
        free / 1e9,
        folder,
    )
    if needed > free:
        frugal = bytes_needed(downloads, keep=False) / 1e9
        raise ResourceError(
            f"{folder} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed.",
            f"choose another disk with --dl-dir, or give --keep-archives 0 ({frugal:.1f} GB).",
        )
