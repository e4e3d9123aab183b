"""Download of a file, resumed where it stopped and checked; archives unpacked."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import logging
import re
import shutil
import socket
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from zipasr.base.errors import DataError, DownloadError, ResourceError, is_disk_full
from zipasr.base.progress import Progress
from zipasr.corpora.openslr import RemoteFile

logger = logging.getLogger(__name__)

_READ_SIZE = 1 << 20


class DamagedError(Exception):
    """An archive ends early or does not fit its own checksum."""


def check_gzip(path: Path) -> None:
    """Read a gzip file through and raise ``DamagedError`` unless its checksum fits."""
    try:
        with (
            path.open("rb") as raw,
            gzip.open(raw) as content,
            _unpack_progress(f"MB of {path.name} checked", path) as progress,
        ):
            while content.read(_READ_SIZE):
                progress.step(count=raw.tell() // _READ_SIZE - progress.done)
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
        _unpack_progress(f"MB of {archive.name} unpacked", archive) as progress,
    ):
        for member in tar:
            if _is_wanted(member, top):
                _write(tar, member, folder / member.name)
            else:
                logger.warning("left out of the archive: %s", member.name)
            progress.step(count=raw.tell() // _READ_SIZE - progress.done)


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
        shutil.copyfileobj(content, out, _READ_SIZE)


def _unpack_progress(what: str, path: Path) -> Progress:
    return Progress(what, -(-path.stat().st_size // _READ_SIZE))


_CHUNK = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
# Answers of a server that may change when one asks again.
_PASSING = (408, 425, 429, 500, 502, 503, 504)


class RetryPolicy(NamedTuple):
    """Number of attempts and waiting times of a download.

    Attributes:
        attempts: failures in a row, without a byte between them, before giving up.
        timeout: seconds without a byte after which an attempt has failed.
        slowest: bytes in a second; an attempt that gives less for ``timeout`` has failed.
        pause: what to do for so many seconds between attempts.
    """

    attempts: int = 5
    timeout: float = 60.0
    slowest: float = 1000.0
    pause: Callable[[float], None] = time.sleep


class _RefusedError(Exception):
    """The server refuses the file; asking again is of no use."""


class _SlowError(Exception):
    """Next to nothing arrives."""


class _WrongError(_RefusedError):
    """The file that arrived is not the published one."""


def fetch(
    file: RemoteFile,
    folder: Path,
    *,
    mirror: str | None = None,
    patience: RetryPolicy | None = None,
) -> Path:
    """Return the path of a file in ``folder``, after downloading what is missing of it.

    What has arrived is kept in ``NAME.part``; the next call asks for the rest. The file gets its
    name only after its checksum was found right. A file that is there already is checked, too.

    Args:
        file: what to fetch.
        folder: where to put it; created when needed.
        mirror: server to ask instead of OpenSLR's.
        patience: with a bad connection.

    Raises:
        DownloadError: no server gives the file, or it is not the published one.
        ResourceError: the disk is full.
    """
    path = folder / file.name
    by_hand = f"or get it by other means, put it at {path}, and give the same command again"
    if path.is_file():
        _require_whole(path, file, by_hand)
        return path
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    problems: list[str] = []
    for address in file.addresses(mirror):
        try:
            _complete_and_verified(part, address, file, patience or RetryPolicy())
        except _RefusedError as problem:
            problems.append(f"{address}: {problem}")
            logger.warning("%s", problems[-1])
            continue
        part.replace(path)
        return path
    raise DownloadError(
        f"{file.name} cannot be downloaded ({'; '.join(dict.fromkeys(problems))}).",
        f"look at the connection (what has arrived is kept), try --mirror URL, {by_hand}.",
    )


def missing_bytes(file: RemoteFile, folder: Path) -> int:
    """Return how much of a file still has to be downloaded."""
    if (folder / file.name).is_file():
        return 0
    return max(0, file.size - _size(folder / f"{file.name}.part"))


def _require_whole(path: Path, file: RemoteFile, by_hand: str) -> None:
    try:
        _verify(path, file, None, keep=True)
    except _RefusedError as problem:
        raise DownloadError(
            f"{path}: {problem}.", f"delete it, to download it again, {by_hand}."
        ) from problem


def _complete_and_verified(
    part: Path, address: str, file: RemoteFile, patience: RetryPolicy
) -> None:
    is_resumed = part.is_file()
    try:
        _complete(part, address, file, patience)
        _verify(part, file, _published_md5(address, file))
    except _WrongError as problem:
        if not is_resumed:
            raise
        # The fault may be in what an earlier call left, perhaps from another server.
        logger.warning("%s: %s; downloading it from the beginning", file.name, problem)
        _complete_and_verified(part, address, file, patience)


def _complete(part: Path, address: str, file: RemoteFile, patience: RetryPolicy) -> None:
    """Download until ``part`` has all bytes; connections may break on the way."""
    failures = 0
    while not _is_complete(part, file):
        before = _size(part)
        try:
            if _receive(part, address, file, patience):
                return
            reason = "the connection ended early"
        except _SlowError as problem:
            reason, before = str(problem), _size(part)
        # Of what a server answers, urllib reports much as ValueError.
        except (OSError, ValueError, http.client.HTTPException) as problem:
            reason = _reason_to_retry(problem, part)
        failures = 0 if _size(part) > before else failures + 1
        if failures >= patience.attempts:
            raise _RefusedError(f"{reason}, {failures} times in a row")
        logger.info("%s: %s; going on at byte %d", file.name, reason, _size(part))
        patience.pause(min(2.0**failures, 60.0))


def _is_complete(part: Path, file: RemoteFile) -> bool:
    """Say whether all bytes are there, as far as the size of the file is known."""
    if file.is_exact and _size(part) > file.size:
        part.unlink()
    return file.is_exact and _size(part) == file.size


def _reason_to_retry(problem: Exception, part: Path) -> str:
    """Say what went wrong, or raise when trying again is of no use."""
    if is_disk_full(problem):
        raise ResourceError(
            f"the disk of {part} is full; {_size(part) / 1e9:.1f} GB of the file have arrived.",
            "make room, or choose another disk with --dl-dir; the same command goes on.",
        ) from problem
    if isinstance(problem, urllib.error.HTTPError):
        return _status_to_retry(problem, part)
    if isinstance(problem, urllib.error.URLError):
        if isinstance(problem.reason, socket.gaierror):
            raise _RefusedError("the name of the server is not known here (no network?)")
        return str(problem.reason)
    return str(problem) or type(problem).__name__


def _status_to_retry(problem: urllib.error.HTTPError, part: Path) -> str:
    if problem.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and _size(part):
        part.unlink()
        return "what had arrived is longer than the file"
    if problem.code not in _PASSING:
        raise _RefusedError(f"the server answers {problem.code} {problem.reason}")
    return f"the server answers {problem.code} {problem.reason}"


def _receive(part: Path, address: str, file: RemoteFile, patience: RetryPolicy) -> bool:
    """Append what one connection gives; say whether the file is complete."""
    have = _size(part)
    request = urllib.request.Request(address, headers={"User-Agent": "zipasr"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with _answer(request, patience.timeout) as response:
        if response.status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return True
        start = have if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0
        total = _total(response, start)
        _check_answer(response, file, total)
        first = response.read(len(_GZIP_MAGIC))
        if start == 0 and file.name.endswith(".gz") and not first.startswith(_GZIP_MAGIC):
            raise _RefusedError("what comes is no gzip file; perhaps the network asks for a login")
        with part.open("ab" if start else "wb") as out:
            progress = _progress(f"MB of {file.name}", total, start)
            _copy(first, response, out, progress, patience)
    return total is None or _size(part) >= total


def _answer(request: urllib.request.Request, timeout: float) -> Any:
    try:
        return urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as answer:
        # There is nothing beyond what we have: a call was ended between the last byte and the name.
        wanted, there = request.get_header("Range"), answer.headers.get("Content-Range", "")
        if wanted and there and wanted == f"bytes={there.removeprefix('bytes */')}-":
            return answer
        raise


def _progress(what: str, total: int | None, start: int = 0) -> Progress:
    in_all = None if total is None else -(-total // _CHUNK)
    return Progress(what, in_all, start=start // _CHUNK)


def _copy(
    first: bytes, response: Any, out: IO[bytes], progress: Progress, patience: RetryPolicy
) -> None:
    chunk, arrived, shown = first, 0, 0
    since, arrived_then = time.monotonic(), 0
    with progress:
        while chunk:
            out.write(chunk)
            arrived += len(chunk)
            while arrived - shown >= _CHUNK:
                shown += _CHUNK
                progress.step()
            now = time.monotonic()
            if now - since >= patience.timeout:
                rate = (arrived - arrived_then) / (now - since)
                if rate < patience.slowest:
                    raise _SlowError(f"only {rate:.0f} bytes a second arrive")
                since, arrived_then = now, arrived
            chunk = response.read1(_CHUNK)


def _total(response: Any, start: int) -> int | None:
    """Return the size of the whole file as the server says it; None when it does not."""
    if start:
        given = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if given is None or int(given[1]) != start:
            raise _RefusedError("the server gives another range of bytes than it was asked for")
        return int(given[2])
    length = response.headers.get("Content-Length")
    if length and not length.strip().isdecimal():
        raise _RefusedError(f"the server says that the file has {length!r} bytes")
    return int(length) if length else None


def _check_answer(response: Any, file: RemoteFile, total: int | None) -> None:
    if response.headers.get_content_type() == "text/html":
        raise _RefusedError("a web page comes instead; perhaps the network asks for a login")
    if file.is_exact and total is not None and total != file.size:
        raise _RefusedError(f"it has {total} bytes there, the published file has {file.size}")


def _published_md5(address: str, file: RemoteFile) -> str | None:
    """Return the checksum in the list that the server keeps beside the file, if there is one."""
    if file.sha256 is not None:
        return None
    try:
        listed = address.rsplit("/", 1)[0] + "/md5sum.txt"
        with urllib.request.urlopen(listed, timeout=20) as response:
            text = response.read(_CHUNK).decode("ascii", "replace")
    except (OSError, http.client.HTTPException):
        return None
    found = re.search(rf"^([0-9a-f]{{32}})[ *]+(?:\S*/)?{re.escape(file.name)}$", text, re.M)
    return found[1] if found else None


def _verify(path: Path, file: RemoteFile, md5: str | None, *, keep: bool = False) -> None:
    """Compare with the checksum that is known; without one, see that the archive is intact.

    What is wrong is deleted, unless ``keep`` says that somebody else put it there.
    """
    try:
        if file.sha256 or md5:
            _check_digest(path, file.sha256, md5)
        elif file.name.endswith(".gz"):
            check_gzip(path)
        elif _size(path) == 0:
            raise DamagedError("it is empty")
    except DamagedError as problem:
        if not keep:
            path.unlink()
        raise _WrongError(str(problem)) from problem


def _check_digest(path: Path, sha256: str | None, md5: str | None) -> None:
    # md5 finds damage, which is all that the publisher's list promises.
    kind, wanted = ("sha256", sha256) if sha256 else ("md5", md5)
    digest = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as content, _progress(f"MB of {path.name} checked", _size(path)) as seen:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            seen.step()
    if digest.hexdigest() != wanted:
        raise DamagedError(f"its {kind} is {digest.hexdigest()}, published is {wanted}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
