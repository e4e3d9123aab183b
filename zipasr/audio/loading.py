"""Sound files of any rate, number of channels and common format as one channel of samples."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from zipasr.audio.audio_info import MISSING, SILENT, AudioInfo, read_audio_info
from zipasr.base.constants import SAMPLING_RATE
from zipasr.base.errors import DataError
from zipasr.base.files import atomic_path

AS_IT_IS = "one channel"
MIXED = "mixed down"
LOUDEST = "the one channel that is not silent"

# A channel this far (40 dB) below the loudest one carries no speech of its own.
_SILENT_SHARE = 1e-4
# Formats that are read in place; others are decoded once.
_READ_IN_PLACE = {".wav", ".flac"}


def treatment(facts: AudioInfo) -> str:
    """Say what makes one channel of a file's channels."""
    if len(facts.energies) <= 1:
        return AS_IT_IS
    return MIXED if len(active_channels(facts)) > 1 else LOUDEST


def active_channels(facts: AudioInfo) -> list[int]:
    """Return the channels that are not silent beside the loudest one."""
    loudest = max(facts.energies)
    return [c for c, energy in enumerate(facts.energies) if energy > loudest * _SILENT_SHARE]


def needs_conversion(path: Path, facts: AudioInfo) -> bool:
    """Say whether a file has to be written anew to be what the recipes expect."""
    fits = facts.rate == SAMPLING_RATE and len(facts.energies) == 1
    return not (fits and path.suffix.lower() in _READ_IN_PLACE)


def convert(source: Path, facts: AudioInfo, target: Path, channel: int | None = None) -> None:
    """Write ``source`` to ``target`` as FLAC: 16 kHz, 16 bit, one channel.

    Without a ``channel``, those that are not silent are averaged. Where resampling would go beyond
    full scale, the level is lowered; nothing is clipped.
    """
    samples = soundfile.read(source, dtype="float32", always_2d=True)[0]
    one = samples[:, active_channels(facts) if channel is None else [channel]].mean(axis=1)
    at_rate = resampled(one, facts.rate)
    peak = float(np.abs(at_rate).max(initial=0.0))
    with atomic_path(target) as temporary:
        soundfile.write(
            temporary, at_rate / max(1.0, peak), SAMPLING_RATE, format="FLAC", subtype="PCM_16"
        )


def resampled(samples: NDArray[Any], rate: int) -> NDArray[Any]:
    """Return (num_samples,) at 16 kHz, as soxr's filter "HQ" makes them.

    Args:
        samples: (num_samples,) at ``rate`` Hz, float32 or float64.
        rate: Hz.

    Returns:
        (ceil(num_samples * 16000 / rate),), same type. Silence is assumed beyond both ends.
    """
    if rate == SAMPLING_RATE:
        return samples
    num_out = -(-len(samples) * SAMPLING_RATE // rate)
    # soxr rounds the length, down to nothing for a few samples; silence that gives one more frame
    # keeps the last, partial one.
    padded = np.pad(samples, (0, -(-rate // SAMPLING_RATE)))
    result: NDArray[Any] = soxr.resample(padded, rate, SAMPLING_RATE, quality="HQ")[:num_out]
    return result


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
    facts = read_audio_info(path)
    if not facts.fault:
        samples = soundfile.read(path, dtype="float32", always_2d=True)[0]
        one = samples[:, active_channels(facts)].mean(axis=1)
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
