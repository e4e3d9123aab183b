"""Event times of the eSpeak NG synthesiser: when each word of the embedded corpus begins and ends.

Run from the repository root, where the corpus is made (egs/espeak/run.sh, stage 1 of prepare.sh):

    python -m benchmarks.espeak_events --splits dev,test > events.jsonl

Each utterance is said once more, with the order it was made from, and the library tells where in
the sound its words and phonemes are. A word begins with its event, and ends with that of the next
one or with the first phoneme that is a pause. Short words that the synthesiser says together with
the word before ("in the") have no event of their own: the border between the two is ``null``. An
utterance whose sound is not the file, sample by sample, ends the program.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from zipasr.corpora.espeak import voice
from zipasr.corpora.espeak.espeak_corpus import EspeakCorpus, require_espeak
from zipasr.corpora.espeak.text import PlannedUtterance

# From espeak-ng/speak_lib.h: espeakINITIALIZE_PHONEME_EVENTS, and the types of events.
PHONEME_EVENTS = 1
LIST_TERMINATED, WORD, END, PHONEME = 0, 1, 5, 7
# Names of phonemes that are silence begin so.
SILENCE = b"_"


class RawEvent(ctypes.Structure):
    """``espeak_EVENT``."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    )


class Event(NamedTuple):
    """An event: its type, the character (from 1) that it belongs to, its sample, its name."""

    type: int
    character: int
    sample: int
    name: bytes


class TellingSpeaker(voice.Speaker):
    """A speaker that keeps what the library tells of words and phonemes."""

    def __init__(self) -> None:
        super().__init__(PHONEME_EVENTS)
        self.events: list[Event] = []

    def _receive(self, samples: Any, num_samples: int, events: int | None) -> int:
        told = ctypes.cast(events, ctypes.POINTER(RawEvent)) if events else None
        for n in range(sys.maxsize if told else 0):
            if told[n].type == LIST_TERMINATED:
                break
            one = told[n]
            self.events.append(Event(one.type, one.text_position, one.sample, one.name))
        return super()._receive(samples, num_samples, None)


@dataclass(frozen=True)
class WordEvents:
    """The words of an utterance with the seconds at which they begin and end, where known."""

    id: str
    split: str
    words: Sequence[str]
    starts: Sequence[float | None]
    ends: Sequence[float | None]


def main(argv: Sequence[str] | None = None) -> None:
    """Say the utterances, and write a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--splits", default="dev,test", help="comma list of splits")
    parser.add_argument("--audio-dir", type=Path, default=Path("data/espeak/audio"))
    args = parser.parse_args(argv)
    require_espeak()
    for one in events_of(args.audio_dir, args.splits.split(",")):
        print(json.dumps(one.__dict__))


def events_of(audio_dir: Path, splits: Sequence[str]) -> Iterator[WordEvents]:
    """Say the utterances of some splits, each in a process of its own."""
    corpus = EspeakCorpus.from_settings(Path("egs/espeak"), audio_dir, {})
    speaker = TellingSpeaker()
    for utterance in corpus.plan():
        if utterance.split in splits:
            yield _in_child(speaker, corpus, utterance)


def _in_child(
    speaker: TellingSpeaker, corpus: EspeakCorpus, utterance: PlannedUtterance
) -> WordEvents:
    order = corpus.order(utterance)
    rate = voice.played_rate(speaker.rate, order)
    voice.kernel(rate, order.sample_rate)  # computed once here, inherited by every child
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(writer, "w") as pipe:
            sound = voice.recording_of(speaker.say(order), speaker.rate, order)
            stored, _ = soundfile.read(order.path, dtype="int16")
            starts, ends = borders(utterance.text, speaker.events)
            same = np.array_equal(sound, stored)
            json.dump([same, *([_second(n, rate) for n in some] for some in (starts, ends))], pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        same, starts, ends = json.load(pipe)
    os.waitpid(child, 0)
    if not same:
        raise SystemExit(f"{order.path} is not what the synthesiser says now")
    return WordEvents(utterance.id, utterance.split, utterance.text.split(), starts, ends)


def _second(sample: int | None, rate: int) -> float | None:
    return None if sample is None else round(sample / rate + voice.MARGIN, 4)


def borders(text: str, events: Sequence[Event]) -> tuple[list[int | None], list[int | None]]:
    """Return for each word of a text the samples at which it begins and ends, where known."""
    words = text.split()
    places = np.cumsum([1, *(len(word) + 1 for word in words)])
    starts: list[int | None] = [None] * len(words)
    ends = starts.copy()
    current: int | None = None
    for one in events:
        is_pause = one.type == PHONEME and one.name.startswith(SILENCE)
        if current is not None and ends[current] is None and (is_pause or one.type in (WORD, END)):
            ends[current] = one.sample
        if one.type == WORD:
            current = int(np.searchsorted(places, one.character, side="right")) - 1
            starts[current] = one.sample
        elif one.type == PHONEME and not is_pause and current is not None:
            ends[current] = None  # the pause was inside the word
    for n in reversed(range(1, len(words))):
        if starts[n] is None:  # said together with the word before
            ends[n], ends[n - 1] = ends[n - 1], None
    return starts, ends


if __name__ == "__main__":
    main()
