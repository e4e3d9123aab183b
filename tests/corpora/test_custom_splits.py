import random
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.base.errors import DataError
from zipasr.corpora.custom.recipe_file import with_splits
from zipasr.corpora.custom.utterances import Utterance, purpose_of


def corpus(count: int, speakers: int = 0, per_file: int = 1) -> list[Utterance]:
    return [
        Utterance(
            id=f"u{i}",
            audio=Path(f"f{i // per_file}.wav"),
            text="x",
            speaker=f"s{i % speakers}" if speakers else None,
        )
        for i in range(count)
    ]


def shared(utterances: list[Utterance], seed: int = 1) -> dict[str, set[str]]:
    splits = defaultdict(set)
    for utterance in with_splits(utterances, lambda _: 1.0, seed)[0]:
        splits[str(utterance.split)].add(utterance.id)
    return splits


@settings(max_examples=40)
@given(st.integers(8, 120), st.integers(0, 40), st.integers(1, 3), st.integers(0, 3))
def test_every_utterance_is_in_one_split_and_no_speaker_or_file_in_two(
    count: int, speakers: int, per_file: int, seed: int
) -> None:
    utterances = corpus(count, speakers, per_file)
    splits = shared(utterances, seed)
    assert set(splits) == {"train", "dev", "test"}
    assert sum(map(len, splits.values())) == count
    assert len(splits["train"]) >= count / 4
    by_speaker = len({u.speaker for u in utterances}) >= 5
    for a, b in (("train", "dev"), ("train", "test"), ("dev", "test")):
        of = [
            {u.speaker if by_speaker else u.audio for u in utterances if u.id in splits[s]}
            for s in (a, b)
        ]
        assert not of[0] & of[1]


def test_copies_of_a_file_are_in_the_split_of_the_file() -> None:
    utterances = corpus(60)
    files = [u.audio for u in utterances]
    originals = {file: files[n % 20] for n, file in enumerate(files)}
    splits = defaultdict(set)
    for utterance in with_splits(utterances, lambda _: 1.0, 1, originals)[0]:
        splits[originals[utterance.audio]].add(utterance.split)
    assert len(splits) == 20
    assert all(len(found) == 1 for found in splits.values())
    # Where nothing is a copy, they change nothing.
    none = {file: file for file in files}
    assert with_splits(utterances, lambda _: 1.0, 1, none) == with_splits(
        utterances, lambda _: 1.0, 1
    )


def test_the_choice_depends_on_the_seed_and_the_names_alone() -> None:
    utterances = corpus(100)
    first = shared(utterances)
    mixed = utterances[:]
    random.Random(0).shuffle(mixed)
    assert shared(mixed) == first
    assert shared(utterances, seed=2) != first
    # Of words there are too few: a fifth of what is there.
    assert len(first["dev"]) == 20
    assert len(first["test"]) == 16


def test_splits_that_are_given_stay(tmp_path: Path) -> None:
    given_ones = [replace(u, split="Test_Clean" if i < 9 else "train") for i, u in
                  enumerate(corpus(40))]  # fmt: skip
    splits = shared(given_ones)
    assert splits["test-clean"] == {f"u{i}" for i in range(9)}
    assert set(splits) == {"train", "dev", "test-clean"}
    assert splits["dev"]


def test_names_tell_the_purpose() -> None:
    names = {"train-clean-100": "train", "dev": "valid", "validation": "valid", "eval2": "test"}
    names |= {"test_other": "test", "TEST": "test", "trash": None, "other": None, "tr": "train"}
    names |= {"train_dev": "valid", "train_nodev": "train", "train-other": "train"}
    assert {name: purpose_of(name) for name in names} == names


@pytest.mark.parametrize(
    ("utterances", "message"),
    [
        (corpus(2), "1 utterances of 1 files are too few"),
        ([replace(u, split="other") for u in corpus(9)], "split 'other' is neither train nor dev"),
        ([replace(u, split="test") for u in corpus(9)], "no utterance in a split called train"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(utterances: list[Utterance], message: str) -> None:
    with pytest.raises(DataError, match=message):
        with_splits(utterances, lambda _: 1.0, 1)


@settings(max_examples=30)
@given(st.integers(30, 600), st.integers(1, 20))
def test_small_corpora_give_a_tenth_or_three_hundred_words(count: int, words: int) -> None:
    """Each of dev and test: a tenth, more for want of words, a fifth at most."""
    utterances = [replace(u, text=" ".join(["x"] * words)) for u in corpus(count)]
    pool = count
    for name in ("dev", "test"):
        size = len(shared(utterances)[name])
        assert size <= 0.2 * pool + 1e-6
        if 0.2 * pool * words >= 300 + words:
            assert size * words >= 300
            assert size >= 0.1 * pool - 1
        else:
            assert size >= 0.2 * pool - 1
        pool -= size


def test_large_corpora_give_a_twentieth() -> None:
    utterances = corpus(1000)
    shared_out, told = with_splits(utterances, lambda _: 60.0, 1)
    counts = [sum(u.split == name for u in shared_out) for name in ("dev", "test")]
    assert counts == [50, 48]
    assert told[0].startswith("split dev: made of 50 utterances")
