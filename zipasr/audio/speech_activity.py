"""Speech and pauses of a recording: by Silero VAD where it is installed, by level otherwise."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zipasr.base.constants import SAMPLING_RATE

# Seconds of a frame whose level is measured.
FRAME = 0.01

# A pause lasts at least this long (seconds), as most closures of plosives do not; at the ends of
# the recording any quiet counts.
SHORTEST = 0.08

# Quiet is what lies in the lowest part of the range of levels, from their 5th to their 95th
# percentile; of the range only the upper part counts, since digital silence has no lower end.
QUIET_PART = 0.2
WIDEST_RANGE = 50.0

# Seconds that share a threshold, and on either side seconds more by which it is set.
BLOCK = 10.0
AROUND = 5.0

# Of the filter that takes away the hum of rooms, as of the features.
_PRE_EMPHASIS = 0.97


class Pause(NamedTuple):
    """A quiet stretch of a recording, in seconds."""

    start: float
    end: float


def pauses_in(samples: NDArray[np.float32], rate: int = SAMPLING_RATE) -> list[Pause]:
    """Return the pauses of a recording in order.

    Args:
        samples: (num_samples,), one channel.
        rate: samples a second.
    """
    levels = frame_levels(samples, rate)
    quiet = np.zeros(len(levels) + 2, dtype=bool)  # with a loud frame before and behind
    block, around = round(BLOCK / FRAME), round(AROUND / FRAME)
    for begin in range(0, len(levels), block):
        near = levels[max(0, begin - around) : begin + block + around]
        part = levels[begin : begin + block]
        quiet[1 + begin : 1 + begin + len(part)] = part < _threshold(near)
    edges = np.flatnonzero(quiet[1:] != quiet[:-1]).reshape(-1, 2)
    shortest = round(SHORTEST / FRAME)
    return [
        Pause(begin * FRAME, end * FRAME)
        for begin, end in edges.tolist()
        if end - begin >= shortest or begin == 0 or end == len(levels)
    ]


def frame_levels(samples: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Return the level of each whole frame of emphasised sound in decibels."""
    size = max(1, round(FRAME * rate))
    count = len(samples) // size
    sound = samples[: count * size].astype(np.float64)
    sound[1:] -= _PRE_EMPHASIS * sound[:-1].copy()
    power = np.square(sound).reshape(count, size).mean(axis=1)
    levels: NDArray[np.float64] = 10.0 * np.log10(power + 1e-12)
    return levels


def _threshold(levels: NDArray[np.float64]) -> float:
    low, high = np.percentile(levels, [5, 95])
    low = max(low, high - WIDEST_RANGE)
    return float(low + QUIET_PART * (high - low))


Samples = NDArray[np.float32]

#: Seconds of a frame of the level.
LEVEL_SECONDS = 0.02
#: Level is averaged over this many frames.
_SMOOTH = 3
#: Floor and peak of the level are looked for as far as this before and after (seconds).
_AROUND = 8.0
#: Decibels: speech is no quieter than this below the loudest of the recording...
_QUIETEST_SPEAKER = 35.0
#: ...what is this far below speech counts as silence, however quiet the pauses are...
_RANGE = 40.0
#: ...and what is at this share of the way from the floor to the peak is speech or not, evenly.
_SHARE = 0.3
_LEAST_MARGIN = 5.0
_SOFTNESS = 2.0

#: Speech begins above the first value of its activity and lasts as long as above the second.
_BEGINS, _LASTS = 0.5, 0.35
#: What is shorter is a click (frames of the level).
_SHORTEST = 3

#: Samples of a frame of the model, and those before it that it is given too.
_SIZE, _CONTEXT = 512, 64
_BLOCK = 512
_MODEL = Path("data") / "silero_vad_16k_sequence.onnx"


class Activity(NamedTuple):
    """Course of speech in a recording.

    Attributes:
        values: (T,) float64, from 0, nobody speaks, to 1, somebody does.
        frame: seconds from one value to the next.
    """

    values: NDArray[np.float64]
    frame: float


def speech_activity(samples: Samples) -> Activity:
    """Return where somebody speaks: as Silero VAD hears it where it is installed, else by level.

    Args:
        samples: (num_samples,) at 16 kHz.
    """
    session = vad_session()
    return activity_by_level(samples) if session is None else activity_by_model(samples, session)


def activity_by_level(samples: Samples) -> Activity:
    """Return where a recording is louder than its background.

    The background is what is quietest within seconds, in pauses or between words; hum and
    rumble hardly count.

    Args:
        samples: (num_samples,) at 16 kHz.
    """
    frame = LEVEL_SECONDS
    level = levels(samples)
    if not len(level):
        return Activity(np.zeros(0), frame)
    floor, peak = _around(level, round(_AROUND / frame))
    peak = np.maximum(peak, peak.max() - _QUIETEST_SPEAKER)
    floor = np.clip(floor, peak - _RANGE, peak)
    threshold = floor + np.maximum(_SHARE * (peak - floor), _LEAST_MARGIN)
    threshold = np.maximum(threshold, peak.max() - _RANGE - _LEAST_MARGIN)
    return Activity(1.0 / (1.0 + np.exp((threshold - level) / _SOFTNESS)), frame)


def levels(samples: Samples) -> NDArray[np.float64]:
    """Return the smoothed level in decibels of emphasised sound, every 20 ms."""
    num = round(LEVEL_SECONDS / FRAME)
    power = 10.0 ** (0.1 * frame_levels(samples, SAMPLING_RATE))
    power = power[: len(power) // num * num].reshape(-1, num).mean(axis=1)
    if len(power) > _SMOOTH:
        padded = np.pad(power, _SMOOTH // 2, mode="edge")
        power = np.convolve(padded, np.full(_SMOOTH, 1.0 / _SMOOTH), mode="valid")
    level: NDArray[np.float64] = 10.0 * np.log10(power + 1e-12)
    return level


def _around(
    level: NDArray[np.float64], reach: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a low and a high percentile of the values within ``reach`` of each."""
    # Every half second is enough, and a tenth of that is looked at.
    step = 25
    places = np.arange(0, len(level), step)
    low, high = np.empty(len(places)), np.empty(len(places))
    for n, place in enumerate(places):
        part = level[max(0, place - reach) : place + reach]
        low[n], high[n] = np.percentile(part, (3, 95))
    every = np.arange(len(level))
    return np.interp(every, places, low), np.interp(every, places, high)


def stretches(activity: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return the stretches of speech, at the frames of the level: first, and one past the last."""
    lasts = np.concatenate([[False], activity > _LASTS, [False]])
    edges = np.flatnonzero(lasts[1:] != lasts[:-1])
    return [
        (int(start), int(end))
        for start, end in zip(edges[::2], edges[1::2], strict=True)
        if end - start >= _SHORTEST and activity[start:end].max() > _BEGINS
    ]


def activity_by_model(samples: Samples, session: Any) -> Activity:
    """Return the probabilities of speech that a voice-activity model gives.

    Args:
        samples: (num_samples,) at 16 kHz.
        session: of ``vad_session``.

    Source: Silero VAD, its model for sequences of frames.
    """
    count = -(-len(samples) // _SIZE)
    padded = np.pad(samples, (_CONTEXT, count * _SIZE - len(samples))).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(padded, _SIZE + _CONTEXT)[::_SIZE]
    hidden = cell = np.zeros((1, 1, 128), np.float32)
    found = [np.zeros(0)]
    for first in range(0, count, _BLOCK):
        inputs = {"input": windows[first : first + _BLOCK], "h": hidden, "c": cell}
        values, hidden, cell = session.run(["speech_probs", "hn", "cn"], inputs)
        found.append(values.astype(np.float64))
    return Activity(np.concatenate(found), _SIZE / SAMPLING_RATE)


@cache
def vad_session() -> Any | None:
    """Return Silero VAD in ONNX Runtime; ``None`` where the one or the other is not installed."""
    # The package is not imported: it changes the threads of torch, and this needs a file of it.
    package = importlib.util.find_spec("silero_vad")
    if package is None or not importlib.util.find_spec("onnxruntime"):
        return None
    places = [Path(folder) / _MODEL for folder in package.submodule_search_locations or ()]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(found), options, providers=["CPUExecutionProvider"])
