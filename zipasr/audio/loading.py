"""A sound file of any rate, number of channels and common format as samples for the models."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from zipasr.audio.facts import MISSING, SILENT, facts_of
from zipasr.audio.mono import SAMPLING_RATE, resampled, sounding, treatment
from zipasr.base.errors import DataError

Samples = NDArray[np.float32]


class Sound(NamedTuple):
    """One file.

    Attributes:
        samples: (num_samples,) float32 at 16 kHz, one channel.
        about: how it came to be so, for people: rate, channels, what was done to them.
    """

    samples: Samples
    about: str

    @property
    def seconds(self) -> float:
        """Length of the sound."""
        return len(self.samples) / SAMPLING_RATE


def load_sound(path: Path) -> Sound:
    """Read a file: what the sound library knows, and what ffmpeg knows where it is installed.

    A file of zeros is a recording in which nothing is said.

    Raises:
        DataError: the file is missing, damaged, empty or of an unknown format.
    """
    facts = facts_of(path)
    if not facts.fault:
        samples = soundfile.read(path, dtype="float32", always_2d=True)[0]
        one = samples[:, sounding(facts)].mean(axis=1)
        channels = len(facts.energies)
        about = f"{facts.rate} Hz, {channels} channel{'s' * (channels > 1)}: {treatment(facts)}"
        return Sound(resampled(one, facts.rate), about)
    if facts.fault == SILENT:
        silence = np.zeros(round(facts.seconds * SAMPLING_RATE), dtype=np.float32)
        return Sound(silence, f"{facts.rate} Hz, {SILENT}")
    if facts.fault.startswith("cannot be decoded") and shutil.which("ffmpeg"):
        return Sound(_through_ffmpeg(path), "decoded by ffmpeg, mixed down")
    raise DataError(f"{path}: {facts.fault}.", _fix(path, facts.fault))


def _fix(path: Path, fault: str) -> str:
    if fault == MISSING:
        return "see that the path is right."
    if path.is_dir():
        return f"name the files in it, for example {path}/*.wav."
    return _FORMATS if fault.startswith("cannot be decoded") else "get the file again."


_FORMATS = (
    "WAV, FLAC, OGG and MP3 are read as they are; for other formats install ffmpeg, or convert "
    "the file first."
)


def _through_ffmpeg(path: Path) -> Samples:
    words = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path), "-f", "s16le"]
    words += ["-ac", "1", "-ar", str(SAMPLING_RATE), "-"]
    done = subprocess.run(words, capture_output=True, check=False)
    if done.returncode != 0 or not done.stdout:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise DataError(
            f"{path} cannot be decoded: {said[-1] if said else 'no sound in it'}.", _FORMATS
        )
    return np.frombuffer(done.stdout, dtype="<i2").astype(np.float32) / 32768.0
