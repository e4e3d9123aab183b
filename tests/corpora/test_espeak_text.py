"""The plan of the embedded corpus: pure, disjoint, and as rich as promised."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from zipasr.base.errors import DataError
from zipasr.corpora.config import EspeakConfig
from zipasr.corpora.espeak.text import (
    SPLITS,
    PlannedUtterance,
    Voices,
    checksum,
    load_grammar,
    load_voices,
    make_plan,
    plan_table,
)

RECIPE = Path("egs/espeak")
GRAMMAR = load_grammar(RECIPE / "grammar.toml")
VOICES = load_voices(RECIPE / "voices.toml")


@pytest.fixture(scope="module")
def plan() -> list[PlannedUtterance]:
    return make_plan(EspeakConfig(), GRAMMAR, VOICES)


def of(plan: list[PlannedUtterance], split: str) -> list[PlannedUtterance]:
    return [utterance for utterance in plan if utterance.split == split]


def test_sizes_are_those_asked_for(plan: list[PlannedUtterance]) -> None:
    assert {split: len(of(plan, split)) for split in SPLITS} == {
        "train": 3600,
        "dev": 150,
        "test": 300,
    }


def test_no_sentence_is_said_twice(plan: list[PlannedUtterance]) -> None:
    assert len({utterance.text for utterance in plan}) == len(plan)


def test_no_voice_is_in_two_splits(plan: list[PlannedUtterance]) -> None:
    voices = {split: {utterance.variant for utterance in of(plan, split)} for split in SPLITS}
    assert {split: len(names) for split, names in voices.items()} == {
        "train": 64,
        "dev": 6,
        "test": 12,
    }
    assert len(set.union(*voices.values())) == 64 + 6 + 12
    assert len({utterance.accent for utterance in of(plan, "test")}) == 8


def test_texts_are_capital_words_of_the_grammar(plan: list[PlannedUtterance]) -> None:
    vocabulary = GRAMMAR.vocabulary()
    for utterance in plan:
        assert re.fullmatch(r"[A-Z']+( [A-Z']+)*", utterance.text)
        assert set(utterance.text.split()) <= vocabulary


def test_every_word_can_be_learnt(plan: list[PlannedUtterance]) -> None:
    counts = Counter(word for utterance in of(plan, "train") for word in utterance.text.split())
    assert len(counts) >= 200
    assert set(counts) == GRAMMAR.vocabulary()
    assert min(counts.values()) >= 15


def test_values_stay_in_their_ranges(plan: list[PlannedUtterance]) -> None:
    for utterance in plan:
        assert 145 <= utterance.rate <= 204
        assert 35 <= utterance.pitch <= 65
        assert 15 <= utterance.snr_db <= 40
        assert -32 <= utterance.level_dbfs <= -20
    assert {utterance.noise for utterance in plan} == {"white", "low"}


def test_only_training_voices_are_resized(plan: list[PlannedUtterance]) -> None:
    sizes = {utterance.size for utterance in of(plan, "train")}
    assert (min(sizes), max(sizes)) == (0.84, 1.3)
    assert len(sizes) == 24  # steps of 0.02: each size needs filters of its own
    assert {u.size for u in plan if u.split != "train"} == {1.0}


def test_the_default_plan_is_the_recorded_one(plan: list[PlannedUtterance]) -> None:
    # Published results belong to this plan: on every machine and Python, until it is changed.
    assert checksum(plan) == "afdd86540048e3c3"


def test_ids_are_unique_and_change_with_the_plan(plan: list[PlannedUtterance]) -> None:
    other = make_plan(EspeakConfig(espeak_seed=2), GRAMMAR, VOICES)
    assert len({utterance.id for utterance in plan}) == len(plan)
    assert not {utterance.id for utterance in plan} & {utterance.id for utterance in other}
    assert checksum(plan) != checksum(other)


def test_more_training_speech_leaves_the_rest_as_it_is(plan: list[PlannedUtterance]) -> None:
    larger = make_plan(EspeakConfig(num_train=3700), GRAMMAR, VOICES)
    assert of(larger, "test") == of(plan, "test")
    assert of(larger, "dev") == of(plan, "dev")
    assert of(larger, "train")[:3600] == of(plan, "train")


def test_the_table_has_a_line_for_each_utterance(plan: list[PlannedUtterance]) -> None:
    names, *rows = plan_table(plan[:3]).splitlines()
    assert names.split("\t")[:4] == ["id", "split", "number", "text"]
    assert [row.split("\t")[0] for row in rows] == [utterance.id for utterance in plan[:3]]
    assert all(len(row.split("\t")) == len(names.split("\t")) for row in rows)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_train": 0}, "--num-train must be an integer from 1 on, not 0"),
        ({"num_dev": "ten"}, "--num-dev"),
        ({"espeak_seed": -1}, "--espeak-seed"),
        ({"speech_rate": (200, 100)}, "--speech-rate must be two numbers from 80 to 450"),
        ({"speech_pitch": (0, 100)}, "--speech-pitch"),
        ({"speech_rate": (150.5, 160)}, "--speech-rate"),
        ({"train_voice_size": (0.1, 1.0)}, "--train-voice-size"),
        ({"noise_snr": 20.0}, "--noise-snr"),
        ({"audio_level": (-20.0,)}, "--audio-level"),
    ],
)
def test_impossible_values_are_refused_by_their_flag(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EspeakConfig(**values)


def test_a_voice_in_two_splits_is_refused() -> None:
    with pytest.raises(ValueError, match="voice 'f1' is listed twice"):
        Voices(("en",), {"train": ("f1", "f2"), "dev": ("f3",), "test": ("f1",)})


def test_a_split_without_voices_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "voices.toml"
    path.write_text("accents = ['en']\n[voices]\ntrain = ['f1']\ndev = ['f2']\n")
    with pytest.raises(DataError, match=r"voices.toml: needs accents, and voices for each of"):
        load_voices(path)
