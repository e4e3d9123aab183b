"""The files of words in a language folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.text.test_tokenizer import TEXTS
from zipasr.text.bpe import BpeConfig, train_bpe
from zipasr.text.lexicon import disambiguated, lang_files, lexicon_text, spell, words_text
from zipasr.text.tokenizer import Tokenizer

WORDS = sorted({word for text in TEXTS for word in text.split()})


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder: Path = tmp_path_factory.mktemp("lang")
    return train_bpe(TEXTS, BpeConfig(lang_dir=folder, vocab_size=60))


def test_the_table_of_words() -> None:
    assert words_text(["CAT", "A", "CAT", "<s>"]).splitlines() == [
        "<eps> 0",
        "!SIL 1",
        "<SPOKEN_NOISE> 2",
        "<UNK> 3",
        "A 4",
        "CAT 5",
        "#0 6",
        "<s> 7",
        "</s> 8",
    ]


def test_every_word_is_spelt_as_the_tokenizer_spells_it(tokenizer: Tokenizer) -> None:
    spellings = spell([*WORDS, "!SIL", "<UNK>", "#0"], tokenizer)
    assert [word for word, _ in spellings] == [*WORDS, "<UNK>"]
    for word, pieces in spellings[:-1]:
        assert "".join(pieces) == f"▁{word}"
        assert set(pieces) <= set(tokenizer.pieces())
    assert spellings[-1] == ("<UNK>", ("▁", "<unk>"))


def test_a_character_that_is_not_known_shows(tokenizer: Tokenizer) -> None:
    (word, pieces), _ = spell(["Ж"], tokenizer)
    assert word == "Ж"
    assert pieces[-1] == "<unk>"


def test_the_files_name_each_word_on_a_line(tokenizer: Tokenizer) -> None:
    files = lang_files(WORDS, tokenizer)
    assert sorted(files) == ["lexicon.txt", "lexicon_disambig.txt", "words.txt"]
    lines = files["lexicon.txt"].splitlines()
    assert len(lines) == len(WORDS) + 1
    assert lines[-1] == "<UNK> ▁ <unk>"
    for plain, marked in zip(lines, files["lexicon_disambig.txt"].splitlines(), strict=True):
        assert marked.split("#")[0].strip() == plain


def test_homophones_and_beginnings_are_marked() -> None:
    rows = [("A", ["x"]), ("B", ["x", "y"]), ("C", ["x", "y"]), ("D", ["z"]), ("E", ["x"])]
    assert lexicon_text(disambiguated(rows)) == "A x #1\nB x y #1\nC x y #2\nD z\nE x #2\n"


@given(st.lists(st.lists(st.sampled_from("xyz"), min_size=1, max_size=4), max_size=12))
def test_no_spelling_begins_another_afterwards(sequences: list[list[str]]) -> None:
    rows = [(f"W{number}", pieces) for number, pieces in enumerate(sequences)]
    marked = [tuple(pieces) for _, pieces in disambiguated(rows)]
    assert len(set(marked)) == len(marked)
    assert not any(one != other and other[: len(one)] == one for one in marked for other in marked)
    assert [tuple(p for p in pieces if p[0] != "#") for pieces in marked] == [
        tuple(pieces) for pieces in sequences
    ]
