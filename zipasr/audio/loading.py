"""Sounds of any rate, number of channels and common format as one channel of samples."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from zipasr.audio.audio_info import MISSING, SILENT, AudioInfo, read_audio_info
from zipasr.base.constants import SAMPLING_RATE, WINDOW
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


Audio: TypeAlias = "str | Path | BinaryIO | tuple[Any, int]"
"""A sound: the path of a file, a file that is open for reading bytes, or samples with their rate.

Samples are an array or a tensor (num_samples,), (channels, num_samples) or (num_samples, channels):
the shorter dimension are the channels. Floating-point ones are in [-1, 1], integers of their range.
"""


def sound_of(audio: Audio) -> Sound:
    """Return a sound of any kind; see ``Audio``.

    Raises:
        DataError: it cannot be read, or is no sound.
    """
    if isinstance(audio, (str, Path)):
        return load_sound(Path(audio))
    if isinstance(audio, tuple):
        return _sound_of_samples(*audio)
    if not hasattr(audio, "read"):
        raise DataError(
            f"{type(audio).__name__} is no sound.",
            "give a path, an open file, or a pair of samples and their rate.",
        )
    content = audio.read()
    if not isinstance(content, bytes):
        raise DataError("an open file of audio gives text, not bytes.", "open it with mode 'rb'.")
    name = name_of(audio)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / ("audio" + Path(name).suffix)
        copy.write_bytes(content)
        return load_sound(copy, name)


def name_of(audio: Audio) -> str:
    """Return what messages call a sound."""
    if isinstance(audio, (str, Path)):
        return str(audio)
    return "samples" if isinstance(audio, tuple) else str(getattr(audio, "name", "open file"))


def has_sound(samples: Samples) -> bool:
    """Say whether there is anything to recognise: models make words of silence, too."""
    return len(samples) >= WINDOW and bool(samples.any())


def _sound_of_samples(samples: Any, rate: int) -> Sound:
    array = samples.detach().cpu().numpy() if hasattr(samples, "detach") else np.asarray(samples)
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiu" or not rate > 0:
        raise DataError(
            f"samples of shape {array.shape} and type {array.dtype} at {rate} Hz are no sound.",
            "give numbers (num_samples,) or (channels, num_samples) and their rate in Hz.",
        )
    as_float = samples_in_range(array)
    if not np.isfinite(as_float).all():
        raise DataError("the samples are not all finite.", "look at where they come from.")
    if as_float.ndim == 1:
        as_float = as_float[:, None]
    elif as_float.shape[0] < as_float.shape[1]:
        as_float = as_float.T
    energies = (
        tuple(np.square(as_float, dtype=np.float64).mean(axis=0)) if as_float.size else (0.0,)
    )
    facts = AudioInfo(rate=int(rate), num_samples=len(as_float), energies=energies)
    return _one_channel(as_float, facts)


def samples_in_range(array: NDArray[Any]) -> Samples:
    """Return samples as float32, integers divided by their range so that they are in [-1, 1)."""
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    limits = np.iinfo(array.dtype)
    middle = 0.0 if array.dtype.kind == "i" else 0.5 * (limits.max + 1.0)
    scaled: Samples = ((array - middle) / (limits.max + 1.0 - middle)).astype(np.float32)
    return scaled


def load_sound(path: Path, name: str = "") -> Sound:
    """Read a file: what the sound library knows, and what ffmpeg knows where it is installed.

    A file of zeros is a recording in which nothing is said.

    Args:
        path: of the file.
        name: what messages call it; its path if omitted.

    Raises:
        DataError: the file is missing, damaged, empty or of an unknown format.
    """
    facts = read_audio_info(path)
    if not facts.fault:
        return _one_channel(soundfile.read(path, dtype="float32", always_2d=True)[0], facts)
    if facts.fault == SILENT:
        silence = np.zeros(round(facts.seconds * SAMPLING_RATE), dtype=np.float32)
        return Sound(silence, f"{facts.rate} Hz, {SILENT}")
    if facts.fault.startswith("cannot be decoded") and shutil.which("ffmpeg"):
        return Sound(_through_ffmpeg(path, name or str(path)), "decoded by ffmpeg, mixed down")
    raise DataError(f"{name or path}: {facts.fault}.", _fix(path, facts.fault))


def _one_channel(samples: Samples, facts: AudioInfo) -> Sound:
    """Return the sound of samples (num_samples, channels)."""
    one = samples[:, active_channels(facts)] if any(facts.energies) else samples
    channels = len(facts.energies)
    about = f"{facts.rate} Hz, {channels} channel{'s' * (channels > 1)}: {treatment(facts)}"
    return Sound(resampled(one.mean(axis=1), facts.rate), about)


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


def _through_ffmpeg(path: Path, name: str) -> Samples:
    words = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path), "-f", "s16le"]
    words += ["-ac", "1", "-ar", str(SAMPLING_RATE), "-"]
    done = subprocess.run(words, capture_output=True, check=False)
    if done.returncode != 0 or not done.stdout:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise DataError(
            f"{name} cannot be decoded: {said[-1] if said else 'no sound in it'}.", _FORMATS
        )
    return np.frombuffer(done.stdout, dtype="<i2").astype(np.float32) / 32768.0
