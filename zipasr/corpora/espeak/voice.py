"""The process that synthesises speech, adds noise and level, and changes the sample rate.

Started as ``python -m zipasr.corpora.espeak.voice``, it is the only place where the eSpeak NG
library is loaded. The library is not deterministic within a process: what it says depends on all
it has said before. So this process never speaks; for every utterance it forks a child that speaks
once and ends. The sound then depends on the order alone, not on the orders before it nor on how
many such processes share the work.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import gcd
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO, get_args

import numpy as np

# By name, since numpy would load these only when they are first used: once per forked child.
from numpy.fft import irfft, rfft, rfftfreq
from numpy.random import PCG64, Generator
from numpy.typing import NDArray

from zipasr.audio.flac import write_flac

Samples = NDArray[np.float64]
NoiseKind = Literal["white", "low"]
NOISE_KINDS: tuple[NoiseKind, ...] = get_args(NoiseKind)

# Low-passed noise falls by 6 dB per octave from here on, like the hum of a room.
CORNER_HZ = 400.0
# Highest peak allowed, relative to full scale.
PEAK = 0.98


def noise_floor(kind: NoiseKind, num_samples: int, rate: int, seed: int) -> Samples:
    """Return (num_samples,) of noise with a root mean square of 1, at ``rate`` Hz."""
    # A power of two, then cut: for an unlucky length the transform takes thirty times as long.
    length = 1 << (num_samples - 1).bit_length()
    floor = Generator(PCG64(seed)).standard_normal(length)
    if kind == "low":
        frequency = rfftfreq(length, 1 / rate)
        spectrum = rfft(floor) / np.sqrt(1 + (frequency / CORNER_HZ) ** 2)
        floor = irfft(spectrum, length)
    floor = floor[:num_samples]
    return floor / rms(floor)


def mix_recording(speech: Samples, floor: Samples, snr_db: float, level_dbfs: float) -> Samples:
    """Lay speech over a noise floor and set the level of both.

    Args:
        speech: (num_samples,), any level.
        floor: (num_samples,), noise with a root mean square of 1.
        snr_db: power of the speech over that of the noise, dB.
        level_dbfs: root mean square of the result, dB relative to full scale.

    Returns:
        (num_samples,) in -1 .. 1. Where the peak would not fit the level is lowered, never clipped.
    """
    mixed = speech + floor * (rms(speech) * 10 ** (-snr_db / 20))
    gain = 10 ** (level_dbfs / 20) / rms(mixed)
    return mixed * min(gain, PEAK / float(np.abs(mixed).max()))


def rms(samples: Samples) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(samples**2)))


# Zero crossings of the sinc on each side; with a Hann window this keeps images below -60 dB.
ZEROS = 24
# Share of the lower Nyquist frequency that is kept, so that the filter has room to fall.
ROLLOFF = 0.95


class Kernel(NamedTuple):
    """Filters from one rate to another.

    Attributes:
        step: input samples per block.
        phases: output samples per block.
        reach: input samples used beyond each end of a block.
        weights: (step + 2 * reach, phases), one filter per column.
    """

    step: int
    phases: int
    reach: int
    weights: Samples


def resample(samples: Samples, rate_in: int, rate_out: int) -> Samples:
    """Return ``samples`` at another rate.

    Args:
        samples: (num_samples,), at ``rate_in`` Hz.
        rate_in: rate before, Hz.
        rate_out: rate after, Hz.

    Returns:
        (ceil(num_samples * rate_out / rate_in),), same amplitude, no delay. Silence is assumed
        beyond both ends.
    """
    step, phases, reach, weights = kernel(rate_in, rate_out)
    num_out = -(-len(samples) * phases // step)
    num_blocks = -(-num_out // phases)
    width = step + 2 * reach
    padded = np.zeros((num_blocks - 1) * step + width)
    padded[reach : reach + len(samples)] = samples
    blocks = np.lib.stride_tricks.sliding_window_view(padded, width)[::step]
    return (blocks @ weights).reshape(-1)[:num_out]


@cache
def kernel(rate_in: int, rate_out: int) -> Kernel:
    """Return the filters from ``rate_in`` to ``rate_out`` Hz.

    From one block of ``step`` input samples to the next, the positions of the ``phases`` output
    samples between them repeat, so one matrix serves all blocks.
    """
    divisor = gcd(rate_in, rate_out)
    step, phases = rate_in // divisor, rate_out // divisor
    cutoff = min(1.0, rate_out / rate_in) * ROLLOFF  # share of the input's Nyquist frequency
    reach = int(np.ceil(ZEROS / cutoff))
    position_in = np.arange(-reach, step + reach)[:, None]
    position_out = np.arange(phases)[None, :] * (step / phases)
    distance = (position_in - position_out) * cutoff
    window = np.where(np.abs(distance) < ZEROS, np.cos(np.pi / 2 * distance / ZEROS) ** 2, 0.0)
    return Kernel(step, phases, reach, cutoff * np.sinc(distance) * window)


# Seconds of noise alone before and after the speech: eSpeak NG starts and stops at once.
MARGIN = 0.1

# From espeak-ng/speak_lib.h: AUDIO_OUTPUT_SYNCHRONOUS, the parameters, espeakCHARS_UTF8.
_SYNCHRONOUS = 2
_RATE = 1
_PITCH = 3
_UTF8 = 1
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Request to synthesise and write one utterance.

    Attributes:
        id: printed when it is done.
        path: absolute path of the FLAC file.
        text: what to say.
        accent: language of eSpeak NG, such as ``en-us``.
        variant: voice of eSpeak NG, such as ``f2``; it speaks all languages.
        rate: words per minute.
        pitch: 0 to 99.
        size: factor on formants and pitch; the words per minute stay as they are.
        noise: kind of the noise floor.
        snr_db: speech over noise, dB.
        level_dbfs: root mean square of the recording, dB relative to full scale.
        seed: of noise and breath.
        sample_rate: of the file, Hz.
    """

    id: str
    path: str
    text: str
    accent: str
    variant: str
    rate: int
    pitch: int
    size: float
    noise: NoiseKind
    snr_db: float
    level_dbfs: float
    seed: int
    sample_rate: int


class Speaker:
    """The eSpeak NG library in a fresh process, for one utterance.

    One object per process: library state and callback are global.

    Args:
        options: of ``espeak_Initialize``, such as which events it tells beside those of words.

    Raises:
        RuntimeError: the library does not start.
    """

    def __init__(self, options: int = 0) -> None:
        # Imported here: its licence is GPL-3, and nothing but this process may need it.
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._data = Path(espeakng_loader.get_data_path())
        path = os.fsencode(self._data)
        self.rate = int(self._library.espeak_Initialize(_SYNCHRONOUS, 0, path, options))
        if self.rate <= 0:
            raise RuntimeError("espeak_Initialize failed: its voice data may be damaged")
        self._sound: list[bytes] = []
        # The library keeps the address only; the attribute keeps the function alive.
        self._callback = _CALLBACK(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, order: Order) -> NDArray[np.int16]:
        """Return the words of ``order`` as (num_samples,) at ``self.rate`` Hz.

        Raises:
            RuntimeError: there is no such voice, or no sound came.
        """
        library = self._library
        self._set_voice(order.accent, order.variant)
        library.espeak_ng_SetRandSeed(ctypes.c_long(order.seed))
        library.espeak_SetParameter(_RATE, round(order.rate / order.size), 0)
        library.espeak_SetParameter(_PITCH, order.pitch, 0)
        # In capitals short words could be read out letter by letter.
        text = order.text.lower().encode() + b"\0"
        size = ctypes.c_size_t(len(text))
        failed = library.espeak_Synth(text, size, 0, 1, 0, _UTF8, None, None)
        library.espeak_Synchronize()
        sound = np.frombuffer(b"".join(self._sound), dtype=np.int16)
        if failed or not sound.any():
            raise RuntimeError(f"eSpeak NG made no sound of {order.text!r}")
        return sound

    def _set_voice(self, accent: str, variant: str) -> None:
        # The library takes an unknown variant for none, and on an unknown language it goes on in
        # whatever voice it had; only the latter can be seen from what it returns.
        is_known = (self._data / "voices" / "!v" / variant).is_file()
        if not is_known or self._library.espeak_SetVoiceByName(f"{accent}+{variant}".encode()):
            raise RuntimeError(f"eSpeak NG has no voice {accent}+{variant}")

    def _receive(self, samples: Any, num_samples: int, events: int | None) -> int:
        del events
        if num_samples > 0:
            self._sound.append(ctypes.string_at(samples, num_samples * 2))
        return 0


def recording_of(sound: NDArray[np.int16], rate: int, order: Order) -> NDArray[np.int16]:
    """Return the sound as the file of ``order`` has it: (num_samples,) at its sample rate."""
    speech: Samples = resample(sound / 32768.0, played_rate(rate, order), order.sample_rate)
    speech = np.pad(speech, round(MARGIN * order.sample_rate))
    floor = noise_floor(order.noise, len(speech), order.sample_rate, order.seed)
    recording = mix_recording(speech, floor, order.snr_db, order.level_dbfs)
    return np.round(recording * 32767.0).astype(np.int16)


def played_rate(rate: int, order: Order) -> int:
    """Return the rate (Hz) to take a sound of ``rate`` Hz for, so that it comes out resized.

    A multiple of 50 Hz, to keep the number of filters small.
    """
    return 50 * round(rate * order.size / 50)


def synthesise_order(speaker: Speaker, order: Order) -> None:
    """Speak ``order`` and write its file; call it once per process."""
    recording = recording_of(speaker.say(order), speaker.rate, order)
    write_flac(Path(order.path), recording, order.sample_rate)


def start_child(speaker: Speaker, order: Order) -> int:
    """Fork a child that fulfils ``order``; return its process number."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            synthesise_order(speaker, order)
            status = 0
        except Exception as problem:
            sys.stderr.write(f"{order.id}: {problem}\n")
        finally:
            # Not sys.exit: buffers and exit handlers belong to the parent.
            os._exit(status)
    return child


# Children at work together: one computes while the disk makes sure of the file of the other.
CHILDREN = 2


def serve_orders(orders: Iterator[Order], output: TextIO) -> None:
    """Fulfil ``orders``; write ``done <id>`` or ``failed <id>`` for each as it ends."""
    speaker = Speaker()
    at_work: dict[int, Order] = {}

    def wait_for_one() -> None:
        child, status = os.wait()
        outcome = "failed" if status else "done"
        output.write(f"{outcome} {at_work.pop(child).id}\n")
        output.flush()

    for order in orders:
        kernel(
            played_rate(speaker.rate, order), order.sample_rate
        )  # computed once here, inherited by every child
        if len(at_work) == CHILDREN:
            wait_for_one()
        at_work[start_child(speaker, order)] = order
    while at_work:
        wait_for_one()


def to_line(order: Order) -> str:
    """Return ``order`` as one line of JSON."""
    return json.dumps(dataclasses.asdict(order)) + "\n"


def from_line(line: str) -> Order:
    """Return what ``to_line`` wrote."""
    return Order(**json.loads(line))


if __name__ == "__main__":
    serve_orders(map(from_line, sys.stdin.readlines()), sys.stdout)
