"""What the sound that a model was trained on is like: lengths, pauses, level and bandwidth."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zipasr.audio.speech_activity import LEVEL_SECONDS, Samples, activity_by_level, stretches
from zipasr.base.constants import SAMPLING_RATE
from zipasr.base.files import write_text

#: File in the folder of a training run or an export.
PROFILE = "training_sound.json"

#: Above the bandwidth the spectrum is this far (decibels) below its highest band everywhere.
_BELOW_PEAK = 55.0
_BAND = 250.0
_TRANSFORM = 512
#: Windows are no shorter, and pauses within a word are: seconds.
_SHORTEST, _SHORTEST_PAUSE = 1.0, 0.15
#: Of a level that is so far (decibels) from those of the training a warning is given...
_FAR = 10.0
#: ...and of a bandwidth that is so many times that of the training.
_NARROW, _WIDE = 0.7, 1.5


class Measures(NamedTuple):
    """Measures of one utterance or recording.

    Attributes:
        seconds: length.
        pause: seconds of the longest silence between speech.
        margin: seconds of silence before or after speech, of the two the shorter.
        level: decibels of full scale of what is speech.
        bandwidth: Hz.
    """

    seconds: float
    pause: float
    margin: float
    level: float
    bandwidth: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundProfile:
    """Sound that a model was trained on; where nothing is known, what is usual.

    Attributes:
        usual: seconds; nearly all utterances are no longer.
        pause: seconds; nearly all silences in utterances are no longer.
        margin: seconds of silence before and after speech.
        quietest: decibels of full scale; nearly all speech is louder.
        loudest: decibels of full scale; nearly all speech is quieter.
        bandwidth: Hz, or 0 if it is not known.
    """

    usual: float = 15.0
    pause: float = 0.5
    margin: float = 0.2
    quietest: float = -42.0
    loudest: float = -10.0
    bandwidth: float = 0.0

    def gain(self, level: float) -> float:
        """Return the decibels that bring speech of a level among that of the training."""
        middle = 0.5 * (self.quietest + self.loudest)
        return 0.0 if self.quietest <= level <= self.loudest else middle - level

    def warning(self, measures: Measures) -> str:
        """Say what makes a recording unlike the training data; nothing if it is alike.

        Args:
            measures: of the recording.
        """
        found = []
        gain = self.gain(measures.level)
        if not self.quietest - _FAR < measures.level < self.loudest + _FAR:
            level = measures.level + gain
            found.append(f"speech at {measures.level:.0f} dB (brought to {level:.0f} dB)")
        if self.bandwidth and measures.bandwidth < _NARROW * self.bandwidth:
            found.append(f"nothing above {measures.bandwidth / 1000:.1f} kHz")
        elif self.bandwidth and measures.bandwidth > _WIDE * self.bandwidth:
            found.append(f"sound up to {measures.bandwidth / 1000:.1f} kHz")
        if not found:
            return ""
        return f"unlike the training data: {', '.join(found)}; expect more errors"


def measure(samples: Samples) -> Measures | None:
    """Measure an utterance or a recording; ``None`` where nobody speaks.

    Args:
        samples: (num_samples,) at 16 kHz.
    """
    activity = activity_by_level(samples).values
    speech = stretches(activity)
    if not speech:
        return None
    pauses = [right[0] - left[1] for left, right in pairwise(speech)]
    size = round(LEVEL_SECONDS * SAMPLING_RATE)
    frames = samples[: len(activity) * size].reshape(-1, size)[activity > 0.5]
    power = float(np.mean(np.square(frames, dtype=np.float64)))
    return Measures(
        len(samples) / SAMPLING_RATE,
        max(pauses, default=0) * LEVEL_SECONDS,
        min(speech[0][0], len(activity) - speech[-1][1]) * LEVEL_SECONDS,
        10.0 * float(np.log10(power + 1e-12)),
        _bandwidth(frames),
    )


def _bandwidth(frames: Samples) -> float:
    """Return the frequency (Hz) above which there is next to nothing in frames (T, samples)."""
    window = np.hanning(frames.shape[1])
    power = np.square(np.abs(np.fft.rfft(frames * window, _TRANSFORM))).mean(axis=0)
    width = max(1, round(_BAND / (SAMPLING_RATE / _TRANSFORM)))
    bands = power[: len(power) // width * width].reshape(-1, width).mean(axis=1)
    level = 10.0 * np.log10(bands + 1e-20)
    highest = int(np.flatnonzero(level > level.max() - _BELOW_PEAK)[-1])
    return (highest + 1) * width * SAMPLING_RATE / _TRANSFORM


def profile_of(measures: Sequence[Measures]) -> SoundProfile:
    """Return the profile of utterances, at least one."""
    of = {name: np.array([getattr(one, name) for one in measures]) for name in Measures._fields}
    low, high = np.percentile(of["level"], (2, 98))
    return SoundProfile(
        usual=max(_SHORTEST, round(float(np.percentile(of["seconds"], 95)), 2)),
        pause=max(_SHORTEST_PAUSE, round(float(np.percentile(of["pause"], 90)), 2)),
        margin=round(float(np.median(of["margin"])), 2),
        quietest=round(float(low) - 3.0, 1),
        loudest=round(float(high) + 3.0, 1),
        bandwidth=round(float(np.median(of["bandwidth"]))),
    )


def write_profile(profile: SoundProfile, folder: Path) -> None:
    """Write a profile into the folder of a training run."""
    write_text(folder / PROFILE, json.dumps(asdict(profile), indent=1) + "\n")


def read_profile(folder: Path) -> SoundProfile:
    """Return the profile in the folder of a training run; the usual one where there is none."""
    try:
        values = json.loads((folder / PROFILE).read_text())
        names = {field.name for field in fields(SoundProfile)}
        return SoundProfile(**{n: float(v) for n, v in values.items() if n in names})
    except (OSError, ValueError, AttributeError, TypeError):
        return SoundProfile()


def copy_profile(source: Path, target: Path) -> None:
    """Copy the profile of one folder, if there is one, to another."""
    if (source / PROFILE).is_file():
        shutil.copyfile(source / PROFILE, target / PROFILE)
