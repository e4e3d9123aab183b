"""Word error rates of long recordings against those of the sentences in them, one by one.

Test sentences are joined to a recording, with something in the pauses between them, beneath them,
or done to all of it. Each recording is transcribed as a file of that length would be; the rates are
compared with those of the same sentences as utterances of their own.

    .venv/bin/python -m benchmarks.long_recordings --recipe espeak
    .venv/bin/python -m benchmarks.long_recordings --recipe espeak --only silence --sentences 90
    .venv/bin/python -m benchmarks.long_recordings --file long.flac --reference long.ref

A row compares one recording, the same for every model. Where something lies beneath the speech or
changes it, "alone" are the sentences cut out of the recording, else those of the corpus.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lhotse import CutSet

import zipasr
from zipasr.audio.loading import load_sound
from zipasr.base.constants import SAMPLING_RATE
from zipasr.cli.command_flags import read
from zipasr.cli.recognition_commands import DECODE
from zipasr.data.config import DataConfig
from zipasr.data.loaders import load_cuts
from zipasr.recognition.long_form import Piece
from zipasr.scoring.word_errors import count_errors

Samples = np.ndarray
Draws = np.random.Generator
SEED = 7


class Sentence(NamedTuple):
    """The sound of an utterance, (num_samples,) at 16 kHz, and its transcript."""

    samples: Samples
    text: str


class Condition(NamedTuple):
    """A way to make one recording of many sentences.

    Attributes:
        fill: returns what is in the pauses, of that many samples.
        shortest: seconds of a pause.
        longest: seconds of a pause; pauses are drawn between the two.
        first: seconds of ``fill`` before the first sentence.
        beneath: returns what lies beneath all of it, of that many samples.
        gain: decibels by which all of it is louder; what is beyond full scale is clipped.
        minutes: length to which the sentences are repeated, in another order each time.
    """

    fill: Callable[[int, Draws], Samples]
    shortest: float = 0.3
    longest: float = 1.2
    first: float = 0.0
    beneath: Callable[[int, Draws], Samples] | None = None
    gain: float = 0.0
    minutes: float = 0.0


def decibels(level: float) -> float:
    """Return the factor that a level stands for."""
    return float(10.0 ** (level / 20.0))


def silence(num: int, draws: Draws) -> Samples:
    """Return zeros."""
    del draws
    return np.zeros(num)


def noise(level: float) -> Callable[[int, Draws], Samples]:
    """Return white noise of ``level`` dB."""
    return lambda num, draws: decibels(level) * draws.standard_normal(num)


def hum(level: float) -> Callable[[int, Draws], Samples]:
    """Return 50 Hz with harmonics, of ``level`` dB."""

    def make(num: int, draws: Draws) -> Samples:
        seconds = np.arange(num) / SAMPLING_RATE
        waves = [
            np.sin(2 * np.pi * (50.0 * n * seconds + draws.random())) / n for n in (1, 2, 3, 4, 6)
        ]
        return _at_level(np.sum(waves, axis=0), level)

    return make


def tones(level: float) -> Callable[[int, Draws], Samples]:
    """Return chords of three notes with overtones, a quarter of a second each, of ``level`` dB."""

    def make(num: int, draws: Draws) -> Samples:
        length = SAMPLING_RATE // 4
        seconds = np.arange(length) / SAMPLING_RATE
        fade = np.exp(-6.0 * seconds) * np.minimum(1.0, seconds / 0.01)
        chords = []
        for _ in range(-(-num // length)):
            pitches = 220.0 * 2.0 ** (draws.choice([0, 2, 4, 5, 7, 9, 11, 12], 3) / 12.0)
            notes = [
                np.sin(2 * np.pi * n * pitch * seconds) / n for pitch in pitches for n in (1, 2, 3)
            ]
            chords.append(fade * np.sum(notes, axis=0))
        return _at_level(np.concatenate([*chords, np.zeros(0)])[:num], level)

    return make


def babble(voices: Sequence[Sentence], level: float) -> Callable[[int, Draws], Samples]:
    """Return many voices at once, of ``level`` dB."""

    def make(num: int, draws: Draws) -> Samples:
        mixed = np.zeros(num)
        for _ in range(8):
            order, row, length = draws.permutation(len(voices)), [], 0
            for number in order:
                if length >= num + 5 * SAMPLING_RATE:
                    break
                row.append(voices[number].samples)
                length += len(row[-1])
            line = np.tile(np.concatenate(row), -(-(num + 5 * SAMPLING_RATE) // length))
            begin = int(draws.integers(5 * SAMPLING_RATE))
            mixed += line[begin : begin + num]
        return _at_level(mixed, level)

    return make


def _at_level(samples: Samples, level: float) -> Samples:
    power = float(np.mean(np.square(samples))) if len(samples) else 0.0
    return samples if power == 0.0 else samples * (decibels(level) / np.sqrt(power))


#: Decibels of the speech of the embedded corpus, about.
SPEECH = -25.0


def conditions(voices: Sequence[Sentence]) -> Mapping[str, Condition]:
    """Return the conditions by name; ``voices`` are what babble is made of."""
    faint, crowd = noise(-55.0), babble(voices, SPEECH - 20.0)
    return {
        "faint-noise": Condition(faint),
        "silence": Condition(silence),
        "hum": Condition(hum(-45.0)),
        "tones": Condition(tones(-35.0)),
        "babble": Condition(crowd),
        "hum-beneath": Condition(silence, beneath=hum(-45.0)),
        "tones-beneath": Condition(silence, beneath=tones(-45.0)),
        "babble-beneath": Condition(silence, beneath=crowd),
        "short-pauses": Condition(faint, shortest=0.1, longest=0.3),
        "long-pauses": Condition(faint, shortest=3.0, longest=12.0),
        "no-pauses": Condition(silence, shortest=0.0, longest=0.0),
        "silence-first": Condition(silence, first=30.0),
        "noise-first": Condition(faint, first=30.0),
        "loud": Condition(faint, gain=15.0),
        "quiet": Condition(faint, gain=-40.0),
        "60-minutes": Condition(faint, minutes=60.0),
    }


class Recording(NamedTuple):
    """A recording, its transcript, and the places of its sentences: first sample and one past."""

    samples: Samples
    text: str
    places: list[tuple[int, int]]


def joined(sentences: Sequence[Sentence], condition: Condition) -> Recording:
    """Make the recording of a condition, in samples of 16 bits."""
    draws = np.random.default_rng(SEED)
    parts = [condition.fill(round(condition.first * SAMPLING_RATE), draws)]
    at, texts, places = len(parts[0]), [], []
    remaining = list(range(len(sentences)))
    while remaining or at < 60.0 * condition.minutes * SAMPLING_RATE:
        if not remaining:
            remaining = draws.permutation(len(sentences)).tolist()
        sentence = sentences[remaining.pop(0)]
        seconds = draws.uniform(condition.shortest, condition.longest)
        pause = condition.fill(round(seconds * SAMPLING_RATE), draws)
        parts += [sentence.samples, pause]
        places.append((at, at + len(sentence.samples)))
        at += len(sentence.samples) + len(pause)
        texts.append(sentence.text)
    samples = np.concatenate(parts)
    if condition.beneath is not None:
        samples = samples + condition.beneath(len(samples), draws)
    whole = np.clip(np.rint(samples * decibels(condition.gain) * 32768.0), -32768, 32767)
    return Recording((whole / 32768.0).astype(np.float32), " ".join(texts), places)


def sentences_of(cuts: CutSet) -> list[Sentence]:
    """Return the sound and transcript of cuts."""
    return [
        Sentence(cut.load_audio()[0].astype(np.float64), cut.supervisions[0].text) for cut in cuts
    ]


def errors_one_by_one(model: Any, clips: Sequence[Samples], text: str) -> float:
    """Return the rate (percent) of clips that are recognised as utterances, whole as they are."""
    recognise, words = model.recognise_pieces(), []
    for clip in clips:
        ((best,),) = recognise([Piece(clip.astype(np.float32), 0.0)])
        words += [word.text for word in best.words]
    return count_errors([(text.split(), words)]).rate


def main() -> None:
    """Print a row for each condition."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--recipe", default="espeak")
    parser.add_argument("--exp-dir", type=Path, help="run; default: of the recipe")
    parser.add_argument("--epoch", type=int, help="default: the last one")
    parser.add_argument("--avg", type=int)
    parser.add_argument("--split", default="test")
    parser.add_argument("--sentences", type=int, default=300, help="the first so many of the split")
    parser.add_argument("--only", help="comma list of conditions")
    parser.add_argument("--window", type=float)
    parser.add_argument("--file", type=Path, help="a recording in place of the conditions")
    parser.add_argument("--reference", type=Path, help="its transcript")
    arguments = parser.parse_args()
    run = read(DECODE, ["--recipe", arguments.recipe])
    named = {name: getattr(arguments, name) for name in ("epoch", "avg", "window")}
    settings = {name: value for name, value in named.items() if value is not None}
    folder = arguments.exp_dir or Path("exp") / arguments.recipe
    model = zipasr.load_model(folder, **settings)
    data, splits = run[DataConfig], run.recipe
    cuts = load_cuts(data.manifest_dir, splits.corpus, [arguments.split])
    sentences = sentences_of(list(cuts))[: arguments.sentences]
    voices = sentences_of(list(load_cuts(data.manifest_dir, splits.corpus, ["dev"])))
    text = " ".join(sentence.text for sentence in sentences)
    alone = errors_one_by_one(model, [sentence.samples for sentence in sentences], text)
    print(f"{len(sentences)} sentences, {len(text.split())} words, one by one: {alone:.2f} %")
    print(
        f"{'condition':16} {'minutes':>7} {'alone %':>7} {'joined %':>8} {'ratio':>6}  "
        f"{'ins':>4} {'del':>4} {'sub':>4} {'RTF':>7}"
    )
    if arguments.file is not None:
        recording = Recording(
            load_sound(arguments.file).samples, arguments.reference.read_text(), []
        )
        show(arguments.file.stem, model, recording, alone)
        return
    table = conditions(voices)
    for name in arguments.only.split(",") if arguments.only else table:
        recording, base = joined(sentences, table[name]), alone
        if table[name].beneath is not None:
            clips = [recording.samples[begin:end] for begin, end in recording.places]
            base = errors_one_by_one(model, clips, recording.text)
        show(name, model, recording, base)


def show(name: str, model: Any, recording: Recording, alone: float) -> None:
    """Transcribe a recording and print its row."""
    begun = time.monotonic()
    found = model.transcribe((recording.samples, SAMPLING_RATE))
    spent, seconds = time.monotonic() - begun, len(recording.samples) / SAMPLING_RATE
    errors = count_errors([(recording.text.split(), found.text.split())])
    ratio = errors.rate / alone if alone else float("inf")
    print(
        f"{name:16} {seconds / 60:7.1f} {alone:7.2f} {errors.rate:8.2f} {ratio:6.2f}  "
        f"{errors.ins:4} {errors.dels:4} {errors.subs:4} "
        f"{spent / seconds:7.4f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
