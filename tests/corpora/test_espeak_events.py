"""Event times of the synthesiser, which word times are measured against."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from benchmarks.espeak_events import END, PHONEME, WORD, Event, borders, events_of
from tests import tones
from zipasr.audio.loading import load_sound
from zipasr.audio.speech_activity import pauses_in
from zipasr.corpora.espeak.espeak_corpus import EspeakCorpus, synthesise


def event(kind: int, character: int, sample: int, name: bytes = b"") -> Event:
    return Event(kind, character, sample, name)


def test_words_end_with_the_next_one_or_with_a_pause() -> None:
    text = "GO IN THE GARDEN NOW"
    told = [
        event(WORD, 1, 0),
        event(PHONEME, 1, 10, b"g"),
        event(PHONEME, 1, 20, b"_"),  # a closure inside the word
        event(PHONEME, 1, 25, b"oU"),
        event(WORD, 4, 100),
        event(PHONEME, 4, 100, b"I"),
        event(WORD, 11, 300),
        event(PHONEME, 11, 310, b"g"),
        event(PHONEME, 11, 500, b"_:"),
        event(PHONEME, 11, 520, b"_:"),
        event(WORD, 18, 600),
        event(PHONEME, 18, 600, b"n"),
        event(END, 20, 800),
    ]
    starts, ends = borders(text, told)
    # THE is said together with IN: nobody tells where the one ends and the other begins.
    assert starts == [0, 100, None, 300, 600]
    assert ends == [100, None, 300, 500, 800]


def test_events_are_those_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("espeakng_loader") is None or not hasattr(os, "fork"):
        pytest.skip("needs eSpeak NG (espeakng-loader) and a system that forks")
    monkeypatch.chdir(tones.ROOT)
    corpus = EspeakCorpus.from_settings(Path("egs/espeak"), tmp_path, {})
    few = [one for one in corpus.plan() if one.split == "dev"][:2]
    synthesise([corpus.order(one) for one in few], 1)
    told = events_of(tmp_path, ["dev"])
    for utterance, found in zip(few, told, strict=False):
        sound = load_sound(corpus.audio_path(utterance))
        known = [one for one in found.starts if one is not None]
        assert found.words == utterance.text.split()
        assert known == sorted(known)
        assert found.starts[0] == pytest.approx(0.1)
        # The speech ends where it gets quiet.
        end = found.ends[-1]
        assert end is not None
        assert end == pytest.approx(pauses_in(sound.samples)[-1].start, abs=0.15)
        for start, stop in zip(found.starts, found.ends, strict=True):
            assert start is None or stop is None or start < stop
    (tmp_path / "dev" / f"{few[0].id}.flac").write_bytes(
        (tmp_path / "dev" / f"{few[1].id}.flac").read_bytes()
    )
    with pytest.raises(SystemExit, match="is not what the synthesiser says now"):
        next(iter(events_of(tmp_path, ["dev"])))
