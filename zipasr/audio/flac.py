"""FLAC files that are whole under their names, and say what they were made from."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from zipasr.base.errors import ResourceError
from zipasr.base.files import atomic_path


def write_flac(path: Path, samples: NDArray[np.int16], rate: int, made_from: str = "") -> None:
    """Write a FLAC file of one channel with 16 bits.

    libsndfile does not tell when its last bytes find no room on the disk. So it writes to memory,
    and what is on the disk is read back before it gets its name.

    Args:
        path: of the file.
        samples: (num_samples,).
        rate: Hz.
        made_from: what stands in the file about its origin; see ``origin_of``.

    Raises:
        OSError: there is no room, or the disk fails.
        ResourceError: the file reads back differently.
    """
    encoded = io.BytesIO()
    with soundfile.SoundFile(
        encoded, "w", rate, 1, subtype="PCM_16", format="FLAC", closefd=False
    ) as file:
        if made_from:
            file.comment = made_from
        file.write(samples)
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded.getbuffer())
        if not _reads_back(temporary, samples, rate):
            raise ResourceError(
                f"{path} reads back differently from what was written.",
                "see that the disk is not full and has no faults; then the same command again.",
            )


def _reads_back(path: Path, samples: NDArray[np.int16], rate: int) -> bool:
    try:
        with path.open("rb") as file:
            found, found_rate = soundfile.read(file, dtype="int16")
    except soundfile.LibsndfileError:
        return False
    return found_rate == rate and np.array_equal(found, samples)


def origin_of(path: Path) -> str:
    """Return what ``write_flac`` was told; empty when that is unknown or there is no such file."""
    try:
        with path.open("rb") as file, soundfile.SoundFile(file) as sound:
            return str(sound.comment)
    except (OSError, soundfile.SoundFileError):
        return ""
