"""Sounds of any rate, number of channels and common format as one channel of samples."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from numbers import Real
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np
import soxr
from numpy.typing import NDArray

from zipasr.audio.audio_info import AudioInfo, SampleMeasures, survey
from zipasr.audio.channels import ONE_CHANNEL
from zipasr.audio.faults import (
    CANNOT_DECODE,
    CUT,
    MISSING,
    NOT_A_FILE,
    SILENT,
    UndecodableError,
    check_form,
)
from zipasr.audio.flac import origin_of, write_flac
from zipasr.base.constants import SAMPLING_RATE, WINDOW
from zipasr.base.errors import DataError

AS_IT_IS = ONE_CHANNEL

# Formats that are read in place; others are decoded once.
_READ_IN_PLACE = {".wav", ".flac"}
# Changes with what is made of a file: older conversions are made again.
_CONVERSION = 2
# Bytes, on most file systems.
_LONGEST_NAME = 255


def treatment(facts: AudioInfo) -> str:
    """Say what makes one channel of a file's channels."""
    return facts.mixing


def mixed(samples: NDArray[np.float32], facts: AudioInfo) -> NDArray[np.float32]:
    """Return one channel (num_samples,) of (num_samples, channels)."""
    if not facts.weights or len(set(facts.weights)) == 1:
        equal: NDArray[np.float32] = samples.mean(axis=1)
        return equal
    one: NDArray[np.float32] = samples @ np.asarray(facts.weights, np.float32)
    return one


def needs_conversion(path: Path, facts: AudioInfo) -> bool:
    """Say whether a file has to be written anew to be what the recipes expect."""
    fits = facts.rate == SAMPLING_RATE and len(facts.energies) == 1 and facts.is_plain
    return not (fits and path.suffix.lower() in _READ_IN_PLACE)


def is_converted(facts: AudioInfo, target: Path, channel: int | None = None) -> bool:
    """Say whether ``convert`` made a file of the same sound in the same way."""
    return origin_of(target) == _origin(facts, channel)


def _origin(facts: AudioInfo, channel: int | None) -> str:
    how = ",".join(f"{weight:.4g}" for weight in facts.weights)
    return f"zipasr {_CONVERSION} {facts.digest} {facts.rate} {how if channel is None else channel}"


def converted_name(name: str, channel: int | None = None) -> str:
    """Return the name of the file that ``convert`` makes of one of this name."""
    ending = ".flac" if channel is None else f".{channel}.flac"
    if len(os.fsencode(name + ending)) <= _LONGEST_NAME:
        return name + ending
    digest = hashlib.blake2b(os.fsencode(name), digest_size=8).hexdigest()
    kept = os.fsencode(name)[: _LONGEST_NAME - len(digest) - len(ending) - 1]
    return f"{kept.decode(errors='ignore')}-{digest}{ending}"


def convert(source: Path, facts: AudioInfo, target: Path, channel: int | None = None) -> None:
    """Write ``source`` to ``target`` as FLAC: 16 kHz, 16 bit, one channel.

    Without a ``channel``, they are mixed as ``facts`` say. Where resampling would go beyond full
    scale, the level is lowered; nothing is clipped.

    Raises:
        DataError: the file is not the one any more that ``facts`` are about.
    """
    blocks: list[NDArray[np.float32]] = []
    found = survey(source, blocks)
    if found.digest != facts.digest:
        raise DataError(f"{source} has changed since it was read.", "the same command again.")
    samples = np.concatenate(blocks)
    one = mixed(samples, facts) if channel is None else samples[:, channel]
    at_rate = resampled(one, facts.rate)
    peak = float(np.abs(at_rate).max(initial=0.0))
    whole = np.clip(np.rint(at_rate / max(1.0, peak) * 32768.0), -32768, 32767).astype(np.int16)
    write_flac(target, whole, SAMPLING_RATE, _origin(facts, channel))


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

#: Decibels of full scale. The model of the embedded recipe loses a tenth of the words there, and
#: nearly all of them 15 dB further down.
QUIET = -42.0


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
the shorter dimension are the channels. Floating-point ones are in [-1, 1], integers of their range;
wider integers that are all within 16 bits are 16-bit samples.
"""


def sound_of(audio: Audio) -> Sound:
    """Return a sound of any kind; see ``Audio``.

    Raises:
        DataError: it cannot be read, or is no sound.
    """
    if isinstance(audio, (str, Path)):
        return load_sound(Path(audio))
    if isinstance(audio, tuple) and len(audio) == 2:
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
    is_rate = isinstance(rate, Real) and 0 < rate < np.inf
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiu" or not is_rate:
        raise DataError(
            f"samples of shape {array.shape} and type {array.dtype} at {rate} Hz are no sound.",
            "give numbers (num_samples,) or (channels, num_samples) and their rate in Hz.",
        )
    as_float = samples_in_range(_narrowed(array))
    if not np.isfinite(as_float).all():
        raise DataError("the samples are not all finite.", "look at where they come from.")
    if as_float.ndim == 1:
        as_float = as_float[:, None]
    elif as_float.shape[0] < as_float.shape[1]:
        as_float = as_float.T
    if not as_float.size:
        return Sound(np.zeros(0, np.float32), f"{rate} Hz, no samples")
    try:
        check_form(int(rate), as_float.shape[1])
    except UndecodableError as problem:
        raise DataError(f"samples with {problem}.", "give their rate in Hz.") from None
    measures = SampleMeasures(as_float.shape[1], int(rate))
    measures.add(as_float)
    return _one_channel(as_float, measures.info())


def _narrowed(array: NDArray[Any]) -> NDArray[Any]:
    """Return integers of 16 bits as such, where they came in a wider type.

    A recording that fills no more of its 32 bits would be inaudible.
    """
    if array.dtype.kind != "i" or array.dtype.itemsize <= 2 or not array.size:
        return array
    limits = np.iinfo(np.int16)
    fits = limits.min <= array.min() and array.max() <= limits.max
    return array.astype(np.int16) if fits else array


def samples_in_range(array: NDArray[Any]) -> Samples:
    """Return samples as float32, integers divided by their range so that they are in [-1, 1).

    No recording has 64 bits: such integers are 16-bit samples that passed through a list.
    """
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    limits = np.iinfo(array.dtype if array.dtype.itemsize < 8 else np.int16)
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
    blocks: list[Samples] = []
    facts = survey(path, blocks)
    if facts.fault not in ("", SILENT):
        raise DataError(f"{name or path}: {facts.fault}.", _fix(path, facts.fault))
    return _one_channel(np.concatenate(blocks), facts)


def _one_channel(samples: Samples, facts: AudioInfo) -> Sound:
    """Return the sound of samples (num_samples, channels)."""
    return Sound(resampled(mixed(samples, facts), facts.rate), _about(facts))


def _about(facts: AudioInfo) -> str:
    if facts.fault == SILENT:
        return f"{facts.rate} Hz, {SILENT}"
    channels = len(facts.energies)
    about = f"{facts.rate} Hz, 1 channel"
    if channels != 1:
        about = f"{facts.rate} Hz, {channels} channels: {treatment(facts)}"
    quiet = f"very quiet, {facts.level:.0f} dB where it is loudest" if facts.level < QUIET else ""
    return "; ".join(filter(None, (about, facts.told, quiet)))


def _fix(path: Path, fault: str) -> str:
    if fault == MISSING:
        return "see that the path is right."
    if fault.endswith(os.strerror(errno.EISDIR)):
        return f"name the files in it, for example {path}/*.wav."
    if fault == NOT_A_FILE:
        return "write the sound to a file first, or give - for samples on the standard input."
    if fault.startswith(CANNOT_DECODE) and not fault.startswith(CUT):
        return _FORMATS
    if " Hz" in fault or " channels" in fault:
        return "its header is wrong: write it with the right rate and number of channels."
    return "get the file again."


_FORMATS = (
    "WAV, FLAC, OGG and MP3 are read as they are; for other formats install ffmpeg, or convert "
    "the file first."
)
