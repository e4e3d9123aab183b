"""Large n-gram models as files of arrays, which are mapped into memory and not read.

The first reading of a large ARPA file leaves ``NAME.ngrams`` beside it, or in the user's cache
folder where none can be written there. It is of use as long as the ARPA file has the size, the time
and the first and last bytes that it had then. The file: a line that says what it is, a line of
JSON, and the arrays, each at a multiple of 64 bytes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from zipasr.base.files import atomic_path, sweep
from zipasr.base.progress import Progress
from zipasr.lm.arpa import read_arpa
from zipasr.lm.ngram import NgramLm

logger = logging.getLogger(__name__)

_MAGIC = b"zipasr n-grams 1\n"
_ALIGNMENT = 64
_ENDS = 1 << 16  # bytes at the beginning and at the end of a file that are compared
_MB = 1_000_000
# Below this an ARPA file is read about as fast as one with arrays is found.
LARGE = 8 * _MB


def open_ngrams(path: Path, large: int = LARGE) -> NgramLm:
    """Read an ARPA file, or map what an earlier reading of it left; see ``read_arpa``.

    Args:
        path: of the ARPA file, which may be gzipped.
        large: leave arrays of files with so many bytes.

    Raises:
        DataError: as ``read_arpa``.
    """
    if not path.is_file() or path.stat().st_size < large:
        model, remarks = read_arpa(path)
    else:
        key = _key(path)
        model, remarks = _found(path, key) or _converted(path, key)
    for remark in remarks:
        logger.warning("%s", remark)
    return model


def _key(path: Path) -> dict[str, Any]:
    """What tells whether a file is the one that was read."""
    about = path.stat()
    with path.open("rb") as file:
        digest = hashlib.blake2b(file.read(_ENDS), digest_size=16)
        file.seek(max(0, about.st_size - _ENDS))
        digest.update(file.read(_ENDS))
    return {"size": about.st_size, "time": about.st_mtime_ns, "ends": digest.hexdigest()}


def _places(path: Path) -> list[Path]:
    """Where the arrays of a file may be: beside it, or in the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zipasr"
    mark = hashlib.blake2b(os.fsencode(path.resolve()), digest_size=8).hexdigest()
    return [path.with_name(f"{path.name}.ngrams"), cache / f"{path.name}-{mark}.ngrams"]


def _found(path: Path, key: dict[str, Any]) -> tuple[NgramLm, list[str]] | None:
    for place in _places(path):
        try:
            found = _mapped(place, key)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s cannot be used, and is made again: %s", place, error)
            continue
        if found is not None:
            return found
    return None


def _converted(path: Path, key: dict[str, Any]) -> tuple[NgramLm, list[str]]:
    megabytes = key["size"] // _MB
    logger.info("%s is read as text this once: %d MB", path, megabytes)
    with Progress(f"MB of {path.name}", megabytes) as progress:
        model, remarks = read_arpa(
            path, lambda done: progress.step(count=done // _MB - progress.done)
        )
    for place in _places(path):
        try:
            sweep(place.parent)
            _write(place, model, {"key": key, "remarks": remarks})
        except OSError as error:
            logger.info("no arrays are left at %s: %s", place, error.strerror or error)
            continue
        logger.info("%s: arrays that the next run finds", place)
        break
    return model, remarks


def _write(path: Path, model: NgramLm, about: dict[str, Any]) -> None:
    arrays: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for name in (field.name for field in fields(model)):
        value = getattr(model, name)
        (arrays if isinstance(value, np.ndarray) else others)[name] = value
    names = np.frombuffer("\n".join(others.pop("names")).encode(), dtype=np.uint8)
    arrays["names"] = names
    kinds = {name: [array.dtype.str, len(array)] for name, array in arrays.items()}
    head = json.dumps({**about, "arrays": kinds, "others": others}).encode() + b"\n"
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(_MAGIC + head)
        for array in arrays.values():
            file.write(bytes(-file.tell() % _ALIGNMENT))
            array.tofile(file)


def _mapped(path: Path, key: dict[str, Any]) -> tuple[NgramLm, list[str]] | None:
    """Map a file of arrays; ``None`` if it is of another key.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or something else.
    """
    with path.open("rb") as file:
        if file.readline(len(_MAGIC)) != _MAGIC:
            raise ValueError("it has another format")
        about = json.loads(file.readline())
        place = file.tell()
    if about["key"] != key:
        return None
    arrays: dict[str, Any] = {}
    for name, (kind, length) in about["arrays"].items():
        place += -place % _ALIGNMENT
        # Copied where it is written to, which nobody does: torch takes no read-only arrays.
        arrays[name] = np.memmap(path, kind, "c", place, (length,)) if length else np.zeros(0, kind)
        place += arrays[name].nbytes
    names = arrays.pop("names").tobytes().decode().split("\n")
    others = about["others"]
    model = NgramLm(names=names, splits=tuple(others.pop("splits")), **arrays, **others)
    return model, about["remarks"]
