"""Grammar: what is refused, what is covered, what the expansion promises."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zipasr.base.errors import DataError
from zipasr.corpora.espeak.text import Grammar, Turns, distinct_sentences, load_grammar

SMALL = Grammar(
    {"greeting": ("good {part} {name}",)}, {"part": ("day", "night"), "name": ("a", "b")}
)
RECIPE = Path("egs/espeak/grammar.toml")


def every_sentence(grammar: Grammar) -> set[str]:
    """All sentences, by replacing the first slot in every way until none is left."""
    open_forms = [form for forms in grammar.sentences.values() for form in forms]
    closed = set()
    while open_forms:
        form = open_forms.pop()
        if "{" not in form:
            closed.add(form.upper())
            continue
        before, rest = form.split("{", 1)
        slot, after = rest.split("}", 1)
        open_forms += [before + way + after for way in grammar.slots[slot]]
    return closed


def test_expansion_finds_every_sentence_of_a_small_grammar() -> None:
    sentences = distinct_sentences(SMALL, 4, seed=0)
    assert set(sentences) == every_sentence(SMALL)
    assert len(sentences) == 4


def test_asking_for_more_sentences_than_there_are_is_refused() -> None:
    with pytest.raises(DataError, match=r"hardly more than 4 sentences, 5 are asked for"):
        distinct_sentences(SMALL, 5, seed=0)


@given(seed=st.integers(0, 2**32), count=st.integers(1, 60))
def test_fewer_sentences_are_the_first_of_more(seed: int, count: int) -> None:
    grammar = load_grammar(RECIPE)
    more = distinct_sentences(grammar, 80, seed)
    assert distinct_sentences(grammar, count, seed) == more[:count]
    assert len(set(more)) == 80


@given(seed=st.integers(0, 2**32), num_draws=st.integers(0, 50))
def test_alternatives_take_turns(seed: int, num_draws: int) -> None:
    turns = Turns(Random(seed))
    counts = Counter({"x": 0, "y": 0, "z": 0})
    counts.update(turns.draw("slot", ("x", "y", "z")) for _ in range(num_draws))
    assert max(counts.values()) - min(counts.values()) <= 1


def test_vocabulary_counts_words_attached_to_a_slot() -> None:
    grammar = Grammar({"t": ("{name}'s dog",)}, {"name": ("ben", "anna")})
    assert grammar.vocabulary() >= {"BEN'S", "ANNA'S", "DOG"}


def test_vocabulary_is_that_of_every_sentence() -> None:
    said = {word for sentence in every_sentence(SMALL) for word in sentence.split()}
    assert SMALL.vocabulary() == said


@pytest.mark.parametrize(
    ("sentences", "slots", "message"),
    [
        ({}, {}, "no topic"),
        ({"t": ("{nmae} left",)}, {"name": ("a",)}, "unknown slot 'nmae' did you mean 'name'"),
        ({"t": ("hello",)}, {"name": ("a",)}, "slot 'name' is used nowhere"),
        ({"t": ("{a}",)}, {"a": ("{b}",), "b": ("x", "{a} y")}, "contains itself: a > b > a"),
        ({"t": ("hello 7",)}, {}, "other characters"),
        ({"t": ("hello {",)}, {}, "other characters"),
    ],
)
def test_a_grammar_without_meaning_is_refused(
    sentences: dict[str, tuple[str, ...]], slots: dict[str, tuple[str, ...]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Grammar(sentences, slots)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sentences]\nt = 'x'\n", r"grammar.toml: 't' under \[sentences\] is not a list"),
        ("sentences = 3\n", "is not a table"),
        ("[sentences\n", "not valid TOML"),
    ],
)
def test_an_unreadable_grammar_names_its_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "grammar.toml"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        load_grammar(path)


def test_a_missing_grammar_names_its_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.toml does not exist"):
        load_grammar(tmp_path / "nowhere.toml")
