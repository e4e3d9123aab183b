"""Check of an exported folder: its files are those that the export wrote, and of one export."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from zipasr.audio.sound_profile import PROFILE
from zipasr.base.errors import CheckpointError
from zipasr.base.files import sha256_of

#: Settings of an exported folder, and the entry of them with the size and hash of each file.
SETTINGS, FILES = "config.json", "files"
#: Recording of the test set, and what is said in it.
SAMPLE, SAMPLE_TEXT = "test_wavs/0.wav", "test_wavs/trans.txt"
#: Tokens and their numbers, one on a line.
TABLE = "tokens.txt"
#: Calibrations of the confidence of words, by the way of decoding.
CONFIDENCE = "confidence.json"

# What recognition depends on. Texts for people and keywords are theirs to change.
_CHECKED = ("*.onnx", "*.pt", TABLE, "bpe.model", "bpe.vocab", PROFILE, CONFIDENCE)
# Larger files are not hashed when a model is loaded: these take some hundredths of a second.
_QUICKLY_HASHED = 4 << 20


_FIX = "copy the whole folder again, or export the model again."


class Stamp(NamedTuple):
    """What an export says of one of its files."""

    bytes: int
    sha256: str


def stamps_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the size and the hash of each file that recognition depends on, by name."""
    paths = sorted({path for pattern in _CHECKED for path in folder.glob(pattern)})
    return {path.name: Stamp(path.stat().st_size, sha256_of([path]))._asdict() for path in paths}


def stored_stamps(folder: Path) -> Mapping[str, Stamp]:
    """Return what the export of a folder wrote down; nothing if it was made without.

    Raises:
        CheckpointError: the settings are damaged.
    """
    path = folder / SETTINGS
    try:
        stored = json.loads(path.read_text(encoding="utf-8")).get(FILES, {})
        return {name: Stamp(**stamp) for name, stamp in stored.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as problem:
        raise CheckpointError(f"{path} is damaged.", _FIX) from problem


def check_files(folder: Path, names: Iterable[str]) -> None:
    """Refuse files of a folder that are not those of its export, as far as that is quick.

    Sizes are compared, of small files hashes too; ``check_all_files`` compares all of them.

    Args:
        folder: of an export; one that was made without sizes and hashes is not checked.
        names: of the files.

    Raises:
        CheckpointError: names the first file.
    """
    stamps = stored_stamps(folder)
    for name in names:
        if fault := _fault(folder / name, stamps, hashed=_QUICKLY_HASHED):
            raise CheckpointError(f"{folder / name} {fault}.", _FIX)


def check_all_files(folder: Path) -> str:
    """Compare all files of an export that are there; return a line about it, empty without any.

    Raises:
        CheckpointError: names the files that are not those of the export.
    """
    stamps = stored_stamps(folder)
    there = [folder / name for name in stamps if (folder / name).is_file()]
    faults = [f"{path.name} {fault}" for path in there if (fault := _fault(path, stamps))]
    if faults:
        raise CheckpointError(f"{folder}: {'; '.join(faults)}.", _FIX)
    return f"{len(there)} of {len(stamps)} files are there, as they were exported" * bool(stamps)


def sample_of(folder: Path) -> tuple[Path, str] | None:
    """Return the recording of an exported folder and what is said in it, if it has one."""
    texts = folder / SAMPLE_TEXT
    if not (folder / SAMPLE).is_file() or not texts.is_file():
        return None
    return folder / SAMPLE, texts.read_text(encoding="utf-8").partition(" ")[2].strip()


def _fault(path: Path, stamps: Mapping[str, Stamp], hashed: float = math.inf) -> str:
    """Return what is wrong with a file, of at most ``hashed`` bytes also by its hash."""
    stamp = stamps.get(path.name)
    if not path.is_file():
        return "is missing" if stamp else ""
    if stamp is None:
        return f"is not of the export in {SETTINGS}" if stamps else ""
    size = path.stat().st_size
    if size != stamp.bytes:
        return f"has {size} bytes, and its export wrote {stamp.bytes}"
    if size <= hashed and sha256_of([path]) != stamp.sha256:
        return "is damaged or of another export: its hash is not the one that was written"
    return ""
